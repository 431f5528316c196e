from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovgen.config import EngineConfig, SamplingParams
from ovgen.engine.engine import Engine
from ovgen.engine.request import Request
from ovgen.engine.session import Session
from ovgen.errors import CacheFullError, ContextLengthError, DeviceError, GenerationError, RequestError
from tests.engine.fake import VOCAB, FakeRunner, NoText, continuation, next_token

CONTEXT = 200


def make_engine(blocks: int = 1000, tokens: int = 16, seqs: int = 8, eos: frozenset[int] = frozenset()) -> Engine:
    config = EngineConfig(max_num_batched_tokens=tokens, max_num_seqs=seqs, cache_size=blocks / 1024)  # 1 MiB a block
    return Engine(FakeRunner(), config, CONTEXT, eos)


def submit(engine: Engine, prompt: Sequence[int], **options: Any) -> Request:
    request = engine.prepare(prompt, SamplingParams(**{"max_new_tokens": 10, **options}), NoText)
    engine.submit(request)
    return request


def finish(engine: Engine, *requests: Request) -> None:
    for _ in range(10_000):
        if all(request.done for request in requests):
            return
        engine.step()
        engine.pool.check()
    raise AssertionError("the requests never finish")


def generated(request: Request) -> list[int]:
    return [token for piece in request.pieces for token in piece.token_ids]


def fake(engine: Engine) -> FakeRunner:
    assert isinstance(engine.runner, FakeRunner)
    return engine.runner


def test_greedy_output_is_the_models_and_all_blocks_come_back() -> None:
    engine = make_engine()
    request = submit(engine, [1, 2, 3])
    finish(engine, request)
    assert generated(request) == continuation([1, 2, 3], 10)
    assert request.finish_reason == "length"
    assert engine.pool.used == 0


def test_the_next_step_is_in_flight_while_a_piece_is_read() -> None:
    engine = make_engine()
    request = submit(engine, [1, 2, 3])
    engine.step()
    assert not request.pieces
    engine.step()
    assert len(request.pieces) == 1
    assert len(fake(engine).steps) == 2


@settings(deadline=None, max_examples=60)
@given(
    prompts=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=40), min_size=1, max_size=12),  # alike at first
    tokens=st.integers(4, 30),
    seqs=st.integers(1, 4),
    blocks=st.integers(14, 40),
    new=st.integers(1, 12),
)
def test_company_chunking_and_preemption_never_change_the_output(
    prompts: list[list[int]], tokens: int, seqs: int, blocks: int, new: int
) -> None:
    engine = make_engine(blocks, tokens, seqs)
    requests = [submit(engine, prompt, max_new_tokens=new) for prompt in prompts]
    finish(engine, *requests)
    for prompt, request in zip(prompts, requests, strict=True):
        assert generated(request) == continuation(prompt, new)
    assert engine.pool.used == 0


def test_preemption_really_happens_when_blocks_are_few() -> None:
    engine = make_engine(blocks=6, tokens=16)
    requests = [submit(engine, [i] * 7, max_new_tokens=12) for i in range(3)]
    finish(engine, *requests)
    computed = sum(len(chunk.token_ids) for step in fake(engine).steps for chunk in step)
    assert computed > 3 * (7 + 11)  # something was computed twice
    assert [generated(request) for request in requests] == [continuation([i] * 7, 12) for i in range(3)]


def test_stops_at_eos_unless_told_to_ignore_it() -> None:
    prompt = [4, 5]
    eos = continuation(prompt, 3)[-1]
    engine = make_engine(eos=frozenset([eos]))
    stopping, going_on = submit(engine, prompt), submit(engine, prompt, ignore_eos=True)
    finish(engine, stopping, going_on)
    assert generated(stopping) == continuation(prompt, 3)
    assert stopping.finish_reason == "stop"
    assert generated(going_on) == continuation(prompt, 10)


def test_a_stop_string_is_not_streamed_and_its_extra_step_leaves_no_trace() -> None:
    engine = make_engine()
    prompt = [3, 1, 4]
    text = NoText().push(continuation(prompt, 10))
    stop = text[4:6]
    request = submit(engine, prompt, stop=[stop])
    finish(engine, request)
    assert "".join(piece.text for piece in request.pieces) == text[: text.index(stop)]
    assert request.finish_reason == "stop"
    engine.drain()
    assert engine.pool.used == 0


def test_aborting_frees_the_blocks_at_once_and_others_go_on() -> None:
    engine = make_engine()
    first, second = submit(engine, [1, 2]), submit(engine, [3, 4])
    engine.step()
    engine.step()
    engine.abort(first)
    assert first.finish_reason == "abort"
    assert engine.pool.used == 1
    finish(engine, second)
    assert generated(second) == continuation([3, 4], 10)


