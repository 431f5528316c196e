"""Thousands of requests of every kind, with aborts and failures at any moment: nothing stays behind or is lost."""

import contextlib
import gc
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from ovgen.config import EngineConfig, SamplingParams
from ovgen.engine.engine import Engine
from ovgen.engine.group import Group
from ovgen.engine.request import Request
from tests.engine.fake import FakeRunner, KeepingRunner, LateRunner, NoText, continuation
from tests.engine.test_loop import generated

KINDS: list[dict[str, Any]] = [
    {},
    {},
    {"priority": -1},
    {"prompt_lookup_num_tokens": 4},
    {"n": 3, "temperature": 3.0, "seed": 1},
    {"best_of": 3, "temperature": 3.0},
    {"num_beams": 3, "n": 2},
    {"num_beams": 2},
    {"context_shift": 3, "max_new_tokens": 40},
    {"prompt_logprobs": 1},
]
RUNNERS: dict[str, Callable[[], FakeRunner]] = {
    "blocks": FakeRunner,
    "two steps in flight": lambda: LateRunner(2, lambda number, tokens: None),
    "by sequence": KeepingRunner,
}


class Client:
    """Sends requests, gives some of them up, and checks those that go through."""

    def __init__(self, engine: Engine, rng: random.Random) -> None:
        self._engine = engine
        self._rng = rng
        self._live: list[tuple[Request, Group]] = []
        self.checked = 0

    def send(self) -> None:
        prompt = [self._rng.randrange(3) for _ in range(self._rng.randint(1, 14))]
        params = SamplingParams(**{"max_new_tokens": self._rng.randint(1, 6), **self._rng.choice(KINDS)})
        request = self._engine.prepare(prompt, params, NoText)
        self._live.append((request, Group(self._engine, request)))
        self._live[-1][1].submit()

    def look(self) -> None:
        if self._live and self._rng.random() < 0.1:
            self._rng.choice(self._live)[1].abort()
        done = [each for each in self._live if each[1].done]
        self._live = [each for each in self._live if not each[1].done]
        for request, _ in done:
            assert request.error is None
            if request.params == SamplingParams(max_new_tokens=request.params.max_new_tokens):
                expected = continuation(request.prompt, request.params.max_new_tokens or 0)
                assert generated(request) == expected[: len(generated(request))]
                self.checked += request.finish_reason == "length" and generated(request) == expected

    @property
    def waits(self) -> bool:
        return bool(self._live)


@pytest.mark.parametrize("kind", RUNNERS)
def test_nothing_stays_behind(kind: str) -> None:
    rng = random.Random(5)
    runner = RUNNERS[kind]()
    engine = Engine(
        runner, EngineConfig(max_num_batched_tokens=16, max_num_seqs=6, cache_size=24 / 1024), 30, frozenset({9})
    )
    client = Client(engine, rng)
    sizes = []
    tracemalloc.start()
    for number in range(2000):
        client.send()
        for _ in range(rng.randint(1, 4)):
            step(engine, runner, rng)
        client.look()
        while number % 500 == 499 and client.waits:
            step(engine, runner, rng)
            client.look()
        runner.steps.clear()
        if number % 500 == 499:
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    engine.drain()
    if engine.scheduler.kept is not None:
        engine.scheduler.kept.clear()
    assert (engine.pool.used, engine.scheduler.running, engine.scheduler.waiting) == (0, [], [])
    assert not engine._unemitted
    if isinstance(runner, KeepingRunner):
        assert not runner.rows
    assert client.checked > 100
    assert max(sizes[1:]) < sizes[0] + 200_000  # bytes


def step(engine: Engine, runner: FakeRunner, rng: random.Random) -> None:
    """One that may fail as Ctrl-C makes it."""
    if rng.random() < 0.01:
        runner.fail[rng.choice(["start", "wait"])] = KeyboardInterrupt()
    with contextlib.suppress(KeyboardInterrupt):
        engine.step()
    engine.pool.check()
