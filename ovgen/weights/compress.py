"""Compress a matrix to 8 or 4 bits, block of rows by block of rows, each of which fits the cache.

A group of a row is stored as whole numbers ``q`` with ``value = (q - zero_point) * scale``. In 8 bits the scale spans
the group from end to end. In 4 bits that wastes levels on the outermost values, so the span is searched: of several,
the narrower of which cut the ends off, the one with the least squared error is taken.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ovgen.weights.compressed import Bits, Compressed
from ovgen.weights.compression import Scheme
from ovgen.weights.weight import Weight

__all__ = ["THREADS", "codes_of", "compress", "empty", "fit", "read_rows", "stored", "to_f16"]

_BLOCK = 1 << 16  # numbers: a block and its temporaries stay in the second-level cache
THREADS = min(4, os.cpu_count() or 1)  # numpy releases the lock in all that takes time here
_SPANS = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65)  # of the whole, which is tried first
_TINY = np.finfo(np.float16).smallest_subnormal.astype(np.float32)

_Array: TypeAlias = NDArray[np.float32]


def compress(source: Weight | Compressed, scheme: Scheme, *, flipped: bool = False) -> Compressed | None:
    """A matrix in fewer bits; None if a value is not finite, or too large for a float16 scale.

    Temporaries are a few blocks, whatever the size of the matrix.

    Args:
        source: ``(rows, columns)``.
        scheme: what to store; its group divides the columns.
        flipped: ``source`` is ``(columns, rows)``, and is read as its transpose.
    """
    rows, columns = source.shape[::-1] if flipped else source.shape
    result = empty(rows, columns, scheme)

    def work(start: int) -> bool:
        part = slice(start, start + step)
        x = read_rows(source, part, flipped).reshape(-1, columns // scheme.group, scheme.group)
        scale, zero = fit(x, scheme)
        if not np.isfinite(scale).all():
            return False
        result.scale[part] = scale[..., 0]
        if result.zero_point is not None:
            result.zero_point[part] = zero[..., 0]
        result.codes[part] = stored(codes_of(x, scale, zero, scheme).reshape(len(x), -1), result.dtype)
        return True

    step = max(1, _BLOCK // columns)
    with ThreadPoolExecutor(THREADS) as pool:
        return result if all(list(pool.map(work, range(0, rows, step)))) else None


def empty(rows: int, columns: int, scheme: Scheme) -> Compressed:
    """A matrix that is to be filled in."""
    dtype = _DTYPES[scheme.bits, scheme.symmetric]
    codes = np.empty((rows, columns * scheme.bits // 8), np.int8 if dtype == "i8" else np.uint8)
    groups = (rows, columns // scheme.group)
    return Compressed(codes, dtype, np.empty(groups, np.float16), None if scheme.symmetric else np.empty(groups, "u1"))


_DTYPES: dict[tuple[int, bool], Bits] = {(8, False): "u8", (8, True): "i8", (4, False): "u4", (4, True): "i4"}


def to_f16(source: Weight | Compressed) -> Weight | None:
    """The values in float16; None where one does not fit: beyond 65504, infinite, or not a number."""
    values = np.empty(source.shape, np.float16)
    step = max(1, _BLOCK // max(1, source.shape[-1]))

    def work(start: int) -> bool:
        part = slice(start, start + step)
        with np.errstate(over="ignore"):
            values[part] = read_rows(source, part)
        return bool(np.isfinite(values[part]).all())

    with ThreadPoolExecutor(THREADS) as pool:
        fine = all(list(pool.map(work, range(0, source.shape[0], step))))
    return Weight(values, "F16") if fine else None


def read_rows(source: Weight | Compressed, rows: slice, flipped: bool = False) -> _Array:
    """Some rows as ``(n, columns)`` float32, of a matrix that is stored as it is or flipped."""
    if isinstance(source, Compressed):
        zeros = None if source.zero_point is None else source.zero_point[rows]
        return Compressed(source.codes[rows], source.dtype, source.scale[rows], zeros).to_f32()
    if not flipped:
        return Weight(source.array[rows], source.dtype).to_f32()
    # Two copies are faster than one: the first reads lines of the cache in order, the second stays in the cache.
    return np.ascontiguousarray(Weight(source.array[:, rows].copy(), source.dtype).to_f32().T)


# Below, x is (rows, groups, group), scales and zeros are (rows, groups, 1), and all are float32.


def fit(x: _Array, scheme: Scheme, weights: _Array | None = None) -> tuple[_Array, _Array]:
    """Scales, exact in float16, and whole zero points; ``weights`` ``(groups, group)`` multiply errors of columns.

    Scales are not finite where values are not, or are too large.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.minimum(x.min(-1, keepdims=True), 0), np.maximum(x.max(-1, keepdims=True), 0)
        scale, zero = _spanning(low, high, scheme)
        if scheme.bits == 8:
            return scale, zero
        least = _error(x, scale, zero, scheme, weights)
        for span in _SPANS:
            other, other_zero = _spanning(
                np.multiply(low, span, dtype=np.float32), np.multiply(high, span, dtype=np.float32), scheme
            )
            error = _error(x, other, other_zero, scheme, weights)
            better = error < least
            least = np.where(better, error, least)
            scale, zero = np.where(better, other, scale), np.where(better, other_zero, zero)
        return scale, zero


