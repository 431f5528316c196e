"""What fails while several texts, beams and kept sequences are under way, and rooms that turn out too small."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ovgen.config import EngineConfig, SamplingParams
from ovgen.engine.engine import Engine
from ovgen.engine.group import Group
from ovgen.engine.request import Request
from ovgen.engine.session import Session
from ovgen.errors import CacheFullError, DeviceError, RequestError
from ovgen.runtime.runner import Runner
from tests.engine.fake import VOCAB, FakeRunner, KeepingRunner, NoText, continuation
from tests.engine.test_beams import BeamRunner, logits_after
from tests.engine.test_loop import generated

PROMPT = [1, 2, 3, 4, 5, 6]
FAILURES = [DeviceError("gone"), KeyboardInterrupt()]
SEVERAL = {"n": 3, "temperature": 1.0, "seed": 1}
BEAMS = {"num_beams": 3, "n": 3}


class FragileRunner(KeepingRunner):
    """Its copies can fail, and it has an opinion on every token."""

    def fork(self, source: int, target: int) -> None:
        self._fail("fork")
        super().fork(source, target)

    def wait(self) -> NDArray[np.float32]:
        if not self._flying:
            return np.zeros((0, VOCAB), np.float32)
        rows = self._flying.popleft().rows()
        return np.array([logits_after(tokens) for tokens in rows], np.float32).reshape(-1, VOCAB)


def make_engine(runner: FakeRunner, *spares: Runner, blocks: int = 1000, caching: bool = True) -> Engine:
    left = list(spares)
    config = EngineConfig(cache_size=blocks / 1024, enable_prefix_caching=caching)
    return Engine(runner, config, 60, frozenset(), lambda error: left.pop(0) if left else None)


def submit(engine: Engine, prompt: Sequence[int], **options: Any) -> list[Request]:
    params = SamplingParams(**{"max_new_tokens": 8, **options})
    request = engine.prepare(prompt, params, NoText)
    requests = [request, *request.twins]
    engine.submit(request)
    return requests


def finish(engine: Engine, requests: Sequence[Request]) -> None:
    """Go on after failures."""
    for _ in range(200):
        if all(request.done for request in requests):
            return
        with contextlib.suppress(DeviceError, KeyboardInterrupt):
            engine.step()
        engine.pool.check()
    raise AssertionError("the requests never finish")


def assert_nothing_is_held(engine: Engine) -> None:
    if engine.scheduler.kept is not None:
        engine.scheduler.kept.clear()
    assert (engine.pool.used, engine.scheduler.running, engine.scheduler.waiting) == (0, [], [])
    if isinstance(engine.runner, KeepingRunner):
        assert not engine.runner.rows


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("steps", [0, 1, 2, 3])
@pytest.mark.parametrize("options", [SEVERAL, BEAMS])
def test_a_copy_that_fails_loses_no_text(options: dict[str, Any], steps: int, failure: BaseException) -> None:
    texts = []
    for fails in (False, True):
        runner = FragileRunner()
        engine = make_engine(runner, FragileRunner())
        requests = submit(engine, PROMPT, **options)
        for _ in range(steps):
            engine.step()
        if fails:
            runner.fail["fork"] = failure
        finish(engine, requests)
        texts.append([generated(request) for request in requests])
        assert_nothing_is_held(engine)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_kept_sequence_whose_copy_fails_is_no_loss(failure: BaseException) -> None:
    runner = FragileRunner()
    engine = make_engine(runner)
    prompt = list(range(1, 13))
    finish(engine, submit(engine, prompt))
    runner.fail["fork"] = failure
    requests = submit(engine, [*prompt[:8], 50, 51])
    finish(engine, requests)
    alone = make_engine(FragileRunner())
    expected = submit(alone, [*prompt[:8], 50, 51])
    finish(alone, expected)
    assert generated(requests[0]) == generated(expected[0])
    assert "fork" not in runner.fail  # it was tried
    assert_nothing_is_held(engine)


def test_a_text_that_fails_after_its_end_frees_nothing_twice() -> None:
    class Broken(NoText):
        def push(self, token_ids: Sequence[int]) -> str:
            raise DeviceError("the detokenizer")

    engine = make_engine(KeepingRunner())
    prompt = list(range(1, 13))
    request = engine.prepare(prompt, SamplingParams(max_new_tokens=1), Broken)
    engine.submit(request)
    for _ in range(3):
        engine.step()
    assert isinstance(request.error, DeviceError)
    (after,) = submit(engine, [*prompt, 60])
    finish(engine, [after])
    assert after.metrics.cached_tokens == 12
    assert generated(after) == continuation([*prompt, 60], 8)
    assert_nothing_is_held(engine)


def smaller(change: Callable[[FakeRunner], None]) -> FakeRunner:
    runner = BeamRunner()
    change(runner)
    return runner


def two_slots(runner: FakeRunner) -> None:
    runner.slots = 2


def few_blocks(runner: FakeRunner) -> None:
    runner.max_blocks = 5


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (two_slots, BEAMS, "num_beams=3 is more than a step computes: batch_slots=3"),
        (few_blocks, BEAMS, "tokens do not fit the KV cache of 6: raise cache_size"),
        (few_blocks, {"context_shift": 18, "max_new_tokens": 100}, "context_shift=18 leaves no room"),
    ],
)
def test_a_device_that_takes_over_says_what_it_cannot_go_on_with(
    change: Callable[[FakeRunner], None], options: dict[str, Any], message: str
) -> None:
    runner = BeamRunner()
    engine = make_engine(runner, smaller(change))
    requests = submit(engine, PROMPT, **options)
    engine.step()
    engine.step()
    runner.fail["start"] = DeviceError("gone")
    finish(engine, requests)
    for request in requests:
        assert isinstance(request.error, RequestError)
        assert message in str(request.error)
    assert_nothing_is_held(engine)


def test_a_smaller_cache_bounds_all_texts_of_a_prompt() -> None:
    runner = FakeRunner()
    spare = FakeRunner()
    few_blocks(spare)  # 20 tokens
    engine = make_engine(runner, spare)
    requests = submit(engine, PROMPT, n=2, temperature=1.0, max_new_tokens=40)
    runner.fail["start"] = DeviceError("gone")
    finish(engine, requests)
    assert [(request.finish_reason, len(request.sequence.tokens)) for request in requests] == [("length", 20)] * 2


def test_beams_that_find_no_room_beside_a_session_fail_and_do_not_spin() -> None:
    engine = make_engine(BeamRunner(), blocks=16, caching=False)
    with Session(engine, lambda: "m") as session:
        session.forward(list(range(1, 41)))  # 10 blocks
        requests = submit(engine, list(range(10, 18)), max_new_tokens=12, early_stopping="never", **BEAMS)
        finish(engine, requests)
        assert {type(request.error) for request in requests} == {CacheFullError}
        assert engine.pool.used == 10
    assert_nothing_is_held(engine)


def test_what_was_aborted_before_it_began_computes_nothing() -> None:
    engine = make_engine(FakeRunner())
    group = Group(engine, engine.prepare(PROMPT, SamplingParams(), NoText))
    group.abort()
    group.submit()
    output = group.output(list(group.drive()))
    assert (output.finish_reason, output.token_ids) == ("abort", ())
    assert_nothing_is_held(engine)
