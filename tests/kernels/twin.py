"""What the kernels do, in numpy, for their tests: the format of packed matrices and the arithmetic on them.

Written from `kernels/cpu/packed.h` and `api.h`, not from the C++ that implements them, and for clarity: float32 only
where a result is defined by it, float64 elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ovgen.weights import Compressed, Weight
from ovgen.weights.compressed import unpack_nibbles

__all__ = [
    "ACTIVATIONS",
    "Matrix",
    "Output",
    "Shape",
    "activate",
    "embedding",
    "linear",
    "pack",
    "quantise",
    "unpack",
]

ACTIVATIONS = ("none", "relu", "gelu_tanh", "gelu_erf", "silu")

_PANEL, _BLOCK, _PIECE = 8, 32, 128  # rows, columns, columns
_FLOATS = {"f16": np.float16, "bf16": np.uint16, "f32": np.float32}
_UNIT = np.finfo(np.float32).eps / 2  # the relative error of a rounding
_STEP = float(np.finfo(np.float32).smallest_subnormal)  # and the absolute one, of the smallest numbers


@dataclass(frozen=True)
class Shape:
    """What a packed matrix is: the fields of ``OvgenShape``."""

    columns: int
    group: int
    rows: tuple[int, ...]
    format: str  # int4, int8, f16, bf16, f32
    zero_points: bool = False
    bias: bool = False
    gated: bool = False
    activation: str = "none"

    @property
    def bits(self) -> int:
        """Of a code."""
        return int(self.format.removeprefix("int"))

    @property
    def floats(self) -> bool:
        """Whether weights are not codes."""
        return not self.format.startswith("int")

    @property
    def groups(self) -> int:
        return self.columns // self.group

    @property
    def panels(self) -> tuple[int, ...]:
        """Of each projection."""
        return tuple(_up(rows, _PANEL) // _PANEL for rows in self.rows)

    @property
    def blocks(self) -> int:
        """Of a group."""
        return _up(self.group, _BLOCK) // _BLOCK

    @property
    def outputs(self) -> tuple[int, ...]:
        """The width of each."""
        return self.rows[:1] if self.gated else self.rows

    def plain(self) -> Shape:
        """The same without an activation."""
        return replace(self, gated=False, activation="none")

    def pieces(self) -> list[tuple[int, slice]]:
        """The group and the columns of each piece, in order."""
        starts = range(0, self.group, _PIECE)
        return [
            (group, slice(group * self.group + start, group * self.group + min(start + _PIECE, self.group)))
            for group in range(self.groups)
            for start in starts
        ]


class Matrix(NamedTuple):
    """A projection as it is packed: ``value = (code - zero) * scale``; floats are codes of scale 1."""

    codes: NDArray[Any]  # (rows, columns)
    scale: NDArray[np.float32]  # (rows, groups)
    zero: NDArray[np.float32]  # (rows, groups)
    bias: NDArray[np.float32]  # (rows)

    def values(self) -> NDArray[np.float32]:
        """(rows, columns)"""
        rows, groups = self.scale.shape
        offsets = self.codes.reshape(rows, groups, -1).astype(np.float32) - self.zero[:, :, None]
        return (offsets * self.scale[:, :, None]).reshape(rows, -1)


class Output(NamedTuple):
    """Results, and by how much float32 may miss them."""

    values: NDArray[np.float64]  # (tokens, rows)
    error: NDArray[np.float64]


def pack(
    shape: Shape, weights: Sequence[Compressed | Weight], biases: Sequence[NDArray[np.float32]] = ()
) -> NDArray[np.uint8]:
    """The packed bytes."""
    floats = [weight for weight in weights if isinstance(weight, Weight)]
    codes = [weight for weight in weights if isinstance(weight, Compressed)]
    if floats:
        parts = [_panels(shape, [_in_pairs(_lanes(weight.array), shape) for weight in floats])]
    else:
        parts = [_panels(shape, [_blocks(_codes(weight), shape) for weight in codes])]
        parts.append(_panels(shape, [_lanes(weight.scale) for weight in codes]))
    if shape.zero_points:
        parts.append(_panels(shape, [_lanes(_stored_zero(weight)) for weight in codes]))
    if shape.bias:
        parts.append(_panels(shape, [_lanes(bias.astype(np.float32)[:, None]) for bias in biases]))
    return np.concatenate([_fill(part.reshape(-1).view(np.uint8), 64, 0) for part in parts])


def unpack(shape: Shape, packed: NDArray[np.uint8]) -> list[Matrix]:
    """The projections of packed bytes."""
    total = sum(shape.panels)
    rest = packed

    def take(dtype: Any, *sizes: int) -> NDArray[Any]:
        nonlocal rest
        size = math.prod(sizes) * np.dtype(dtype).itemsize
        part, rest = rest[:size], rest[_up(size, 64) :]
        taken: NDArray[Any] = part.view(dtype).reshape(sizes)
        return taken

    def rows_first(numbers: NDArray[Any], number: int) -> NDArray[Any]:
        """``(panel, row, ...)`` of all projections -> ``(row, ...)`` of one."""
        first = sum(shape.panels[:number])
        panels = numbers[number::2] if shape.gated else numbers[first : first + shape.panels[number]]
        return panels.reshape(-1, *numbers.shape[2:])[: shape.rows[number]]

    if shape.floats:
        together = 2 if shape.format == "bf16" else 1  # columns that alternate
        stored = take(_FLOATS[shape.format], total, _up(shape.columns, together) // together, _PANEL, together)
        stored = stored.swapaxes(2, 3).reshape(total, -1, _PANEL)[:, : shape.columns]
        codes: NDArray[Any] = Weight(stored, shape.format.upper()).to_f32().swapaxes(1, 2)
        scale = np.ones((total, 1, _PANEL), np.float32)
        zero = np.zeros_like(scale)
    else:
        unsigned = shape.bits == 4
        units = take(np.uint8, total, shape.groups * shape.blocks, shape.bits, _PANEL, 4)  # there are 4 of them, or 8
        codes = np.stack([units & 15, units >> 4], axis=3) if unsigned else units.view(np.int8)
        # (panel, block, ..., row, byte) -> (panel, row, group, column) -> (panel, row, column)
        codes = np.moveaxis(codes, -2, 1).reshape(total, _PANEL, shape.groups, -1)[..., : shape.group]
        codes = codes.reshape(total, _PANEL, -1).astype(np.int64)
        sizes = (total, shape.groups, _PANEL)
        scale = take(np.float16, *sizes).astype(np.float32)
        zero = np.full_like(scale, 8 if unsigned else 0)
    if shape.zero_points:
        zero = take(np.float16, total, shape.groups, _PANEL).astype(np.float32) - np.float32(0 if unsigned else 128)
    bias = take(np.float32, total, _PANEL) if shape.bias else np.zeros((total, _PANEL), np.float32)
    parts = (codes, scale.swapaxes(1, 2), zero.swapaxes(1, 2), bias)
    return [Matrix(*(rows_first(part, number) for part in parts)) for number in range(len(shape.rows))]


def quantise(x: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """A piece of each token, ``(tokens, columns)`` -> codes of the same shape and a scale for each token."""
    most = np.abs(x).max(axis=1)  # NaN if there is one
    finite = np.isfinite(most)
    usable = finite & (most >= np.float32(1.5e-36))
    inverse = np.float32(127) / np.where(usable, most, np.float32(1))
    codes = np.rint(np.where(usable[:, None], x, np.float32(0)) * inverse[:, None])
    scale = np.where(usable, most / np.float32(127), np.where(finite, np.float32(0), np.float32(np.nan)))
    return codes.astype(np.int64), scale


def linear(shape: Shape, packed: NDArray[np.uint8], x: NDArray[np.float32]) -> list[Output]:
    """``(tokens, columns)`` times the matrix."""
    sums = [_sums(shape, matrix, x) for matrix in unpack(shape, packed)]
    if not shape.gated:
        return [activate(shape.activation, y) for y in sums]
    (gate, gate_error), (up, up_error) = activate(shape.activation, sums[0]), sums[1]
    product = gate * up
    error = np.abs(gate) * up_error + np.abs(up) * gate_error + gate_error * up_error
    return [Output(product, error + _UNIT * np.abs(product) + _STEP)]


def activate(name: str, x: Output) -> Output:
    """An activation function; the kernels' are good to 5e-7 of their input."""
    y, error = x
    if name == "none":
        return x
    if name == "relu":
        return Output(np.where(y < 0, 0.0, y), error)
    with np.errstate(over="ignore"):
        if name == "silu":
            result = y / (1 + np.exp(-y))
        elif name == "gelu_tanh":
            result = y / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
        else:
            result = y / 2 * np.vectorize(math.erfc, otypes=[float])(-y / math.sqrt(2))
    return Output(result, 1.2 * error + 5e-7 * np.abs(y) + _STEP)  # no slope is above 1.13


