"""How ggml stores numbers, and the same numbers as OpenVINO takes them.

ggml quantises rows in blocks of 32 or 256 values. A block of 256 has sub-blocks of 32 or 16 values, whose scales (and
offsets) are quantised themselves. Here every sub-block becomes a group of `Compressed`; the CPU plugin keeps groups of
16 and 32 compressed, with float16 zero points too. ggml's layouts: ggml-common.h and ggml-quants.c of
https://github.com/ggml-org/ggml; n below is the number of blocks.

| ggml             | codes | group | exact?                                                             |
| ---------------- | ----- | ----- | ------------------------------------------------------------------ |
| Q8_0, Q5_0       | i8    | 32    | yes                                                                |
| Q4_0             | i4    | 32    | yes                                                                |
| Q6_K             | i8    | 16    | but for the scale's rounding to float16                            |
| Q4_1, Q4_K       | u4    | 32    | but for the rounding of scale and zero point, -offset / scale      |
| Q5_1, Q5_K       | u8    | 32    | likewise                                                           |
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ovgen.weights.compressed import Compressed
from ovgen.weights.weight import Weight

__all__ = ["KINDS", "OTHER_KINDS", "Kind", "load", "loaded_size"]

_Bytes: TypeAlias = NDArray[Any]  # of uint8, which numpy's stubs lose with every shift
_Blocks: TypeAlias = NDArray[Any]
_Floats: TypeAlias = NDArray[np.float32]
_Groups: TypeAlias = tuple[NDArray[Any], NDArray[np.float16], NDArray[np.float16] | None]
"""Codes ``(n, …)`` as `Compressed` packs them, scales and zero points ``(n, groups of a block)``."""

# Bytes of codes made at once: what fits the cache. What is done to them is done in place where it can be: allocating
# takes numpy longer than computing.
_CHUNK = 1 << 19
_SMALLEST = 2.0**-24  # of float16, above 0


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of ggml.

    Attributes:
        name: as ggml calls it.
        values: how many values a block has.
        layout: a block as a numpy structure; bytes that belong together are void, which numpy copies fast.
        dtype: what a code is in `Compressed`; for plain numbers the tag of `Weight`.
        unpack: blocks ``(n,)`` of that layout as groups; None for plain numbers.
    """

    name: str
    values: int
    layout: np.dtype[Any]
    dtype: Any
    unpack: Callable[[_Blocks], _Groups] | None = None


def load(raw: _Bytes, kind: Kind, shape: tuple[int, ...], pool: Executor) -> Weight | Compressed:
    """The tensor of ``shape`` whose bytes are ``raw``: numbers are a view of it, a matrix in blocks is repacked.

    The memory needed beside the result does not grow with the tensor; numpy lets all threads of the pool work on it.
    Tensors in blocks that are no matrices become float32: biases and the like, which are small.
    """
    if kind.unpack is None:
        return Weight(raw.view(kind.layout).reshape(shape), kind.dtype)
    matrix = _repack(raw.view(kind.layout), kind, kind.unpack, prod(shape[:-1]), pool)
    return matrix if len(shape) == 2 else Weight(matrix.to_f32().reshape(shape), "F32")


def loaded_size(kind: Kind, shape: tuple[int, ...]) -> int:
    """How many bytes `load` makes of such a tensor."""
    if kind.unpack is None:
        return prod(shape) * kind.layout.itemsize
    if len(shape) != 2:
        return prod(shape) * 4
    block = kind.unpack(np.zeros(1, kind.layout))
    return prod(shape) // kind.values * sum(part.nbytes for part in block if part is not None)