def test_the_context_ends_a_request() -> None:
    engine = make_engine()
    prompt = [1] * (CONTEXT - 3)
    request = submit(engine, prompt, max_new_tokens=None)
    finish(engine, request)
    assert (len(generated(request)), request.finish_reason) == (3, "length")


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        ([], RequestError, "empty"),
        ([VOCAB], RequestError, f"token id {VOCAB} is not in the vocabulary"),
        ([-1], RequestError, "token id -1"),
        ([1.5], RequestError, "'float' object cannot be interpreted as an integer"),
        (None, RequestError, "not iterable"),
        ([1] * CONTEXT, ContextLengthError, f"{CONTEXT} tokens; the context holds {CONTEXT}"),
    ],
)
def test_bad_prompts_are_refused_at_the_edge(prompt: list[int], error: type[Exception], message: str) -> None:
    engine = make_engine()
    with pytest.raises(error, match=message):
        submit(engine, prompt)
    request = submit(engine, [1])
    finish(engine, request)
    assert generated(request) == continuation([1], 10)


def test_a_request_that_could_never_fit_the_cache_is_refused() -> None:
    with pytest.raises(ContextLengthError, match="raise cache_size"):
        submit(make_engine(blocks=3), [1] * 6, max_new_tokens=7)


def test_without_a_length_a_small_cache_is_the_limit() -> None:
    engine = make_engine(blocks=3)
    request = submit(engine, [1] * 6, max_new_tokens=None)
    finish(engine, request)
    assert (len(generated(request)), request.finish_reason) == (6, "length")


@pytest.mark.parametrize("method", ["start", "wait", "resize"])
def test_a_failed_device_is_reported_and_the_requests_can_go_on(method: str) -> None:
    engine = make_engine()
    requests = [submit(engine, [i] * 50, max_new_tokens=20) for i in range(3)]
    fake(engine).fail[method] = DeviceError("it broke")
    with pytest.raises(DeviceError, match="it broke"):
        finish(engine, *requests)
    finish(engine, *requests)
    assert [generated(r) for r in requests] == [continuation([i] * 50, 20) for i in range(3)]
    assert engine.pool.used == 0