def embedding(shape: Shape, packed: NDArray[np.uint8], ids: Sequence[int]) -> NDArray[np.float32]:
    """Rows of the first projection; negative ids count from the end, and rows that are not there are zeros."""
    rows = shape.rows[0]
    table = unpack(shape, packed)[0].values()
    result = np.zeros((len(ids), shape.columns), np.float32)
    for place, number in enumerate(ids):
        if -rows <= number < rows:
            result[place] = table[number]
    return result


def _sums(shape: Shape, matrix: Matrix, x: NDArray[np.float32]) -> Output:
    """The products of one projection, before its activation."""
    if shape.floats:
        wide, numbers = x.astype(np.float64), matrix.codes.astype(np.float64)
        products: NDArray[np.float64] = wide @ numbers.T + matrix.bias
        size = np.abs(wide) @ np.abs(numbers).T + np.abs(matrix.bias)
        roundings = 2 * shape.columns + 1  # where a product is rounded before it is added
        return Output(products, (_UNIT * roundings * size + _STEP * roundings).astype(np.float64))
    y = np.zeros((len(x), len(matrix.codes)))
    size = np.zeros_like(y)  # of all that is added up, cancelled or not
    tiny = np.zeros_like(y)  # what numbers too small for float32 can lose
    pieces = shape.pieces()
    for group, columns in pieces:
        codes, scale = quantise(x[:, columns])
        dot = (codes @ matrix.codes[:, columns].T).astype(np.float64)
        offset = codes.sum(axis=1)[:, None] * matrix.zero[:, group].astype(np.float64)
        factor = scale.astype(np.float64)[:, None] * matrix.scale[:, group]
        y += factor * (dot - offset)
        size += np.abs(factor) * (np.abs(dot) + np.abs(offset))
        tiny += _STEP * (np.abs(dot) + np.abs(offset) + 1)
    # Of a piece, the zero point, its product, the difference, the scales' product, and the sum are rounded.
    return Output(y + matrix.bias, _UNIT * (len(pieces) + 6) * (size + np.abs(matrix.bias)) + tiny)