def _repack(blocks: _Blocks, kind: Kind, unpack: Callable[[_Blocks], _Groups], rows: int, pool: Executor) -> Compressed:
    *first, offset = unpack(np.zeros(1, kind.layout))
    codes, scale = (np.empty((len(blocks), part.shape[1]), part.dtype) for part in first)
    zero = None if offset is None else np.empty_like(scale)
    step = _CHUNK // codes.shape[1]

    def fill(begin: int) -> None:
        chunk = slice(begin, begin + step)
        with np.errstate(over="ignore", invalid="ignore"):  # damaged numbers stay what they are
            codes[chunk], scale[chunk], zeros = unpack(blocks[chunk])
        if zero is not None:
            zero[chunk] = zeros

    for _ in pool.map(fill, range(0, len(blocks), step)):  # which raises what one of them raised
        pass
    zero_point = None if zero is None else zero.reshape(rows, -1)
    return Compressed(codes.reshape(rows, -1), kind.dtype, scale.reshape(rows, -1), zero_point)


def _q8_0(blocks: _Blocks) -> _Groups:
    return _bytes(blocks["codes"]).view(np.int8), blocks["step"][:, None], None


def _q4_0(blocks: _Blocks) -> _Groups:
    # 0 … 15 stand for -8 … 7: that is i4 with the sign bit turned.
    codes = _pairs(_bytes(blocks["codes"]))
    codes ^= 0x88
    return codes, blocks["step"][:, None], None


def _q4_1(blocks: _Blocks) -> _Groups:
    return _pairs(_bytes(blocks["codes"])), *_affine(_column(blocks["step"]), _column(blocks["offset"]))


def _q5_0(blocks: _Blocks) -> _Groups:
    codes = _fives(blocks).view(np.int8)
    codes -= 16
    return codes, blocks["step"][:, None], None


def _q5_1(blocks: _Blocks) -> _Groups:
    return _fives(blocks), *_affine(_column(blocks["step"]), _column(blocks["offset"]))


def _q4_k(blocks: _Blocks) -> _Groups:
    codes = _pairs(_bytes(blocks["codes"]).reshape(-1, 32))
    return codes.reshape(-1, 128), *_affine(*_sixes(blocks))


def _q5_k(blocks: _Blocks) -> _Groups:
    low = _halves(_bytes(blocks["codes"]).reshape(-1, 32))  # (4 n, 64)
    bits = _bytes(blocks["bits"])  # (n, 32): bit i of byte j belongs to value j of group i
    high = _beside(*(bits >> i & 1 for i in range(8)))  # (n, 256)
    return _joined(low.reshape(-1, 256), high), *_affine(*_sixes(blocks))


def _q6_k(blocks: _Blocks) -> _Groups:
    low = _halves(_bytes(blocks["codes"]).reshape(-1, 64))  # (2 n, 128)
    bits = _bytes(blocks["bits"]).reshape(-1, 32)
    high = _beside(*(bits >> i & 3 for i in (0, 2, 4, 6)))  # (2 n, 128)
    codes = _joined(low, high).reshape(-1, 256).view(np.int8)
    codes -= 32
    scale = _bytes(blocks["factors"]).view(np.int8) * _column(blocks["step"])  # (n, 16)
    return codes, scale.astype(np.float16), None


def _bytes(field: NDArray[np.void]) -> _Bytes:
    """``(n,)`` void -> ``(n, size)`` bytes, contiguous."""
    return np.ascontiguousarray(field).view(np.uint8).reshape(len(field), -1)


def _column(numbers: NDArray[np.float16]) -> _Floats:
    """``(n,)`` -> ``(n, 1)`` float32."""
    return numbers.astype(np.float32)[:, None]


def _beside(*parts: _Bytes) -> _Bytes:
    """Several ``(n, size)`` -> ``(n, parts * size)``."""
    size = parts[0].shape[1]
    out = np.empty((len(parts[0]), len(parts)), f"V{size}")
    for i, part in enumerate(parts):
        out[:, i] = np.ascontiguousarray(part).view(out.dtype)[:, 0]
    return out.view(np.uint8)


def _joined(low: _Bytes, high: _Bytes) -> _Bytes:
    """Codes from their lower four bits and those above; both are used up."""
    high <<= 4
    low |= high
    return low


