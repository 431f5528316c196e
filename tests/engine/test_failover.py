"""A device that fails in the middle of its work: another takes over, and nothing is lost."""

from __future__ import annotations

import sys
import threading

import pytest

from ovgen.config import EngineConfig
from ovgen.engine.engine import Engine
from ovgen.engine.session import Session
from ovgen.errors import ContextLengthError, DeviceError
from ovgen.runtime.runner import Runner
from tests.engine.fake import FakeRunner, continuation, next_token
from tests.engine.test_loop import CONTEXT, finish, generated, submit

BROKEN = DeviceError("the device is gone")


class Spares:
    """Runners to go on with, and the failures that called for them."""

    def __init__(self, *runners: FakeRunner) -> None:
        self.runners = list(runners)
        self.failures: list[DeviceError] = []

    def __call__(self, error: DeviceError) -> Runner | None:
        self.failures.append(error)
        return self.runners.pop(0) if self.runners else None


def spare_runner(block_size: int = 8) -> FakeRunner:
    """A runner of another make, with blocks of another size."""
    runner = FakeRunner()
    runner.block_size = block_size
    runner.memory = runner.memory.reshape(0, block_size)
    return runner


def make_engine(*spares: FakeRunner, blocks: int = 1000) -> tuple[Engine, Spares, FakeRunner]:
    config = EngineConfig(max_num_batched_tokens=16, max_num_seqs=8, cache_size=blocks / 1024)
    runner, following = FakeRunner(), Spares(*spares)
    return Engine(runner, config, CONTEXT, frozenset(), following), following, runner


@pytest.mark.parametrize("method", ["start", "wait"])
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_requests_go_on_where_they_were(method: str, steps: int) -> None:
    engine, spares, runner = make_engine(spare_runner())
    requests = [submit(engine, [i] * (5 * i), max_new_tokens=12) for i in range(1, 5)]
    for _ in range(steps):
        engine.step()
    runner.fail[method] = BROKEN
    finish(engine, *requests)
    assert [generated(r) for r in requests] == [continuation([i] * (5 * i), 12) for i in range(1, 5)]
    assert [r.error for r in requests] == [None] * 4
    assert spares.failures == [BROKEN]
    assert engine.runner is not runner
    assert engine.pool.used == 0


def test_sessions_are_computed_again_when_they_go_on() -> None:
    engine, _, runner = make_engine(spare_runner())
    session = Session(engine, lambda: "m")
    session.forward([1, 2, 3])
    twin = session.fork()
    runner.fail["wait"] = BROKEN
    assert session.forward([4]).argmax() == next_token([1, 2, 3, 4])
    assert twin.forward([5, 6]).argmax(1).tolist() == [next_token([1, 2, 3, 5]), next_token([1, 2, 3, 5, 6])]
    session.trim(2)
    assert session.forward([9]).argmax() == next_token([1, 2, 9])
    session.close()
    twin.close()
    assert engine.pool.used == 0


def test_a_session_untouched_since_the_failure_can_be_trimmed_forked_saved_and_closed() -> None:
    engine, _, runner = make_engine(spare_runner())
    sessions = [Session(engine, lambda: "m") for _ in range(4)]
    for session in sessions:
        session.forward([1, 2, 3])
    request = submit(engine, [7])
    runner.fail["wait"] = BROKEN
    finish(engine, request)
    trimmed, forked, saved, closed = sessions
    trimmed.trim(2)
    assert trimmed.forward([8]).argmax() == next_token([1, 2, 8])
    assert forked.fork().forward([8]).argmax() == next_token([1, 2, 3, 8])
    (cache,) = engine.export(saved._sequence)
    assert cache.size
    closed.close()


def test_the_last_devices_failure_is_raised_and_everything_can_go_on() -> None:
    engine, spares, runner = make_engine(spare_runner())
    runner.fail["wait"] = BROKEN
    last = spares.runners[0]
    last.fail["wait"] = again = DeviceError("this one, too")
    request = submit(engine, [1, 2])
    with pytest.raises(DeviceError, match="this one, too"):
        finish(engine, request)
    assert spares.failures == [BROKEN, again]
    finish(engine, request)
    assert generated(request) == continuation([1, 2], 10)


def test_a_session_is_as_before_if_no_device_is_left() -> None:
    engine, _, runner = make_engine()
    session = Session(engine, lambda: "m")
    session.forward([1, 2, 3])
    runner.fail["wait"] = BROKEN
    with pytest.raises(DeviceError, match="gone"):
        session.forward([4])
    assert session.token_ids == (1, 2, 3)
    assert session.forward([4]).argmax() == next_token([1, 2, 3, 4])


def test_a_device_with_slots_is_given_no_more_requests_than_it_has() -> None:
    engine, _, runner = make_engine(few := spare_runner())
    few.slots = 2
    requests = [submit(engine, [i], max_new_tokens=4) for i in range(6)]
    engine.step()
    assert len(runner.steps[0]) == 6
    runner.fail["wait"] = BROKEN
    finish(engine, *requests)
    assert {len(step) for step in few.steps} <= {1, 2}
    assert [generated(r) for r in requests] == [continuation([i], 4) for i in range(6)]


def test_a_session_moves_on_while_requests_run() -> None:
    engine, _, runner = make_engine(spare_runner())
    requests = [submit(engine, [i] * 3) for i in range(4)]
    session = Session(engine, lambda: "m")
    session.forward([1, 2, 3])
    for _ in range(3):
        engine.step()
    runner.fail["wait"] = BROKEN
    assert session.forward([4]).argmax() == next_token([1, 2, 3, 4])
    finish(engine, *requests)
    assert [generated(r) for r in requests] == [continuation([i] * 3, 10) for i in range(4)]


@pytest.mark.parametrize("trial", range(10))
def test_several_threads_move_on_together(trial: int) -> None:
    engine, _, runner = make_engine(spare_runner())
    requests = [submit(engine, [i] * 3, max_new_tokens=30) for i in range(3)]
    failures: list[BaseException] = []

    def drive(i: int) -> None:
        try:
            while not requests[i].done:
                engine.step()
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=drive, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        runner.fail["wait"] = BROKEN
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert failures == []
    assert [generated(r) for r in requests] == [continuation([i] * 3, 30) for i in range(3)]


def test_a_request_that_the_next_cache_is_too_small_for_says_so_and_others_end_by_length() -> None:
    small = spare_runner()
    small.bytes_per_block = 1 << 22  # 4 blocks of 8 tokens
    engine, _, runner = make_engine(small, blocks=16)
    long, short, fits = (submit(engine, [1] * n, max_new_tokens=30) for n in (33, 20, 2))
    engine.step()
    runner.fail["wait"] = BROKEN
    finish(engine, long, short, fits)
    assert isinstance(long.error, ContextLengthError)
    assert "FAKE, which took over, cannot go on with it: 33 tokens do not fit the KV cache of 32" in str(long.error)
    assert (generated(short), short.finish_reason) == (continuation([1] * 20, 12), "length")
    assert (generated(fits), fits.finish_reason) == (continuation([1] * 2, 30), "length")
