"""How fast weights are read and compressed; files lie in the page cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ovgen.weights.compress import THREADS, compress
from ovgen.weights.compression import Scheme
from ovgen.weights.gguf.blocks import KINDS, load
from ovgen.weights.safetensors import read_safetensors
from ovgen.weights.weight import Weight
from tests.tiny_models import make
from tests.weights.test_gguf_blocks import BLOCKS, CODES, blocks

SHAPE = (2048, 1024)
SCHEMES = {"int8": Scheme(8, 1024, False), "int4": Scheme(4, 128, False), "int4-symmetric": Scheme(4, 64, True)}


def note_speed(benchmark: BenchmarkFixture, nbytes: int) -> None:
    """What the table says beside the time."""
    if benchmark.stats:
        benchmark.extra_info["MB/s"] = nbytes / benchmark.stats.stats.median / 1e6


@pytest.mark.parametrize("scheme", SCHEMES)
def test_compress(benchmark: BenchmarkFixture, scheme: str) -> None:
    """MB/s of float32 that are read."""
    source = Weight(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32), "F32")
    result = benchmark(compress, source, SCHEMES[scheme])
    assert result is not None
    note_speed(benchmark, source.nbytes)


@pytest.mark.parametrize("kind", BLOCKS)
def test_load_a_gguf_matrix(benchmark: BenchmarkFixture, kind: str) -> None:
    """MB/s of blocks that are read; their codes stay codes."""
    raw = blocks(kind, *SHAPE).reshape(-1)
    with ThreadPoolExecutor(THREADS) as pool:
        assert benchmark(load, raw, KINDS[CODES[kind]], SHAPE, pool).shape == SHAPE
    note_speed(benchmark, raw.nbytes)


@pytest.mark.parametrize("layers", [2, 200])
def test_open_safetensors(benchmark: BenchmarkFixture, layers: int, tmp_path: Path) -> None:
    """Header and checks: the numbers themselves are mapped, and not read."""
    folder = make("gpt2", tmp_path, n_layer=layers)
    tensors = benchmark(read_safetensors, folder / "model.safetensors")
    assert len(tensors) > 10 * layers


def test_read_safetensors_to_the_last_number(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    folder = make("gpt2", tmp_path, vocab_size=50_257)

    def read() -> int:
        weights = read_safetensors(folder / "model.safetensors").values()
        assert all(np.isfinite(weight.to_f32()).all() for weight in weights)
        return sum(weight.nbytes for weight in weights)

    note_speed(benchmark, benchmark(read))
