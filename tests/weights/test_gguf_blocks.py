"""Blocks of ggml against the `gguf` package's own reading of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, quants
from gguf import GGMLQuantizationType as Stored
from numpy.typing import NDArray

from ovgen.weights import Compressed, Weight
from ovgen.weights.gguf.blocks import KINDS, OTHER_KINDS, load

POOL = ThreadPoolExecutor(2)
CODES = {kind.name: code for code, kind in KINDS.items()}
BLOCKS = [kind.name for kind in KINDS.values() if kind.unpack is not None]
GROUPS = {"Q8_0": ("i8", 32), "Q4_0": ("i4", 32), "Q4_1": ("u4", 32), "Q5_0": ("i8", 32), "Q5_1": ("u8", 32)}
GROUPS |= {"Q4_K": ("u4", 32), "Q5_K": ("u8", 32), "Q6_K": ("i8", 16)}
EXACT = ("Q8_0", "Q4_0", "Q5_0")
ROWS, COLUMNS = 160, 2560  # more than is unpacked at once

rng = np.random.RandomState(0)


def blocks(name: str, rows: int = ROWS, columns: int = COLUMNS) -> NDArray[np.uint8]:
    """Random blocks ``(rows, bytes)``: any codes, with steps and offsets as models have them."""
    size, nbytes = GGML_QUANT_SIZES[Stored(CODES[name])]
    raw = rng.randint(0, 256, (rows * columns // size, nbytes)).astype(np.uint8)
    for at in {"Q6_K": (208,), "Q4_1": (0, 2), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2)}.get(name, (0,)):
        numbers = rng.uniform(1e-4, 1e-2, len(raw)) * (1 if at == 0 or name.endswith("K") else -8)
        raw[:, at : at + 2] = numbers.astype(np.float16)[:, None].view(np.uint8)
    return raw.reshape(rows, -1)


def reference(name: str, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    return quants.dequantize(raw, Stored(CODES[name])).astype(np.float32)


def repacked(name: str, raw: NDArray[np.uint8]) -> Compressed:
    size, nbytes = GGML_QUANT_SIZES[Stored(CODES[name])]
    loaded = load(raw.reshape(-1), KINDS[CODES[name]], (len(raw), raw.shape[1] // nbytes * size), POOL)
    assert isinstance(loaded, Compressed)
    return loaded


def tolerance(name: str, raw: NDArray[np.uint8]) -> Any:
    """What rounding scale and zero point to float16 may cost, ``(rows, columns)``; 0 where nothing is rounded.

    float16 has 11 bits: half a unit in the last place is 2^-11 of a number, or 2^-25 if it is very small.
    """
    if name in EXACT:
        return 0.0
    flat = raw.reshape(-1, GGML_QUANT_SIZES[Stored(CODES[name])][1])
    value = np.abs(reference(name, raw))
    if name == "Q6_K":
        return 2**-11 * value + 32 * 2**-25
    offset = flat[:, 2:4].view(np.float16).astype(np.float32)  # (blocks, 1)
    if name.endswith("K"):
        offset = offset * quants.Q4_K.get_scale_min(flat[:, 4:16])[1].reshape(-1, 8)
    largest = np.abs(offset).repeat(32, axis=-1).reshape(value.shape)
    return 2**-11 * (value + 2 * largest) * 1.01 + 31 * 2**-24  # code * step is at most value + offset


@pytest.mark.parametrize("name", BLOCKS)
def test_values_are_those_of_the_package(name: str) -> None:
    raw = blocks(name)
    matrix = repacked(name, raw)
    dtype, group = GROUPS[name]
    assert (matrix.dtype, matrix.shape) == (dtype, (ROWS, COLUMNS))
    assert matrix.scale.shape == (ROWS, COLUMNS // group)
    assert (np.abs(matrix.to_f32() - reference(name, raw)) <= tolerance(name, raw)).all()


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_values_that_the_package_quantised(name: str) -> None:
    values = (rng.standard_normal((32, 256)) * 0.05).astype(np.float32)
    values[0] = 0  # blocks without a step
    values[1] = 0.03  # blocks without a step, but with an offset
    raw = quants.quantize(values, Stored(CODES[name]))
    ours = repacked(name, raw).to_f32()
    assert (np.abs(ours - reference(name, raw)) <= tolerance(name, raw)).all()
    assert not ours[0].any()


@pytest.mark.parametrize("name", ["Q4_1", "Q4_K", "Q5_1", "Q5_K"])
@pytest.mark.parametrize("step", [0.0, 1e-7, 1e-5])
def test_steps_that_vanish_beside_the_offset(name: str, step: float) -> None:
    """The zero point, offset / step, would not be a number: every value is as good as the offset."""
    raw = blocks(name, 4, 512)
    flat = raw.reshape(-1, GGML_QUANT_SIZES[Stored(CODES[name])][1])
    flat[:, :2] = np.full((len(flat), 1), step, np.float16).view(np.uint8)
    expected = reference(name, raw)
    allowed = np.abs(expected) * 2**-9 + 31 * 2**-23
    assert (np.abs(repacked(name, raw).to_f32() - expected) <= allowed).all()


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_that_are_no_matrix_become_numbers(name: str) -> None:
    raw = blocks(name, 6, 512)
    for shape in ((6 * 512,), (2, 3, 512)):
        loaded = load(raw.reshape(-1), KINDS[CODES[name]], shape, POOL)
        assert isinstance(loaded, Weight)
        assert loaded.shape == shape
        allowed = tolerance(name, raw)
        assert (np.abs(loaded.to_f32().reshape(6, 512) - reference(name, raw)) <= allowed).all()


def test_all_kinds_have_ggml_s_numbers_and_sizes() -> None:
    for code, kind in KINDS.items():
        assert Stored(code).name == kind.name
        assert GGML_QUANT_SIZES[Stored(code)] == (kind.values, kind.layout.itemsize)
    assert {code: Stored(code).name for code in OTHER_KINDS} == OTHER_KINDS
    assert not OTHER_KINDS.keys() & KINDS.keys()
