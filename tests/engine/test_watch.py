"""What `on_step` is told, worked out by hand for a device without one."""

import itertools
import logging
from typing import Any

import pytest

from ovgen.config import EngineConfig, SamplingParams
from ovgen.engine.engine import Engine
from ovgen.engine.request import Request
from ovgen.metrics import StepMetrics
from tests.engine.fake import FakeRunner, LateRunner, NoText


def engine_of(runner: FakeRunner, **options: Any) -> Engine:
    config = EngineConfig(max_num_batched_tokens=options.pop("budget", 512), **options)
    return Engine(runner, config, 100, frozenset())


def submit(engine: Engine, prompt: list[int], tokens: int, **options: Any) -> Request:
    request = engine.prepare(prompt, SamplingParams(max_new_tokens=tokens, **options), NoText)
    engine.submit(request)
    return request


def run(engine: Engine, *requests: Request) -> list[StepMetrics]:
    told: list[StepMetrics] = []
    engine.watch.hook = told.append
    while not all(request.done for request in requests):
        engine.step()
    engine.drain()
    return told


def test_what_steps_are_said_to_have_done() -> None:
    engine = engine_of(FakeRunner(), budget=6, max_num_seqs=2)
    told = run(engine, submit(engine, [1] * 9, 3), submit(engine, [2], 2), submit(engine, [3], 1))
    figures = [(s.number, s.requests, s.tokens, s.generated, s.running, s.waiting) for s in told]
    assert figures == [
        (1, 1, 6, 0, 1, 2),  # six of the nine tokens of the first prompt
        (2, 2, 4, 2, 2, 1),  # the other three, and the second prompt
        (3, 2, 2, 2, 1, 1),  # which gets its last token here
        (4, 2, 2, 2, 0, 0),  # so that the third has its turn, and ends together with the first
    ]
    assert sum(s.generated for s in told) == 3 + 2 + 1
    assert [s.blocks for s in told] == [2, 3 + 1, 3, 0]  # of four tokens
    assert all(s.preempted == 0 for s in told)


def test_times_are_in_order() -> None:
    engine = engine_of(LateRunner(1, lambda number, tokens: None))
    told = run(engine, submit(engine, [1, 2, 3], 5))
    assert len(told) == 5
    for before, step in itertools.pairwise(told):
        assert before.started <= before.landed <= step.started <= step.landed
    assert all(0 <= s.waited <= s.landed - s.started for s in told)


def test_guesses_count_as_computed_and_those_that_were_right_as_generated() -> None:
    engine = engine_of(FakeRunner())
    request = submit(engine, [1, 2, 3] * 6, 12, prompt_lookup_num_tokens=3)
    told = run(engine, request)
    assert sum(s.generated for s in told) == request.metrics.generated_tokens == 12
    known = len(request.prompt) + 12 - 1  # the last token is never computed
    wrong = request.metrics.drafted_tokens - request.metrics.accepted_tokens
    assert sum(s.tokens for s in told) == known + wrong
    assert request.metrics.drafted_tokens > 0


def test_who_gave_way_is_told_once() -> None:
    engine = engine_of(FakeRunner(), cache_size=8 / 1024)  # eight blocks, of four tokens and a MiB each
    first, second = submit(engine, [1] * 14, 6), submit(engine, [2] * 12, 8)
    told = run(engine, first, second)
    assert sum(s.preempted for s in told) == engine.metrics.preemptions >= 1
    assert any(s.waiting for s in told)


def test_a_hook_that_comes_late_is_not_told_what_was_before() -> None:
    engine = engine_of(FakeRunner())
    request = submit(engine, [1, 2, 3], 6)
    engine.step()
    engine.step()
    told = run(engine, request)
    assert told[0].number == 1 + engine.metrics.steps - len(told) > 1
    assert told[0].generated == 1


def test_a_hook_that_fails_is_reported_and_not_called_again(caplog: pytest.LogCaptureFixture) -> None:
    engine = engine_of(FakeRunner())
    request = submit(engine, [1, 2, 3], 4)
    calls = []

    def hook(step: StepMetrics) -> None:
        calls.append(step)
        raise ZeroDivisionError("no reason")

    engine.watch.hook = hook
    with caplog.at_level(logging.ERROR, "ovgen"):
        while not request.done:
            engine.step()
    assert request.finish_reason == "length"
    assert len(request.sequence.tokens) == 7
    assert len(calls) == 1
    assert engine.watch.hook is None
    assert "on_step failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text