def _halves(b: _Bytes) -> _Bytes:
    """Codes of four bits, i and i + size in byte i: ``(n, size)`` -> ``(n, 2 * size)``, a code each."""
    return _beside(b & 15, b >> 4)


def _pairs(b: _Bytes) -> _Bytes:
    """Likewise, but packed again: 2 i and 2 i + 1 in byte i, ``(n, size)``."""
    two = b.view("<u2")  # each of the two bytes gives one code to the lower half, and one to the upper
    low, high = two >> 4, two >> 8
    low &= 0xF0
    low |= two & 15
    high &= 0xF0
    two = two >> 4
    two &= 15
    high |= two
    return _beside(low.astype(np.uint8), high.astype(np.uint8))


def _fives(blocks: _Blocks) -> _Bytes:
    """Codes ``(n, 32)`` whose fifth bits are stored apart."""
    bits: _Bytes = np.unpackbits(_bytes(blocks["bits"]), axis=1, bitorder="little")  # (n, 32)
    return _joined(_halves(_bytes(blocks["codes"])), bits)


def _sixes(blocks: _Blocks) -> tuple[_Floats, _Floats]:
    """Step and offset ``(n, 8)`` of the groups of Q4_K and Q5_K, whose factors have 6 bits each."""
    low, middle, high = _bytes(blocks["factors"]).view("<u4").T  # (n,), of four bytes each
    sixes, fours, twos = 0x3F3F3F3F, 0x0F0F0F0F, 0x30303030  # the first four are whole, the others in two parts
    steps = np.stack([low & sixes, high & fours | low >> 2 & twos], axis=1).view(np.uint8)  # (n, 8)
    offsets = np.stack([middle & sixes, high >> 4 & fours | middle >> 2 & twos], axis=1).view(np.uint8)
    return _column(blocks["step"]) * steps, -_column(blocks["offset"]) * offsets


def _affine(step: _Floats, offset: _Floats) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """Scale and zero point of ``code * step + offset``, so that float16 can hold them.

    A step that is very small beside the offset is made larger, which moves no value by more than
    ``code * max(|offset| / 2^15, 2^-24)``: the zero point would be infinite otherwise.
    """
    needed = np.maximum(np.abs(offset) * 2.0**-15, _SMALLEST)
    scale = np.where(np.abs(step) < needed, needed, step).astype(np.float16)
    return scale, (-offset / scale).astype(np.float16)


def _layout(**fields: str) -> np.dtype[Any]:
    return np.dtype(list(fields.items()))


KINDS: dict[int, Kind] = {
    0: Kind("F32", 1, np.dtype("<f4"), "F32"),
    1: Kind("F16", 1, np.dtype("<f2"), "F16"),
    30: Kind("BF16", 1, np.dtype("<u2"), "BF16"),
    8: Kind("Q8_0", 32, _layout(step="<f2", codes="V32"), "i8", _q8_0),
    2: Kind("Q4_0", 32, _layout(step="<f2", codes="V16"), "i4", _q4_0),
    3: Kind("Q4_1", 32, _layout(step="<f2", offset="<f2", codes="V16"), "u4", _q4_1),
    6: Kind("Q5_0", 32, _layout(step="<f2", bits="V4", codes="V16"), "i8", _q5_0),
    7: Kind("Q5_1", 32, _layout(step="<f2", offset="<f2", bits="V4", codes="V16"), "u8", _q5_1),
    12: Kind("Q4_K", 256, _layout(step="<f2", offset="<f2", factors="V12", codes="V128"), "u4", _q4_k),
    13: Kind("Q5_K", 256, _layout(step="<f2", offset="<f2", factors="V12", bits="V32", codes="V128"), "u8", _q5_k),
    14: Kind("Q6_K", 256, _layout(codes="V128", bits="V64", factors="V16", step="<f2"), "i8", _q6_k),
}
"""What can be read, by ggml's number."""

OTHER_KINDS = {
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
    40: "NVFP4",
    41: "Q1_0",
}
"""What there is beside, by ggml's number."""