@pytest.mark.parametrize("place", ["start", "wait", "sample", "emit", "drain"])
def test_an_interrupt_anywhere_in_a_step_loses_nothing(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine()
    requests = [submit(engine, [i, 2, 3]) for i in range(3)]
    for _ in range(3):
        engine.step()
    if place in ("start", "wait"):
        fake(engine).fail[place] = KeyboardInterrupt()
    else:
        interrupt_once(monkeypatch, *((Request, "emit") if place == "emit" else (engine._sampler, "choose")))
    session = Session(engine, lambda: "m")
    with pytest.raises(KeyboardInterrupt):
        session.forward([1]) if place == "drain" else engine.step()
    finish(engine, *requests)
    assert [generated(r) for r in requests] == [continuation([i, 2, 3], 10) for i in range(3)]
    assert engine.pool.used == 0


def interrupt_once(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    """The next call of a method is interrupted before it does anything."""
    original = getattr(owner, name)

    def interrupted(*arguments: Any) -> Any:
        monkeypatch.setattr(owner, name, original)
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, interrupted)


def test_nan_in_prompt_logprobs_fails_that_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine()
    good = submit(engine, [2])
    bad = submit(engine, [1, 2, 3], prompt_logprobs=1)
    original = fake(engine).wait

    def wait() -> Any:
        logits = original()
        logits[-3:-1] = np.nan  # rows of the bad one's prompt
        return logits

    monkeypatch.setattr(engine.runner, "wait", wait)
    engine.step()
    engine.step()
    monkeypatch.undo()
    finish(engine, good, bad)
    assert isinstance(bad.error, GenerationError)
    assert generated(good) == continuation([2], 10)
    assert engine.pool.used == 0


def test_a_processor_may_keep_what_it_is_given() -> None:
    kept: list[tuple[list[int], Any]] = []

    def keep(token_ids: Any, logits: Any) -> Any:
        kept.append((token_ids, logits))
        return logits

    engine = make_engine()
    request = submit(engine, [1, 2], logits_processors=[keep], max_new_tokens=4)
    finish(engine, request)
    expected = [1, 2, *continuation([1, 2], 4)]
    assert [ids for ids, _ in kept] == [expected[: 2 + i] for i in range(4)]
    assert [int(logits.argmax()) for _, logits in kept] == expected[2:]


def test_a_processor_cannot_run_the_model_that_calls_it() -> None:
    engine = make_engine()
    session = Session(engine, lambda: "m")

    def recursive(token_ids: Any, logits: Any) -> Any:
        session.forward([1])
        return logits

    bad, good = submit(engine, [1], logits_processors=[recursive]), submit(engine, [2])
    finish(engine, bad, good)
    assert "cannot run the model" in str(bad.error)
    assert generated(good) == continuation([2], 10)


def test_a_request_is_done_only_when_its_last_piece_can_be_read() -> None:
    engine = make_engine()
    request = submit(engine, [1], max_new_tokens=1)

    class Watching(NoText):
        def push(self, token_ids: Sequence[int]) -> str:
            assert not request.done
            return super().push(token_ids)

    request.text = Watching()
    finish(engine, request)
    assert generated(request) == continuation([1], 1)


def test_a_processor_that_fails_fails_its_own_request_only() -> None:
    def broken(token_ids: Sequence[int], logits: np.ndarray[Any, np.dtype[np.float32]]) -> Any:
        raise ZeroDivisionError("oh")

    engine = make_engine()
    bad, good = submit(engine, [1], logits_processors=[broken]), submit(engine, [2])
    finish(engine, bad, good)
    assert isinstance(bad.error, GenerationError)
    assert generated(good) == continuation([2], 10)
    assert engine.pool.used == 0


def test_prompt_logprobs_of_a_chunked_prompt_have_one_entry_per_token() -> None:
    engine = make_engine(tokens=8)
    prompt = list(range(20))
    request = submit(engine, prompt, prompt_logprobs=1, max_new_tokens=2)
    finish(engine, request)
    assert request.prompt_logprobs[0] is None
    entries = [entry for entry in request.prompt_logprobs if entry is not None]
    assert [entry.token_id for entry in entries] == prompt[1:]
    assert [list(entry.top) for entry in entries] == [[next_token(prompt[: i + 1])] for i in range(19)]


def test_a_request_that_sessions_leave_no_room_for_is_told_so() -> None:
    engine = make_engine(blocks=4)
    session = Session(engine, lambda: "m")
    session.forward([1] * 13)
    request = submit(engine, [1] * 5, max_new_tokens=2)
    finish(engine, request)
    assert isinstance(request.error, CacheFullError)
    assert "close sessions" in str(request.error)
    session.close()
    request = submit(engine, [1] * 5, max_new_tokens=2)
    finish(engine, request)
    assert generated(request) == continuation([1] * 5, 2)


@pytest.mark.slow
def test_ten_thousand_requests_with_random_aborts_leave_nothing_behind() -> None:
    rng = np.random.default_rng(0)
    engine = make_engine(blocks=30, tokens=32, seqs=8)
    live: list[Request] = []
    for _ in range(10_000):
        live.append(submit(engine, rng.integers(0, VOCAB, rng.integers(1, 30)).tolist(), max_new_tokens=4))
        engine.step()
        if rng.random() < 0.2:
            engine.abort(live[rng.integers(len(live))])
        live = [request for request in live if not request.done]
    finish(engine, *live)
    engine.drain()
    assert engine.pool.used == 0
    assert not engine.scheduler.running
    assert not engine.scheduler.waiting


def test_a_prompt_that_is_known_is_not_computed_again() -> None:
    engine = make_engine()
    prompt = list(range(30))
    first = submit(engine, prompt)
    finish(engine, first)
    before = len(fake(engine).steps)
    again, longer = submit(engine, prompt), submit(engine, [*prompt, *generated(first), 5, 6])
    other = submit(engine, [1, *prompt])
    finish(engine, again, longer, other)
    assert [request.metrics.cached_tokens for request in (first, again, longer, other)] == [0, 28, 36, 0]
    assert [len(chunk.token_ids) for chunk in fake(engine).steps[before]] == [2, 6, 8]  # 16 tokens in a step
    assert generated(again) == generated(first)
    assert generated(longer) == continuation([*prompt, *generated(first), 5, 6], 10)
    assert engine.pool.used == 0


def test_prefixes_are_computed_again_on_request_and_for_the_logprobs_of_a_prompt() -> None:
    prompt = list(range(30))
    engine = Engine(FakeRunner(), EngineConfig(enable_prefix_caching=False), CONTEXT, frozenset())
    requests = [submit(engine, prompt)]
    finish(engine, *requests)
    requests.append(submit(engine, prompt))
    finish(engine, *requests)
    assert [request.metrics.cached_tokens for request in requests] == [0, 0]
    engine = make_engine()
    finish(engine, submit(engine, prompt))
    request = submit(engine, prompt, prompt_logprobs=1)
    finish(engine, request)
    assert request.metrics.cached_tokens == 0
    assert len(request.prompt_logprobs) == 30
