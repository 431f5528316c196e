"""A draft model that follows requests: right, wrong, half right, behind, without room, on a device that fails."""

import logging
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovgen.config import EngineConfig, SamplingParams
from ovgen.engine.draft_model import DraftModel
from ovgen.engine.request import NoText, Request, make_request
from ovgen.errors import ConfigError, DeviceError
from ovgen.graph.passes import select_rows, to_paged
from ovgen.loader import load
from ovgen.resources import bundled_model
from ovgen.runtime.paged import PagedRunner
from ovgen.runtime.runner import Chunk, Runner
from ovgen.runtime.stateful import StatefulRunner
from ovgen.runtime.windows import attention_windows
from tests.conftest import F32
from tests.engine.fake import VOCAB, FakeRunner, continuation


class OwnCacheRunner(FakeRunner):
    """Keeps the cache by sequence, as plugins with a state do, and notices whoever does not tell what was dropped."""

    shares_blocks = False

    def __init__(self) -> None:
        super().__init__()
        self.cached: dict[int, list[int]] = {}

    def _compute(self, chunks: Sequence[Chunk]) -> list[list[int]]:
        rows = []
        for chunk in chunks:
            cached = self.cached.setdefault(chunk.sequence, [])
            assert len(cached) == chunk.past, "the sequence was not trimmed"
            cached += chunk.token_ids
            rows += [cached[: len(cached) - chunk.rows + 1 + i] for i in range(chunk.rows)]
        return rows

    def trim(self, sequence: int, length: int) -> None:
        del self.cached[sequence][length:]

    def release(self, sequence: int) -> None:
        self.cached.pop(sequence, None)


def make_model(runner: FakeRunner | None = None, blocks: int = 100, tokens: int = 16, context: int = 200) -> DraftModel:
    config = EngineConfig(cache_size=blocks / 1024, max_num_batched_tokens=tokens, max_num_seqs=8)  # 1 MiB a block
    return DraftModel(runner or FakeRunner(), config, context, VOCAB, 0.1)


def make(prompt: Sequence[int]) -> Request:
    return make_request(prompt, SamplingParams(), NoText, 200, frozenset())


def steps(model: DraftModel) -> list[list[list[int]]]:
    """The tokens of each chunk of each step so far."""
    runner: Any = model.cache.runner
    return [[list(chunk.token_ids) for chunk in step] for step in runner.steps]


@pytest.mark.parametrize("runner", [FakeRunner, OwnCacheRunner])
def test_a_guess_that_was_right_leaves_its_last_token_and_the_one_behind_it_to_compute(
    runner: type[FakeRunner],
) -> None:
    model, request = make_model(runner()), make([1, 2, 3])
    a, b, c, d, e = continuation([1, 2, 3], 5)
    assert model.propose({request: 3}) == {request: [a, b, c]}
    assert steps(model) == [[[1, 2, 3]], [[a]], [[b]]]
    request.sequence.tokens += [a, b, c, d]
    assert model.propose({request: 1}) == {request: [e]}
    assert steps(model)[3:] == [[[c, d]]]


@pytest.mark.parametrize("runner", [FakeRunner, OwnCacheRunner])
def test_of_a_guess_that_was_half_right_the_wrong_half_is_dropped(runner: type[FakeRunner]) -> None:
    model, request = make_model(runner()), make([1, 2, 3])
    a, *_ = continuation([1, 2, 3], 3)
    model.propose({request: 3})
    request.sequence.tokens += [a, 0]
    assert model.propose({request: 2}) == {request: continuation([1, 2, 3, a, 0], 2)}
    assert steps(model)[3] == [[0]]


@pytest.mark.parametrize("runner", [FakeRunner, OwnCacheRunner])
def test_of_a_guess_that_was_wrong_nothing_stays(runner: type[FakeRunner]) -> None:
    model, request = make_model(runner()), make([1, 2, 3])
    model.propose({request: 3})
    request.sequence.tokens += [0]
    assert model.propose({request: 1}) == {request: continuation([1, 2, 3, 0], 1)}
    assert steps(model)[3:] == [[[0]]]


def test_all_requests_guess_together() -> None:
    model, first, second = make_model(), make([1, 2, 3]), make([4, 5])
    (a, b), (c,) = continuation([1, 2, 3], 2), continuation([4, 5], 1)
    assert model.propose({first: 2, second: 1}) == {first: [a, b], second: [c]}
    assert steps(model) == [[[4, 5], [1, 2, 3]], [[a]]]


def test_a_long_prompt_takes_several_calls_and_holds_nobody_up() -> None:
    model, long, short = make_model(tokens=8), make(range(20)), make([4, 5])
    assert model.propose({long: 2, short: 2}) == {short: continuation([4, 5], 2)}
    assert [sum(map(len, step)) for step in steps(model)] == [8, 1]
    assert model.propose({long: 2}) == {}
    assert model.propose({long: 2}) == {long: continuation(range(20), 2)}
    assert [sum(map(len, step)) for step in steps(model)] == [8, 1, 8, 6, 1]


def test_a_prompt_that_another_request_began_with_is_not_computed_again() -> None:
    model = make_model()
    model.propose({make(range(10)): 1})
    model.propose({make([*range(10), 50]): 1})
    assert steps(model) == [[list(range(10))], [[8, 9, 50]]]  # two blocks of four are there


