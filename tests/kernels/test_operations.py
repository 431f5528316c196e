"""The kernels as OpenVINO operations, in compiled models, against the twin."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as op
import pytest
from numpy.typing import NDArray

from ovgen.graph.passes.native import Projection
from ovgen.runtime.device import core
from ovgen.runtime.kernel_library import KernelLibrary, Packer
from ovgen.weights import Compressed, Weight
from ovgen.weights.compressed import Bits
from tests.kernels import twin
from tests.kernels.cases import ZEROS, assert_within, compressed, floats
from tests.kernels.library import Library
from tests.kernels.twin import ACTIVATIONS, Output, Shape

COLUMNS, GROUP = 64, 32


@pytest.fixture(scope="module")
def native(library: Library) -> Packer:
    return Packer(KernelLibrary(library.path))


def projections(dtype: Bits, zero: Any, rows: Sequence[int], biases: Sequence[bool]) -> list[Projection]:
    rng = np.random.default_rng(0)
    return [
        Projection(
            compressed(rng, size, COLUMNS, GROUP, dtype, zero),
            rng.normal(size=size).astype(np.float32) if bias else None,
        )
        for size, bias in zip(rows, biases, strict=True)
    ]


def expected(parts: Sequence[Projection], x: NDArray[np.float32], **options: Any) -> list[Output]:
    """Of the twin; ``x``: (tokens, columns)."""
    weights = [part.weight for part in parts]
    rows = tuple(weight.shape[0] for weight in weights)
    if isinstance(weights[0], Weight):
        shape = Shape(COLUMNS, COLUMNS, rows, weights[0].dtype.lower(), bias=True, **options)
    else:
        zeros = [w for w in weights if isinstance(w, Compressed) and (w.zero_point is not None or w.dtype[0] == "u")]
        shape = Shape(COLUMNS, GROUP, rows, f"int{weights[0].bits}", bool(zeros), bias=True, **options)
    biases = [np.zeros(part.weight.shape[0], "f4") if part.bias is None else part.bias for part in parts]
    return twin.linear(shape, twin.pack(shape, weights, biases), x)


def linear_model(native: Packer, parts: Sequence[Projection], rank: int, **options: Any) -> ov.Model:
    x = op.parameter([-1] * (rank - 1) + [COLUMNS], ov.Type.f32)
    packed = native.pack(parts, gated=options.pop("gated", False))
    return ov.Model([op.result(y) for y in native.linear(x.output(0), packed, **options)], [x])


def results(model: ov.Model, data: NDArray[Any]) -> list[NDArray[np.float32]]:
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [np.array(y) for y in compiled([data]).values()]


@pytest.mark.parametrize("zero", ZEROS)
@pytest.mark.parametrize("dtype", ["u4", "i4", "u8", "i8"])
def test_every_type_of_codes(native: Packer, dtype: Bits, zero: Any) -> None:
    parts = projections(dtype, zero, (10, 3), (True, False))
    x = np.random.default_rng(1).normal(size=(2, 3, COLUMNS)).astype(np.float32)
    outputs = results(linear_model(native, parts, 3), x)
    assert [y.shape for y in outputs] == [(2, 3, 10), (2, 3, 3)]
    assert_within([y.reshape(6, -1) for y in outputs], expected(parts, x.reshape(6, -1)), dtype)


@pytest.mark.parametrize("flipped", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize("kind", ["f16", "bf16", "f32"])
def test_floats(native: Packer, kind: str, flipped: bool) -> None:
    rng = np.random.default_rng(0)
    first, second = (floats(rng, rows, COLUMNS, kind, flipped=flipped) for rows in (10, 3))
    parts = [Projection(first, rng.normal(size=10).astype(np.float32)), Projection(second)]
    x = rng.normal(size=(7, COLUMNS)).astype(np.float32)
    assert_within(results(linear_model(native, parts, 2), x), expected(parts, x), kind)
    ids = op.parameter([-1], ov.Type.i64)
    rows = native.embedding(ids.output(0), native.pack(parts[:1]))
    (y,) = results(ov.Model([op.result(rows)], [ids]), np.array([9, 0, -1]))
    np.testing.assert_array_equal(y, first.to_f32()[[9, 0, 9]])


@pytest.mark.parametrize("gated", [False, True], ids=["apart", "gated"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(native: Packer, activation: str, gated: bool) -> None:
    parts = projections("i4", None, (9, 9), (False, False))
    x = np.random.default_rng(1).normal(size=(5, COLUMNS)).astype(np.float32)
    outputs = results(linear_model(native, parts, 2, activation=activation, gated=gated), x)
    assert_within(outputs, expected(parts, x, activation=activation, gated=gated), activation)


def test_one_model_takes_any_number_of_tokens(native: Packer) -> None:
    parts = projections("u4", np.uint8, (30,), (True,))
    compiled = core().compile_model(linear_model(native, parts, 2), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for tokens in (1, 40, 0, 3):
        x = np.random.default_rng(tokens).normal(size=(tokens, COLUMNS)).astype(np.float32)
        outputs = [np.array(y) for y in compiled([x]).values()]
        assert outputs[0].shape == (tokens, 30)
        assert_within(outputs, expected(parts, x), f"{tokens} tokens")


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_embedding(native: Packer, dtype: Any) -> None:
    (part,) = parts = projections("u8", np.uint8, (50,), (False,))
    ids = op.parameter([-1, -1], dtype)
    rows = native.embedding(ids.output(0), native.pack(parts))
    (y,) = results(ov.Model([op.result(rows)], [ids]), np.array([[0, 49, 7], [-1, -50, 8]], dtype))
    np.testing.assert_array_equal(y, part.weight.to_f32()[[[0, 49, 7], [49, 0, 8]]])


def test_a_saved_model_computes_the_same(native: Packer, tmp_path: Path) -> None:
    parts = projections("u4", np.float16, (30, 30), (True, False))
    model = linear_model(native, parts, 2, activation="silu", gated=True)
    x = np.random.default_rng(0).normal(size=(4, COLUMNS)).astype(np.float32)
    ov.serialize(model, tmp_path / "model.xml")
    assert_same = np.testing.assert_array_equal
    assert_same(results(core().read_model(tmp_path / "model.xml"), x), results(model, x))


def resident(array: NDArray[Any]) -> int:
    """Kilobytes in memory of the mapping that an array lies in."""
    found = False
    for line in Path("/proc/self/smaps").read_text(errors="replace").splitlines():
        name, *values = line.split()
        if not name.endswith(":"):
            begin, end = (int(part, 16) for part in name.split("-"))
            found = begin <= array.ctypes.data < end
        elif found and name == "Rss:":
            return int(values[0])
    raise AssertionError("it is not mapped")


@pytest.mark.parametrize("written", [False, True], ids=["read", "written"])
def test_mapped_files_are_given_back_unless_they_were_written_to(native: Packer, tmp_path: Path, written: bool) -> None:
    numbers = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
    numbers.tofile(tmp_path / "weights")
    with (tmp_path / "weights").open("rb") as file:
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.float32).reshape(1024, 1024)
    if written:
        numbers[0, 0] = mapped[0, 0] = 5
    native.pack([Projection(Weight(mapped, "F32"))])
    native.release()
    assert resident(mapped) == (4096 if written else 0)
    np.testing.assert_array_equal(mapped, numbers)