def _codes(weight: Compressed) -> NDArray[np.uint8]:
    """``(rows, columns)`` codes as the kernels know them."""
    if weight.bits == 4:
        return unpack_nibbles(weight.codes, signed=False) ^ np.uint8(8 if weight.dtype == "i4" else 0)
    return weight.codes.view(np.uint8) ^ np.uint8(0x80 if weight.dtype == "u8" else 0)


def _stored_zero(weight: Compressed) -> NDArray[np.float16]:
    """``(rows, groups)`` zero points of codes that start at 0."""
    zero = np.zeros(weight.scale.shape, np.float32) if weight.zero_point is None else weight.zero_point
    return (zero.astype(np.float32) + {"u8": 0, "i8": 128, "u4": 0, "i4": 8}[weight.dtype]).astype(np.float16)


def _blocks(codes: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
    """``(rows, columns)`` -> ``(panels, blocks, bytes)``."""
    grouped = _fill(codes.reshape(len(codes), shape.groups, shape.group), _BLOCK, 2)
    rows = _fill(grouped, _PANEL, 0).reshape(-1, _PANEL, grouped[0].size // _BLOCK, _BLOCK)
    units = rows.swapaxes(1, 2)  # (panel, block, row, column)
    if shape.bits == 4:
        units = units.reshape(*units.shape[:3], 4, 2, 4)  # column: unit, half, byte
        units = units[..., 0, :] | units[..., 1, :] << 4
    else:
        units = units.reshape(*units.shape[:3], 8, 4)
    return np.ascontiguousarray(units.swapaxes(2, 3)).reshape(*units.shape[:2], -1)


def _lanes(numbers: NDArray[Any]) -> NDArray[Any]:
    """``(rows, groups)`` -> ``(panels, groups, rows)``."""
    return _fill(numbers, _PANEL, 0).reshape(-1, _PANEL, numbers.shape[1]).swapaxes(1, 2)


def _in_pairs(lanes: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """``(panels, columns, rows)`` -> likewise, but of bfloat16 two columns alternate: ``(panels, pairs, rows, 2)``."""
    if shape.format != "bf16":
        return lanes
    return _fill(lanes, 2, 1).reshape(len(lanes), -1, 2, _PANEL).swapaxes(2, 3)


def _panels(shape: Shape, projections: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """One projection after the other, or their panels in turn."""
    return np.ascontiguousarray(np.stack(projections, axis=1) if shape.gated else np.concatenate(projections))


def _fill(array: NDArray[Any], unit: int, axis: int) -> NDArray[Any]:
    """With zeros, up to a multiple of a number."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, -array.shape[axis] % unit)
    return np.pad(array, widths)


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
