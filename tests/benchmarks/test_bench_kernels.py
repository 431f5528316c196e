"""How long the native kernels take for the layers of small models. Run with ``--benchmark-enable --benchmark-only``."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import cycle

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from ovgen.weights.compressed import Bits
from tests.kernels.cases import FORMATS, compressed, floats
from tests.kernels.compiling import users_library
from tests.kernels.library import Library
from tests.kernels.twin import Shape

CACHES = 64 << 20  # bytes: more than the caches of most CPUs hold
LAYERS = {
    "gpt2-qkv": Shape(768, 128, (2304,), "int4", bias=True),
    "gpt2-up": Shape(768, 128, (3072,), "int4", bias=True, activation="gelu_tanh"),
    "gpt2-down": Shape(3072, 128, (768,), "int4", bias=True),
    "llama-qkv": Shape(576, 64, (576, 192, 192), "int4"),
    "llama-gate-up": Shape(576, 64, (1536, 1536), "int4", gated=True, activation="silu"),
    "llama-head": Shape(576, 64, (49152,), "int4"),
}


@pytest.fixture(scope="module")
def library(home: None) -> Library:
    return users_library()


@cache
def packed_layer(library: Library, shape: Shape) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    biases = [np.zeros(rows, np.float32) for rows in shape.rows]
    if shape.floats:
        return library.pack(shape, [floats(rng, rows, shape.columns, shape.format) for rows in shape.rows], biases)
    dtype: Bits = "i4" if shape.bits == 4 else "i8"
    return library.pack(
        shape, [compressed(rng, rows, shape.columns, shape.group, dtype) for rows in shape.rows], biases
    )


@pytest.mark.parametrize("tokens", [1, 2, 4, 8, 16, 128, 512])
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("layer", LAYERS)
def test_linear(benchmark: BenchmarkFixture, library: Library, layer: str, kind: str, tokens: int) -> None:
    """Weights come from memory, as in a model of many layers: copies of them take turns."""
    shape = replace(LAYERS[layer], format=kind)
    shape = replace(shape, group=shape.columns) if shape.floats else shape
    packed = packed_layer(library, shape)
    copies = [packed] if benchmark.disabled else [packed.copy() for _ in range(CACHES // packed.nbytes + 1)]
    turns = cycle(copies)
    x = np.random.default_rng(1).normal(size=(tokens, shape.columns)).astype(np.float32)
    outputs = [np.full((tokens, rows), np.nan, np.float32) for rows in shape.outputs]

    benchmark(lambda: library.multiply(library.chosen(), shape, next(turns), x, outputs, 0))
    if benchmark.stats:
        benchmark.extra_info["GB/s of weights"] = packed.nbytes / benchmark.stats.stats.median / 1e9
    assert all(np.isfinite(y).all() for y in outputs)
