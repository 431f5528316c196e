"""Several steps in flight: while the device works on some requests, the others are sampled and started."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovgen.config import EngineConfig
from ovgen.engine.engine import Engine
from ovgen.engine.request import Request
from ovgen.engine.session import Session
from ovgen.errors import DeviceError
from tests.engine.fake import VOCAB, FakeRunner, LateRunner, NoText, continuation, next_token
from tests.engine.test_loop import CONTEXT, fake, finish, generated, interrupt_once, submit

BROKEN = DeviceError("the device is gone")


def make_engine(
    runner: FakeRunner | None = None, *, spare: FakeRunner | None = None, blocks: int = 1000, tokens: int = 16
) -> Engine:
    config = EngineConfig(max_num_batched_tokens=tokens, max_num_seqs=8, cache_size=blocks / 1024)
    return Engine(runner or FakeRunner(depth=2), config, CONTEXT, frozenset(), lambda error: spare)


def groups(engine: Engine) -> list[list[int]]:
    """Which sequences each step so far computed, numbered from 0."""
    steps = fake(engine).steps
    names = {number: i for i, number in enumerate(sorted({chunk.sequence for step in steps for chunk in step}))}
    return [[names[chunk.sequence] for chunk in step] for step in steps]


def test_two_groups_of_requests_take_turns() -> None:
    engine = make_engine()
    requests = [submit(engine, [i], max_new_tokens=4) for i in range(5)]
    finish(engine, *requests)
    assert groups(engine) == [[0, 1, 2], [3, 4]] * 4
    assert [generated(r) for r in requests] == [continuation([i], 4) for i in range(5)]


def test_a_request_that_is_alone_is_computed_as_with_one_step_at_a_time() -> None:
    engines = [make_engine(FakeRunner(depth)) for depth in (1, 2)]
    for engine in engines:
        finish(engine, submit(engine, [1] * 40))
        engine.drain()
    shallow, deep = ([[c.token_ids for c in step] for step in fake(engine).steps] for engine in engines)
    assert deep == shallow


def test_groups_become_even_when_requests_end() -> None:
    engine = make_engine()
    requests = [submit(engine, [i], max_new_tokens=2 if i < 3 else 9) for i in range(8)]
    finish(engine, *requests)
    assert [len(group) for group in groups(engine)[:8]] == [4, 4, 4, 4, 1, 3, 2, 3]


@settings(deadline=None, max_examples=80)
@given(
    prompts=st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=40), min_size=1, max_size=10),
    depth=st.integers(2, 3),
    tokens=st.integers(8, 30),
    blocks=st.integers(14, 40),
    new=st.integers(1, 12),
    temperature=st.sampled_from([0.0, 3.0]),
)
def test_the_output_is_the_same_at_any_depth(
    prompts: list[list[int]], depth: int, tokens: int, blocks: int, new: int, temperature: float
) -> None:
    outputs = []
    for steps in (1, depth):
        engine = make_engine(FakeRunner(steps), blocks=blocks, tokens=tokens)
        options: dict[str, Any] = {"max_new_tokens": new, "temperature": temperature, "stop": ["AB", "Q"]}
        requests = [submit(engine, p, seed=i, prompt_logprobs=i % 2 or None, **options) for i, p in enumerate(prompts)]
        finish(engine, *requests)
        engine.drain()
        assert engine.pool.used == 0
        outputs.append([(generated(r), r.finish_reason, r.prompt_logprobs) for r in requests])
    assert outputs[0] == outputs[1]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), blocks=st.integers(8, 30), depth=st.integers(1, 3))
def test_random_aborts_sessions_and_failures_leave_nothing_behind(seed: int, blocks: int, depth: int) -> None:
    rng = np.random.default_rng(seed)
    engine = make_engine(FakeRunner(depth), spare=None, blocks=blocks, tokens=12)
    session, tokens = Session(engine, lambda: "m"), list[int]()
    live: list[tuple[Request, list[int]]] = []
    for _ in range(60):
        prompt = rng.integers(0, VOCAB, rng.integers(1, 20)).tolist()
        live.append((submit(engine, prompt, max_new_tokens=5), prompt))
        choice = rng.random()
        if choice < 0.2:
            engine.abort(live[rng.integers(len(live))][0])
        elif choice < 0.3 and len(tokens) < 8:
            tokens.append(1)
            assert session.forward([1]).argmax() == next_token(tokens)
        elif choice < 0.35:
            fake(engine).fail[str(rng.choice(["start", "wait"]))] = BROKEN
            with contextlib.suppress(DeviceError):
                finish(engine, *[request for request, _ in live])
            fake(engine).fail.clear()  # there may have been nothing to do
        engine.step()
        engine.pool.check()
    finish(engine, *[request for request, _ in live])
    session.close()
    engine.drain()
    for request, prompt in live:
        expected = continuation(prompt, 5)
        assert generated(request) == expected[: len(generated(request))]
        assert request.finish_reason == "abort" or generated(request) == expected
    assert engine.pool.used == 0
    assert not engine.scheduler.running


def test_blocks_of_an_aborted_request_are_free_when_its_step_has_landed() -> None:
    engine = make_engine()
    first, second = submit(engine, [1, 2]), submit(engine, [3, 4])
    engine.step()
    engine.abort(first)
    engine.abort(second)
    assert engine.pool.used == 2  # the device still writes to them
    engine.step()
    assert engine.pool.used == 1
    engine.drain()
    assert engine.pool.used == 0
    assert [generated(r) for r in (first, second)] == [[], []]


def test_a_session_waits_for_every_step_in_flight() -> None:
    engine = make_engine(blocks=8)
    requests = [submit(engine, [i] * 5, max_new_tokens=8) for i in range(3)]
    session, tokens = Session(engine, lambda: "m"), list[int]()
    while not all(request.done for request in requests):
        engine.step()
        if len(tokens) < 12:
            tokens.append(len(tokens))
            assert session.forward(tokens[-1:]).argmax() == next_token(tokens)
    assert [generated(r) for r in requests] == [continuation([i] * 5, 8) for i in range(3)]


@pytest.mark.parametrize("place", ["start", "wait", "resize", "sample", "emit", "drain"])
@pytest.mark.parametrize("failure", [BROKEN, KeyboardInterrupt()])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_failure_anywhere_loses_nothing(
    place: str, failure: BaseException, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    requests = [submit(engine, [i] * 30, max_new_tokens=20) for i in range(4)]
    for _ in range(steps):
        engine.step()
    if place in ("start", "wait", "resize"):
        fake(engine).fail[place] = failure
    else:
        owner, name = (Request, "emit") if place == "emit" else (engine._sampler, "choose")
        interrupt_once(monkeypatch, owner, name)
        failure = KeyboardInterrupt()
    session = Session(engine, lambda: "m")
    with pytest.raises(type(failure)):
        session.forward([1]) if place == "drain" and steps == 4 else finish(engine, *requests)
    finish(engine, *requests)
    engine.drain()
    assert [generated(r) for r in requests] == [continuation([i] * 30, 20) for i in range(4)]
    assert engine.pool.used == 0


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 2)])
def test_another_device_takes_over_at_its_own_depth(before: int, after: int) -> None:
    engine = make_engine(FakeRunner(before), spare=FakeRunner(after))
    requests = [submit(engine, [i] * 5, max_new_tokens=12) for i in range(4)]
    for _ in range(5):
        engine.step()
    fake(engine).fail["wait"] = BROKEN
    finish(engine, *requests)
    assert [generated(r) for r in requests] == [continuation([i] * 5, 12) for i in range(4)]
    assert (fake(engine).depth, max(len(group) for group in groups(engine))) == (after, 4 // after)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_device_that_fails_under_a_session_is_replaced_for_the_requests_too(depth: int) -> None:
    engine = make_engine(FakeRunner(depth), spare=FakeRunner(depth))
    requests = [submit(engine, [i], max_new_tokens=6) for i in range(3)]
    engine.step()
    engine.drain()
    fake(engine).fail["start"] = BROKEN
    assert Session(engine, lambda: "m").forward([5]).argmax() == next_token([5])
    finish(engine, *requests)
    assert [generated(r) for r in requests] == [continuation([i], 6) for i in range(3)]


class Overlap:
    """Holds the device in each step until the step before it has been sampled, and the sampling until the device works.

    Both can only be if they happen at the same time.
    """

    def __init__(self, steps: int) -> None:
        self.log: list[str] = []
        self._begun = [threading.Event() for _ in range(steps)]
        self._sampled = [threading.Event() for _ in range(steps)]
        self._samples = 0

    def during(self, number: int, tokens: int) -> None:
        self.log.append(f"device begins {number}")
        self._begun[number].set()
        assert not number or self._sampled[number - 1].wait(10), "the host waits for the device"
        self.log.append(f"device ends {number}")

    def watch(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        original = engine._results.commit

        def sample(*arguments: Any) -> Any:
            number, self._samples = self._samples, self._samples + 1
            assert number + 1 == len(self._begun) or self._begun[number + 1].wait(10), "the device waits for the host"
            choices = original(*arguments)
            self.log.append(f"host samples {number}")
            self._sampled[number].set()
            return choices

        monkeypatch.setattr(engine._results, "commit", sample)


def test_one_group_is_sampled_while_the_device_computes_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    overlap = Overlap(steps=10)
    engine = make_engine(LateRunner(2, overlap.during))
    overlap.watch(engine, monkeypatch)
    requests = [submit(engine, [i], max_new_tokens=5) for i in range(4)]
    finish(engine, *requests)
    assert [generated(r) for r in requests] == [continuation([i], 5) for i in range(4)]
    for number in range(9):
        begins, samples, ends = (
            overlap.log.index(entry)
            for entry in (f"device begins {number + 1}", f"host samples {number}", f"device ends {number + 1}")
        )
        assert begins < samples < ends


def test_with_one_step_at_a_time_they_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    engine = make_engine(LateRunner(1, lambda number, tokens: log.append("device")))
    original = engine._results.commit

    def sample(*arguments: Any) -> Any:
        log.append("host")
        return original(*arguments)

    monkeypatch.setattr(engine._results, "commit", sample)
    requests = [submit(engine, [i], max_new_tokens=5) for i in range(4)]
    finish(engine, *requests)
    assert log == ["device", "host"] * 5


def test_memory_moves_only_between_the_devices_steps() -> None:
    engine = make_engine(LateRunner(2, lambda number, tokens: None), tokens=64)
    requests = [submit(engine, [i] * 30, max_new_tokens=100) for i in range(6)]
    finish(engine, *requests)
    assert engine.pool.size > 2 * 16  # it has grown more than once
    assert [generated(r) for r in requests] == [continuation([i] * 30, 100) for i in range(6)]


def test_text_of_one_group_comes_while_the_other_is_computed() -> None:
    engine = make_engine()
    first, second = submit(engine, [1]), submit(engine, [2])
    engine.step()
    engine.step()
    assert (len(first.pieces), len(second.pieces)) == (1, 0)
    engine.step()
    assert (len(first.pieces), len(second.pieces)) == (1, 1)
    assert NoText().push(generated(second)) == second.pieces[0].text
