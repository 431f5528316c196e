"""Beam search in the engine gives what the search gives alone, whatever the company and the room."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ovgen.config import EngineConfig, SamplingParams
from ovgen.engine.engine import Engine
from ovgen.engine.group import Group
from ovgen.errors import ContextLengthError, RequestError
from ovgen.sampling import SamplerState
from ovgen.sampling.beams import BeamSearch
from tests.engine.fake import VOCAB, FakeRunner, NoText
from tests.engine.test_loop import finish, generated, submit

CONTEXT = 60
EOS = frozenset({5, 6})


def logits_after(tokens: Sequence[int]) -> NDArray[np.float32]:
    """Logits ``(vocab,)`` that every token has its part in; end-of-sequence is likely enough to happen."""
    state = 7
    for token in tokens:
        state = (state * 31 + token + 1) % 1_000_003
    row = np.random.default_rng(state).normal(0, 2, VOCAB).astype(np.float32)
    row[list(EOS)] += 2
    return row


class BeamRunner(FakeRunner):
    """A fake model with an opinion on every token."""

    def wait(self) -> NDArray[np.float32]:
        if not self._flying:
            return np.zeros((0, VOCAB), np.float32)
        rows = self._flying.popleft().rows()
        return np.array([logits_after(tokens) for tokens in rows], np.float32).reshape(-1, VOCAB)


def make_engine(blocks: int = 1000, tokens: int = 64, seqs: int = 16, depth: int = 1) -> Engine:
    config = EngineConfig(max_num_batched_tokens=tokens, max_num_seqs=seqs, cache_size=blocks / 1024)
    return Engine(BeamRunner(depth), config, CONTEXT, EOS)


def searched(prompt: Sequence[int], **options: Any) -> list[tuple[tuple[int, ...], float]]:
    """The search alone, with a state and a row for each beam."""
    params = SamplingParams(**options)
    most = min(CONTEXT - len(prompt), params.max_new_tokens or CONTEXT)
    search = BeamSearch(params, EOS, most)
    beams = [(list(prompt), SamplerState(params, prompt, EOS, (), most))]
    while not search.done:
        candidates = [search.candidates(logits_after(tokens), state) for tokens, state in beams]
        heads = []
        for number, token in search.step(candidates):
            tokens, state = beams[number]
            twin = state.fork()
            twin.append(token)
            heads.append(([*tokens, token], twin))
        beams = heads
    return [(text.token_ids, text.score) for text in search.best(params.n)]


def found(engine: Engine, *prompts: Sequence[int], **options: Any) -> list[list[tuple[tuple[int, ...], float]]]:
    groups = [Group(engine, engine.prepare(prompt, SamplingParams(**options), NoText)) for prompt in prompts]
    for group in groups:
        group.submit()
    outputs = [group.output(list(group.drive())) for group in groups]
    return [[(text.token_ids, text.score or 0.0) for text in output.outputs] for output in outputs]


def greedy(prompt: Sequence[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(logits_after(tokens).argmax()))
    return tokens[len(prompt) :]


def assert_all_is_free(engine: Engine) -> None:
    engine.drain()
    assert engine.pool.used == 0
    engine.pool.check()
    assert not engine.scheduler.running
    assert not engine.scheduler.waiting


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 2},
        {"num_beams": 4, "n": 3},
        {"num_beams": 4, "n": 4, "length_penalty": 2.0, "early_stopping": "never"},
        {"num_beams": 3, "early_stopping": True},
        {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 1.0, "n": 6},
        {"num_beams": 4, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
        {"num_beams": 8, "n": 8, "max_new_tokens": 1},
    ],
)
def test_the_engine_finds_what_the_search_finds(options: dict[str, Any], depth: int) -> None:
    options = {"max_new_tokens": 12, **options}
    for prompt in ([1, 2, 3], [4], [9] * 8):
        engine = make_engine(depth=depth)
        (texts,) = found(engine, prompt, **options)
        assert_all_is_free(engine)
        expected = searched(prompt, **options)
        assert [tokens for tokens, _ in texts] == [tokens for tokens, _ in expected]
        assert [score for _, score in texts] == pytest.approx([score for _, score in expected], abs=1e-5)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_little_room_and_company_change_nothing(data: st.DataObject) -> None:
    beams = data.draw(st.sampled_from([2, 3, 4]))
    prompts = data.draw(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=1, max_size=3))
    options = {"num_beams": beams, "n": beams, "max_new_tokens": data.draw(st.integers(1, 10))}
    most = beams * (-(-(9 + 10) // 4))  # blocks of a search that shares none
    seqs = data.draw(st.integers(beams, 9))
    engine = make_engine(
        blocks=data.draw(st.integers(most, most + 6)),
        tokens=data.draw(st.integers(seqs, 20)),
        seqs=seqs,
        depth=data.draw(st.sampled_from([1, 2])),
    )
    beside = [submit(engine, [7, i], max_new_tokens=6, ignore_eos=True) for i in range(data.draw(st.integers(0, 3)))]
    texts = [[tokens for tokens, _ in each] for each in found(engine, *prompts, **options)]
    assert texts == [[tokens for tokens, _ in searched(prompt, **options)] for prompt in prompts]
    finish(engine, *beside)
    assert [generated(request) for request in beside] == [greedy([7, i], 6) for i in range(len(beside))]
    assert_all_is_free(engine)


def test_all_beams_of_a_search_end_together() -> None:
    engine = make_engine()
    lead = engine.prepare([1, 2, 3], SamplingParams(num_beams=4, max_new_tokens=20), NoText)
    requests = [lead, *lead.twins]
    engine.submit(lead)
    for _ in range(4):
        engine.step()
    assert len(engine.scheduler.running) > 1
    engine.abort(requests[2])
    finish(engine, *requests)
    assert {request.finish_reason for request in requests} == {"abort"}
    assert_all_is_free(engine)


def test_a_beam_that_fails_fails_the_search() -> None:
    def broken(ids: Sequence[int], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(ids) == 6:
            raise ZeroDivisionError
        return logits

    engine = make_engine()
    params = SamplingParams(num_beams=3, max_new_tokens=20, logits_processors=[broken], ignore_eos=True)  # type: ignore[arg-type]
    lead = engine.prepare([1, 2, 3], params, NoText)
    requests = [lead, *lead.twins]
    engine.submit(lead)
    finish(engine, *requests)
    assert all(request.error is not None for request in requests)
    assert engine.pool.used == 0
    assert len(generated(submit_and_finish(engine))) == 4  # the engine goes on


def submit_and_finish(engine: Engine) -> Any:
    request = submit(engine, [1], max_new_tokens=4, ignore_eos=True)
    finish(engine, request)
    return request


def test_more_beams_than_a_step_takes_are_refused() -> None:
    with pytest.raises(RequestError, match="num_beams=4 is more than a step computes: max_num_seqs=4 is needed"):
        make_engine(seqs=3).prepare([1], SamplingParams(num_beams=4), NoText)


def test_beams_that_could_never_fit_are_refused() -> None:
    with pytest.raises(ContextLengthError, match="raise cache_size"):
        make_engine(blocks=8).prepare([1], SamplingParams(num_beams=4, max_new_tokens=10), NoText)
    found(make_engine(blocks=12), [1], num_beams=4, max_new_tokens=10)


def test_a_search_counts_its_texts() -> None:
    engine = make_engine()
    ((first, second),) = found(engine, [1, 2, 3], num_beams=4, n=2, max_new_tokens=5)
    assert engine.metrics.requests == 2
    assert engine.metrics.generated_tokens == len(first[0]) + len(second[0])
