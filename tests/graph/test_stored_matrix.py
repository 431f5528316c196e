"""Which patterns of decompression are taken for a compressed matrix, and that what is taken means what it says."""

from __future__ import annotations

import numpy as np
import openvino as ov
import openvino.opset15 as op
import pytest
from numpy.typing import NDArray

from ovgen.graph.compressed import stored_matrix
from ovgen.weights import Compressed

ROWS, COLUMNS = 6, 64
RNG = np.random.default_rng(0)
SCALES = RNG.uniform(0.5, 1.5, (ROWS, 1)).astype(np.float16)


def codes(kind: ov.Type, columns: int = COLUMNS) -> ov.Node:
    numbers = RNG.integers(0, 8, (ROWS, columns))
    return op.constant(numbers.astype(np.uint8) if kind.bitwidth == 4 else numbers, kind)


def centred(x: ov.Node, zeros: ov.Node) -> ov.Node:
    return op.subtract(x, op.convert(zeros, "f16"))


def scaled(x: ov.Node) -> ov.Node:
    return op.multiply(x, op.constant(SCALES))


def found(node: ov.Node) -> Compressed | None:
    stored = stored_matrix(op.convert(node, "f32").output(0))
    return stored[1] if stored is not None and isinstance(stored[1], Compressed) else None


def computed(node: ov.Node) -> NDArray[np.float32]:
    model = ov.Model([op.result(op.convert(node, "f32"))], [], "constant")
    return np.array(ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})({})[0])


@pytest.mark.parametrize("kind", [ov.Type.u8, ov.Type.i8, ov.Type.u4, ov.Type.i4], ids=str)
@pytest.mark.parametrize("zeros", [ov.Type.u8, ov.Type.i8, ov.Type.u4, ov.Type.i4, ov.Type.i32, ov.Type.f32], ids=str)
def test_zero_points_of_any_type(kind: ov.Type, zeros: ov.Type) -> None:
    numbers = RNG.integers(0, 8, (ROWS, 1)) - (0 if zeros in (ov.Type.u8, ov.Type.u4) else 4)
    constant = op.constant(numbers.astype(np.int8 if zeros == ov.Type.i4 else zeros.to_dtype()), zeros)
    node = scaled(centred(op.convert(codes(kind), "f16"), constant))
    matrix = found(node)
    assert matrix is not None
    np.testing.assert_allclose(matrix.to_f32(), computed(node), rtol=2e-3)


def test_one_zero_point_for_all() -> None:
    node = scaled(centred(op.convert(codes(ov.Type.u8), "f16"), op.constant(np.array([[3]], np.uint8))))
    matrix = found(node)
    assert matrix is not None
    np.testing.assert_allclose(matrix.to_f32(), computed(node), rtol=2e-3)


def test_what_is_scaled_before_it_is_centred_is_something_else() -> None:
    zeros = op.constant(np.full((ROWS, 1), 3, np.uint8))
    assert found(centred(scaled(op.convert(codes(ov.Type.u8), "f16")), zeros)) is None


def test_zero_points_of_columns_are_something_else() -> None:
    zeros = op.constant(RNG.integers(0, 9, (1, COLUMNS)).astype(np.uint8))
    assert found(scaled(centred(op.convert(codes(ov.Type.u8), "f16"), zeros))) is None


def test_zero_points_that_float16_does_not_hold_are_something_else() -> None:
    zeros = op.constant(np.full((ROWS, 1), 3.0001, np.float32))
    assert found(scaled(centred(op.convert(codes(ov.Type.u8), "f16"), zeros))) is None


@pytest.mark.parametrize("kind", [ov.Type.u4, ov.Type.i4], ids=str)
def test_rows_that_begin_within_a_byte_are_not_taken(kind: ov.Type) -> None:
    assert found(scaled(op.convert(codes(kind, 33), "f16"))) is None
