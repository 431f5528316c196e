"""The paged form with several steps in flight, each in an infer request of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ovgen
from ovgen.config import EngineConfig, SamplingParams
from ovgen.engine.engine import Engine
from ovgen.engine.session import Session
from ovgen.errors import DeviceError
from ovgen.graph.passes import to_paged
from ovgen.loader import load
from ovgen.runtime.paged import PagedRunner
from ovgen.runtime.runner import Chunk
from ovgen.runtime.windows import attention_windows
from tests.conftest import F32
from tests.engine.fake import NoText

Make = Callable[[int], PagedRunner]
IDS = list(range(1, 41))


@pytest.fixture(scope="module")
def make(tiny_llama: Path) -> Make:
    graph = load(tiny_llama).build()
    windows = attention_windows(graph)
    return lambda depth: PagedRunner(to_paged(graph, windows), "CPU", F32, depth)


def alone(make: Make, *chunks: Chunk) -> NDArray[np.float32]:
    """The last chunk's logits, from a runner that computes one after the other."""
    runner = make(1)
    runner.resize(8)
    for chunk in chunks:
        runner.start([chunk])
        logits = runner.wait()
    return logits.copy()


def test_steps_in_flight_come_back_in_the_order_of_their_start(make: Make) -> None:
    runner = make(2)
    runner.resize(8)
    first, second = Chunk(0, IDS[:7], 0, [0], 3), Chunk(1, IDS[7:20], 0, [1], 2)
    third = Chunk(0, IDS[20:24], 7, [0], 4)
    runner.start([first])
    runner.start([second])
    logits = runner.wait()
    kept = logits.copy()
    expected = alone(make, first)
    np.testing.assert_array_equal(logits, expected)
    np.testing.assert_array_equal(runner.wait(), alone(make, second))
    np.testing.assert_array_equal(logits, kept)  # valid until the next start
    runner.start([third])
    np.testing.assert_allclose(runner.wait(), alone(make, first, third), atol=1e-5, rtol=0)


def test_memory_may_move_and_blocks_be_copied_while_steps_are_in_flight(make: Make) -> None:
    runner = make(2)
    runner.resize(4)
    past = Chunk(0, IDS[:20], 0, [0], 1)
    runner.start([past])
    runner.wait()
    others = [Chunk(1, IDS[:31], 0, [1], 1), Chunk(2, IDS[5:29], 0, [2], 1)]
    for chunk in others:
        runner.start([chunk])
    runner.resize(8)
    runner.copy_block(0, 7)
    for chunk in others:
        np.testing.assert_array_equal(runner.wait(), alone(make, chunk))
    more = Chunk(3, IDS[20:25], 20, [7], 5)
    runner.start([more])
    np.testing.assert_allclose(runner.wait(), alone(make, past, Chunk(0, IDS[20:25], 20, [0], 5)), atol=1e-5, rtol=0)


def test_waiting_with_nothing_in_flight_gives_no_rows(make: Make) -> None:
    runner = make(2)
    assert runner.wait().shape == (0, runner.vocab_size)


class Failing:
    """An infer request whose inference fails."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def wait(self) -> None:
        self._request.wait()
        raise RuntimeError("out of resources")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


def test_a_step_that_fails_leaves_the_others_alone(make: Make) -> None:
    runner = make(2)
    runner.resize(4)
    good = Chunk(1, IDS[:9], 0, [1], 1)
    graph = runner._lanes[0].graphs[0]
    graph.request = Failing(request := graph.request)
    runner.start([Chunk(0, IDS[:3], 0, [0], 1)])
    runner.start([good])
    with pytest.raises(DeviceError, match="out of resources"):
        runner.wait()
    graph.request = request
    runner.start([Chunk(0, IDS[:3], 0, [0], 1)])
    np.testing.assert_array_equal(runner.wait(), alone(make, good))
    np.testing.assert_array_equal(runner.wait(), alone(make, Chunk(0, IDS[:3], 0, [0], 1)))


@pytest.mark.parametrize("depth", [2, 3])
def test_the_engine_generates_the_same_at_any_depth(make: Make, depth: int) -> None:
    config = EngineConfig(max_num_batched_tokens=48, max_num_seqs=8)
    results: list[Any] = []
    for steps in (1, depth):
        engine = Engine(make(steps), config, 200, frozenset())
        requests = []
        for i in range(7):
            params = SamplingParams(max_new_tokens=30, temperature=i % 2, seed=i, logprobs=1)
            requests.append(engine.prepare(IDS[: 5 * i + 1], params, NoText))
            engine.submit(requests[-1])
        session = Session(engine, lambda: "m")
        logits = []
        while not all(request.done for request in requests):
            engine.step()
            if len(session) < 10:
                logits.append(session.forward([len(session)]))
        results.append(([r.sequence.tokens for r in requests], np.concatenate(logits)))
    assert results[1][0] == results[0][0]
    np.testing.assert_array_equal(results[1][1], results[0][1])


def test_a_cache_of_compiled_models_is_not_written_where_it_cannot_be_read(
    tiny_llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ovgen.LLM(tiny_llama, device_config={"CACHE_DIR": str(tmp_path / "cache")})
    assert "CACHE_DIR is not used" in caplog.text
    assert not (tmp_path / "cache").exists()
