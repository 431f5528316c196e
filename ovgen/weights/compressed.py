"""One matrix in 8 or 4 bits, as OpenVINO takes compressed weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bits", "Compressed", "unpack_nibbles"]

Bits: TypeAlias = Literal["u8", "i8", "u4", "i4"]
"""OpenVINO's names of what a code can be."""


@dataclass(frozen=True, slots=True, eq=False)
class Compressed:
    """A matrix whose rows are cut into groups: ``value = (code - zero_point) * scale``, both per group.

    Attributes:
        codes: ``(rows, columns)`` int8 or uint8 in 8 bits; ``(rows, columns / 2)`` uint8 in 4 bits, two codes a
            byte, the first in the lower half.
        dtype: what a code is: OpenVINO's name of its type.
        scale: ``(rows, groups)`` float16.
        zero_point: ``(rows, groups)``: uint8, one number each, whatever ``dtype``; or float16, where a format has an
            offset that is no whole number of steps; None where it is 0.
        flipped: the matrix meant is the transpose: checkpoints of GPT-2 have theirs as ``(inputs, outputs)``.
    """

    codes: NDArray[Any]
    dtype: Bits
    scale: NDArray[np.float16]
    zero_point: NDArray[Any] | None = None
    flipped: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the matrix meant."""
        rows, width = self.codes.shape
        sizes = (rows, width * 8 // self.bits)
        return sizes[::-1] if self.flipped else sizes

    @property
    def bits(self) -> int:
        """Of a code."""
        return 8 if self.dtype in ("u8", "i8") else 4

    @property
    def nbytes(self) -> int:
        """What it takes, with a zero point in as many bits as a code."""
        zeros = self.zero_point
        half = self.bits == 4 and zeros is not None and zeros.dtype == np.uint8
        return self.codes.nbytes + self.scale.nbytes + (0 if zeros is None else zeros.nbytes // (2 if half else 1))

    def transposed(self) -> Compressed:
        """The transpose, sharing the memory."""
        return replace(self, flipped=not self.flipped)

    def to_f32(self) -> NDArray[np.float32]:
        """The values."""
        codes = self.codes if self.bits == 8 else unpack_nibbles(self.codes, signed=self.dtype == "i4")
        rows, groups = self.scale.shape
        values = codes.reshape(rows, groups, -1).astype(np.float32)
        if self.zero_point is not None:
            values -= self.zero_point.astype(np.float32)[:, :, None]
        values *= self.scale.astype(np.float32)[:, :, None]
        matrix = values.reshape(codes.shape)
        return matrix.T if self.flipped else matrix


def unpack_nibbles(packed: NDArray[np.uint8], *, signed: bool) -> NDArray[Any]:
    """``(rows, columns / 2)`` bytes -> ``(rows, columns)`` uint8 in 0 … 15, or int8 in -8 … 7."""
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)
    return (codes ^ 8).astype(np.int8) - 8 if signed else codes