def _spanning(low: _Array, high: _Array, scheme: Scheme) -> tuple[_Array, _Array]:
    """Scales and zero points whose codes reach from ``low`` (not above 0) to ``high`` (not below 0)."""
    if not scheme.symmetric:
        scale = _in_f16(high - low, 2**scheme.bits - 1)
        return scale, np.rint(-low / scale)
    # The larger end gets the lowest code, which has no positive twin: the scale may be negative.
    scale = _in_f16(np.maximum(-low, high), 2 ** (scheme.bits - 1))
    return np.where(high > -low, -scale, scale), np.zeros_like(scale)


def _in_f16(span: _Array, steps: int) -> _Array:
    """The length of a step in float16, and never 0: groups of tiny numbers become coarse, and nothing divides by 0."""
    step: _Array = np.maximum(span / np.float32(steps), _TINY).astype(np.float16).astype(np.float32)
    return step


def codes_of(x: _Array, scale: _Array, zero: _Array, scheme: Scheme) -> _Array:
    """The nearest codes, in float32."""
    return np.clip(np.rint(_exact(x, scale, zero)), *_limits(scheme))


def _exact(x: _Array, scale: _Array, zero: _Array) -> _Array:
    exact: _Array = x * (np.float32(1) / scale)
    exact += zero
    return exact


def _limits(scheme: Scheme) -> tuple[np.float32, np.float32]:
    lowest = -(2 ** (scheme.bits - 1)) if scheme.symmetric else 0
    return np.float32(lowest), np.float32(lowest + 2**scheme.bits - 1)


def _error(x: _Array, scale: _Array, zero: _Array, scheme: Scheme, weights: _Array | None) -> _Array:
    """The sum of squared errors of each group."""
    error = _exact(x, scale, zero)
    codes = np.rint(error)
    np.clip(codes, *_limits(scheme), out=codes)
    error -= codes
    if weights is not None:
        error *= weights
    squares: _Array = np.einsum("rgi,rgi->rg", error, error)[..., None]
    return squares * np.square(scale)


def stored(codes: _Array, dtype: Bits) -> NDArray[Any]:
    """Codes ``(rows, columns)`` as bytes; two of 4 bits in one, the first in the lower half."""
    if dtype == "u8":
        return codes.astype(np.uint8)
    if dtype == "i8":
        return codes.astype(np.int8)
    if dtype == "i4":
        codes = np.where(codes < 0, codes + 16, codes)
    pairs = codes.astype(np.uint8).view("<u2")
    packed: NDArray[np.uint8] = (pairs >> 4 | pairs).astype(np.uint8)
    return packed
