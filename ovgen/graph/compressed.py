"""Compressed matrices as nodes, in the pattern that NNCF writes and that plugins keep compressed in memory.

    codes ── Convert f16 ── Subtract ── Multiply ── (Reshape) ── Convert f32
                               │            │
              zero points ── Convert f16   scales f16

With several groups a row, codes are ``(rows, groups, group)`` and the Reshape joins the groups. A float16 zero point
goes into the Subtract without a Convert; without zero points there is no Subtract.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import openvino as ov
import openvino.opset15 as op
from numpy.typing import NDArray

from ovgen.errors import UnsupportedModelError
from ovgen.weights import Compressed, Weight
from ovgen.weights.compressed import Bits, unpack_nibbles

__all__ = ["decompressed", "stored_matrix"]

_TYPES = {"u8": ov.Type.u8, "i8": ov.Type.i8, "u4": ov.Type.u4, "i4": ov.Type.i4}


def decompressed(name: str, matrix: Compressed) -> ov.Node:
    """The matrix as an f32 node ``(rows, columns)``; ``name`` becomes that of the constant with the codes.

    8-bit codes are shared with the array, 4-bit codes are copied.

    Raises:
        UnsupportedModelError: the matrix meant is the transpose of what is stored.
    """
    if matrix.flipped:
        raise UnsupportedModelError(f"tensor {name!r} has its groups along the outputs, not along the inputs")
    rows, columns = matrix.shape
    groups = matrix.scale.shape[1]
    sizes = [rows, columns] if groups == 1 else [rows, groups, columns // groups]
    of_groups = [rows, 1] if groups == 1 else [rows, groups, 1]

    x = _named(op.convert(_named(_constant(matrix.codes, matrix.dtype, sizes), name), "f16"), f"{name}/codes")
    if matrix.zero_point is not None:
        x = _named(op.subtract(x, _zero_point(name, matrix.zero_point, matrix.bits, of_groups)), f"{name}/centred")
    scale = _named(op.constant(matrix.scale.reshape(of_groups), shared_memory=True), f"{name}/scale")
    x = _named(op.multiply(x, scale), f"{name}/scaled")
    if groups > 1:
        x = _named(op.reshape(x, op.constant(np.array([rows, columns], np.int64)), False), f"{name}/rows")
    return _named(op.convert(x, "f32"), f"{name}/f32")


def _zero_point(name: str, zeros: NDArray[Any], bits: int, shape: list[int]) -> ov.Node:
    if zeros.dtype == np.float16:
        return _named(op.constant(zeros.reshape(shape), shared_memory=True), f"{name}/zero_point")
    constant = _constant(zeros, "u8", shape) if bits == 8 else _constant(_packed(zeros), "u4", shape)
    return _named(op.convert(_named(constant, f"{name}/zero_point"), "f16"), f"{name}/zero_point_f16")


def _named(node: ov.Node, name: str) -> ov.Node:
    node.set_friendly_name(name)
    return node


def _constant(array: NDArray[Any], dtype: str, shape: list[int]) -> ov.Node:
    if dtype in ("u8", "i8"):
        return op.constant(array.reshape(shape), shared_memory=True)
    # A constant that shared the memory of such a tensor would not keep it alive.
    return op.constant(ov.Tensor(array, shape, _TYPES[dtype]), shared_memory=False)


def _packed(numbers: NDArray[Any]) -> NDArray[Any]:
    """Numbers below 16, two in a byte, the first in the lower half; an odd last one alone."""
    flat = np.append(numbers.reshape(-1), np.zeros(numbers.size % 2, np.uint8))
    packed: NDArray[Any] = flat[::2] | flat[1::2] << 4
    return packed


def stored_matrix(output: ov.Output) -> tuple[str, Weight | Compressed] | None:
    """What an f32 output ``(rows, columns)`` is made from, with the name of the constant; None if that is not known.

    It reads what `decompressed` and NNCF write, and constants that are, or are not, converted to f32. The arrays are
    those of the constants, and keep them alive.
    """
    steps: dict[str, ov.Node] = {}
    node = output.get_node()
    while node.get_type_name() in ("Convert", *_ORDER):
        kind = node.get_type_name()
        if kind != "Convert":
            if any(_ORDER.index(kind) <= _ORDER.index(above) for above in steps):
                return None  # scaled twice, say, or scaled first
            steps[kind] = node
        node = node.input_value(0).get_node()
    shape = output.get_partial_shape()
    if node.get_type_name() != "Constant" or len(shape) != 2:
        return None
    name = node.get_friendly_name().removesuffix("_compressed")  # as OpenVINO calls what it stores in float16
    kind, arithmetic = node.get_element_type().to_string(), [steps.get("Multiply"), steps.get("Subtract")]
    if arithmetic == [None, None]:
        return (name, _weight(node)) if kind in _FLOATS else None
    scale, zeros = (None if step is None else _numbers(step.input_value(1).get_node()) for step in arithmetic)
    if scale is None or scale.dtype != np.float16 or kind not in _TYPES or (zeros is None) != ("Subtract" not in steps):
        return None
    rows = shape[0].get_length()
    if scale.ndim < 2 or scale.shape[0] != rows or scale.shape[-1] != 1:
        return None  # one for all, or one a column
    if zeros is not None:
        zeros = _zeros(zeros, scale.shape)
        if zeros is None:
            return None
    columns = shape[1].get_length()
    if kind in ("u4", "i4") and columns % 2:
        return None  # rows begin in the middle of a byte
    per_group = (rows, scale.size // rows)
    zeros = None if zeros is None else zeros.reshape(per_group)
    codes = node.data if kind in ("u8", "i8") else node.data.view(np.uint8)
    return name, Compressed(codes.reshape(rows, -1), cast(Bits, kind), scale.reshape(per_group), zeros)


def _zeros(zeros: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Zero points as `Compressed` holds them; None if it cannot, or if there is not one for each scale."""
    if zeros.dtype not in (np.uint8, np.float16):
        halves = zeros.astype(np.float16)
        if not np.array_equal(halves, zeros):
            return None
        zeros = halves
    try:
        return np.broadcast_to(zeros, shape)
    except ValueError:  # one for each column, say
        return None


_ORDER = ("Reshape", "Multiply", "Subtract")  # from the matrix down to the codes
_FLOATS = {"f32": "F32", "f16": "F16", "bf16": "BF16"}


def _weight(constant: ov.Node) -> Weight:
    dtype = _FLOATS[constant.get_element_type().to_string()]
    return Weight(constant.data.view(np.uint16) if dtype == "BF16" else constant.data, dtype)


def _numbers(node: ov.Node) -> NDArray[Any] | None:
    """The constant under a Convert or none, 4-bit numbers a byte each; None if there is no constant."""
    while node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        return None
    kind = node.get_element_type()
    if kind not in (ov.Type.u4, ov.Type.i4):
        return cast("NDArray[Any]", node.data)
    numbers = unpack_nibbles(node.data.view(np.uint8).reshape(1, -1), signed=kind == ov.Type.i4)
    shape = node.get_output_shape(0)
    return numbers.reshape(-1)[: int(np.prod(shape))].reshape(shape)
