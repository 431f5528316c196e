"""Host time of a step, everything that Python does between two inferences, and what steps in flight make of it."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from ovgen.config import EngineConfig, SamplingParams
from ovgen.engine.engine import Engine
from ovgen.graph import build_model, read_config
from ovgen.graph.passes import to_paged
from ovgen.loader import load
from ovgen.resources import bundled_model
from ovgen.runtime.forms import Runners
from ovgen.runtime.paged import PagedRunner
from ovgen.runtime.runner import Chunk
from ovgen.runtime.windows import attention_windows
from ovgen.sampling import Choice
from ovgen.weights import open_checkpoint
from tests.engine.fake import FakeRunner, LateRunner, NoText
from tests.tiny_models import make

Benchmark = Callable[[Callable[[], None]], None]
CONTEXT = 1_000_000


class Instant:
    """An infer request that takes no time: its tensors are real, and it never computes."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def start_async(self) -> None: ...

    def wait(self) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


@pytest.mark.parametrize("requests", [1, 16, 64])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "top_k": 50, "top_p": 0.95}], ids=["greedy", "sampled"])
def test_host_time_per_step(
    benchmark: BenchmarkFixture, tmp_path: Path, requests: int, sampling: dict[str, Any]
) -> None:
    folder = make("gpt2", tmp_path, vocab_size=50_257)
    model = build_model(read_config(folder), open_checkpoint(folder))
    runner = Runners(model, ["CPU"], {}, "paged", EngineConfig(), CONTEXT).make()
    assert isinstance(runner, PagedRunner)
    engine = Engine(runner, EngineConfig(), CONTEXT, frozenset())
    for i in range(requests):
        engine.submit(engine.prepare([i + 1] * 8, SamplingParams(**sampling), NoText))
    engine.step()
    engine.step()
    engine.drain()
    (lane,) = runner._lanes
    graph = lane.graphs[0]  # a lane takes its request from the graph at each step
    graph.request = Instant(graph.request)
    # As many steps whatever each takes: they become slower as the texts become longer.
    benchmark.pedantic(engine.step, rounds=300, warmup_rounds=20)  # type: ignore[no-untyped-call]


class Idle(FakeRunner):
    """A device that takes no time and has nothing to say."""

    vocab_size = 8
    block_size = 32

    def start(self, chunks: Sequence[Chunk]) -> None:
        self._rows = np.zeros((sum(chunk.rows for chunk in chunks), self.vocab_size), np.float32)

    def wait(self) -> NDArray[np.float32]:
        return self._rows

    def resize(self, num_blocks: int) -> None: ...

    def copy_block(self, source: int, target: int) -> None: ...


@pytest.mark.parametrize("requests", [1, 16, 64])
def test_bookkeeping_per_step(benchmark: Benchmark, requests: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scheduling a step, its chunks, and what its tokens change: neither the device, nor sampling, nor text."""
    engine = Engine(Idle(), EngineConfig(cache_size=1000), CONTEXT, frozenset())
    for _ in range(requests):
        engine.submit(engine.prepare([1] * 40, SamplingParams(), NoText))
    engine.step()
    engine.step()
    choice = Choice(1, None)
    monkeypatch.setattr(engine._sampler, "choose", lambda row, state: choice)

    def step() -> None:
        engine._land()
        engine._launch()
        engine._unemitted.clear()

    benchmark(step)


# What a step of n tokens takes: a device that is bound by reading the weights, and one that is bound by computing.
DEVICES: dict[str, Callable[[int], float]] = {"weights": lambda tokens: 4e-3, "tokens": lambda tokens: tokens * 5e-4}


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("host", [1e-4, 5e-4], ids=["host-fast", "host-slow"])
@pytest.mark.parametrize("device", DEVICES)
def test_tokens_with_steps_in_flight(
    benchmark: Benchmark, device: str, host: float, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 requests of 20 tokens; each token costs the host some time besides that of the engine."""
    seconds = DEVICES[device]
    config = EngineConfig(max_num_seqs=16)
    engine = Engine(LateRunner(depth, lambda number, tokens: time.sleep(seconds(tokens))), config, 100, frozenset())
    original = engine._results.commit

    def commit(plan: Any, *arguments: Any) -> Any:
        time.sleep(host * len(plan.items))
        return original(plan, *arguments)

    monkeypatch.setattr(engine._results, "commit", commit)
    benchmark(lambda: generate(engine, 16, 20))


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("requests", [1, 4, 16])
def test_bundled_model_with_steps_in_flight(benchmark: Benchmark, requests: int, depth: int) -> None:
    model = load(bundled_model()).build()
    runner = PagedRunner(to_paged(model, attention_windows(model)), "CPU", {}, depth)
    engine = Engine(runner, EngineConfig(), CONTEXT, frozenset())
    benchmark(lambda: generate(engine, requests, 32))


def generate(engine: Engine, requests: int, count: int) -> None:
    """Compute some requests from beginning to end."""
    params = SamplingParams(max_new_tokens=count)
    running = [engine.prepare([i + 1] * 4, params, NoText) for i in range(requests)]
    for request in running:
        engine.submit(request)
    while not all(request.done for request in running):
        engine.step()
    engine.drain()
