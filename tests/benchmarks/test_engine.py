"""Host time of a step: everything that Python does between two inferences."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ovgen.config import EngineConfig, SamplingParams
from ovgen.engine.loop import Engine
from ovgen.graph import build_model, read_config
from ovgen.runtime.forms import Runners
from ovgen.runtime.paged import PagedRunner
from ovgen.weights import open_checkpoint
from tests.engine.fake import NoText
from tests.tiny_models import make

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
    benchmark: Callable[[Callable[[], None]], None], tmp_path: Path, requests: int, sampling: dict[str, Any]
) -> None:
    folder = make("gpt2", tmp_path, vocab_size=50_257)
    model = build_model(read_config(folder), open_checkpoint(folder))
    runner = Runners(model, ["CPU"], {}, "paged", EngineConfig(), CONTEXT).make()
    assert isinstance(runner, PagedRunner)
    engine = Engine(runner, EngineConfig(), CONTEXT, frozenset())
    for i in range(requests):
        engine.submit(engine.prepare([i + 1] * 8, SamplingParams(**sampling), NoText()))
    engine.step()
    engine.step()
    engine.drain()
    runner._request = Instant(runner._request)
    benchmark(engine.step)