def test_without_room_there_is_no_guess_and_with_room_again_there_is() -> None:
    model, first, second = make_model(blocks=3), make(range(7)), make([50] * 5)
    assert set(model.propose({first: 2, second: 2})) == {second}  # it is least behind, and takes two blocks
    model.forget(second)
    assert model.propose({first: 2}) == {first: continuation(range(7), 2)}
    model.forget(first)
    assert model.cache.pool.used == 0


def test_at_the_end_of_the_draft_models_context_guesses_become_fewer_and_then_none() -> None:
    model, request = make_model(context=10), make(range(8))
    assert model.propose({request: 5}) == {request: continuation(range(8), 3)}  # the last is not computed
    request.sequence.tokens += [0, 0]
    assert model.propose({request: 5}) == {request: continuation([*range(8), 0, 0], 1)}
    request.sequence.tokens += [0]
    assert model.propose({request: 5}) == {}


def test_a_sequence_that_goes_on_with_a_part_of_its_tokens_is_followed() -> None:
    model, request = make_model(), make(range(12))
    model.propose({request: 3})
    kept = [0, 1, 8, 9, 10, 11]
    request.sequence.tokens[:] = kept
    assert model.propose({request: 2}) == {request: continuation(kept, 2)}


@pytest.mark.parametrize("method", ["start", "wait", "resize"])
def test_a_device_that_fails_ends_the_guessing_with_one_warning(method: str, caplog: pytest.LogCaptureFixture) -> None:
    runner = FakeRunner()
    model, request = make_model(runner), make([1, 2, 3])
    runner.fail[method] = DeviceError("out of order")
    with caplog.at_level(logging.WARNING, "ovgen"):
        assert model.propose({request: 3}) == {}
        assert model.propose({request: 3}) == {}
    assert [record.message for record in caplog.records] == ["no more guesses of the draft model: out of order"]
    model.forget(request)
    assert model.cache.pool.used == 0


def test_after_an_interrupt_the_guesses_are_right_again() -> None:
    runner = FakeRunner()
    model, request = make_model(runner), make([1, 2, 3])
    runner.fail["wait"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        model.propose({request: 3})
    assert model.propose({request: 3}) == {request: continuation([1, 2, 3], 3)}


def test_vocabularies_that_differ_are_refused() -> None:
    with pytest.raises(ConfigError, match=f"vocabulary of {VOCAB} tokens and the model one of 98"):
        DraftModel(FakeRunner(), EngineConfig(), 100, 98, 0.1)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_whatever_becomes_of_the_requests_guesses_are_the_models_and_blocks_come_back(data: st.DataObject) -> None:
    own = data.draw(st.booleans())
    model = make_model(
        OwnCacheRunner() if own else FakeRunner(), data.draw(st.integers(4, 30)), data.draw(st.integers(8, 20)), 40
    )
    requests = [make(data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=15))) for _ in range(4)]
    for _ in range(data.draw(st.integers(1, 12))):
        chosen = data.draw(st.lists(st.sampled_from(requests), unique=True))
        drafts = model.propose({request: data.draw(st.integers(1, 4)) for request in chosen})
        for request, draft in drafts.items():
            assert draft == continuation(request.sequence.tokens, len(draft))
        model.cache.pool.check()
        for request in chosen:
            right = drafts.get(request, [])[: data.draw(st.integers(0, 4))]
            request.sequence.tokens += [*right, data.draw(st.integers(0, 1))]
        if data.draw(st.booleans()):
            model.forget(requests[0])
    for request in requests:
        model.forget(request)
    assert model.cache.pool.used == 0


# The bundled pair


STORY = "<|bos|>Once upon a time, there was a little fox named Lily. She"


def runner_of(name: str, form: str) -> Runner:
    model = load(bundled_model(name)).build()
    if form == "stateful":
        select_rows(model, axis=1)
        return StatefulRunner(model, "CPU", F32)
    return PagedRunner(to_paged(model, attention_windows(model)), "CPU", F32)


def greedy(runner: Runner, tokens: Sequence[int], count: int) -> list[int]:
    """The likeliest continuation, computed from the beginning for each token."""
    runner.resize(64)
    text = list(tokens)
    for number in range(count):
        runner.start([Chunk(number, text, 0, range(64), 1)])
        text.append(int(runner.wait()[0].argmax()))
        runner.release(number)
    return text[len(tokens) :]


@pytest.mark.parametrize("form", ["paged", "stateful"])
def test_the_bundled_draft_model_halves_the_passes_of_a_story(form: str) -> None:
    tokenizer = load(bundled_model()).tokenizer
    assert tokenizer is not None
    prompt = tokenizer.encode(STORY)
    story = greedy(runner_of("storyteller", "paged"), prompt, 60)
    runner = runner_of("storyteller-draft", form)
    model = DraftModel(runner, EngineConfig(), 1024, runner.vocab_size, 0.1)
    request, twin, passes = make(prompt), runner_of("storyteller-draft", "paged"), 0
    while (done := len(request.sequence.tokens) - len(prompt)) < len(story):
        draft = model.propose({request: 4})[request]
        assert draft == greedy(twin, request.sequence.tokens, 4)
        ahead = story[done:]
        right = next((i for i, (a, b) in enumerate(zip(draft, ahead, strict=False)) if a != b), min(4, len(ahead)))
        request.sequence.tokens += ahead[: right + 1]
        passes += 1
    assert passes < len(story) / 2
