"""Compress a matrix to 8 or 4 bits, block of rows by block of rows, each of which fits the cache.

A group of a row is stored as whole numbers ``q`` with ``value = (q - zero_point) * scale``. In 8 bits the scale spans
the group from end to end. In 4 bits that wastes levels on the outermost values, so the span is searched: of several,
the narrower of which cut the ends off, the one with the least squared error is taken; then the scale is fitted to the
codes by least squares.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ovgen.weights.compressed import Bits, Compressed
from ovgen.weights.compression import Scheme
from ovgen.weights.weight import Weight

__all__ = ["THREADS", "codes_of", "compress", "empty", "fit", "read_rows", "stored", "to_f16", "to_halves"]

_BLOCK = 1 << 18  # numbers: smaller blocks have the threads wait for each other's Python, larger ones leave the cache
_BEYOND = 65520  # from here on numbers round to an infinite float16
THREADS = min(4, os.cpu_count() or 1)  # numpy releases the lock in all that takes time here
_SPANS = (0.94, 0.88, 0.8)  # of the whole, which is tried first; more of them find little, after least squares
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

    def work(part: slice) -> bool:
        x = read_rows(source, part, flipped).reshape(-1, columns // scheme.group, scheme.group)
        scale, zero = fit(x, scheme)
        if not np.isfinite(scale).all():
            return False
        result.scale[part] = scale[..., 0]
        if result.zero_point is not None:
            result.zero_point[part] = zero[..., 0]
        result.codes[part] = stored(codes_of(x, scale, zero, scheme).reshape(len(x), -1), result.dtype)
        return True

    return result if _all_blocks(work, rows, columns) else None


def empty(rows: int, columns: int, scheme: Scheme) -> Compressed:
    """A matrix that is to be filled in."""
    dtype = _DTYPES[scheme.bits, scheme.symmetric]
    codes = np.empty((rows, columns * scheme.bits // 8), np.int8 if dtype == "i8" else np.uint8)
    groups = (rows, columns // scheme.group)
    return Compressed(codes, dtype, np.empty(groups, np.float16), None if scheme.symmetric else np.empty(groups, "u1"))


_DTYPES: dict[tuple[int, bool], Bits] = {(8, False): "u8", (8, True): "i8", (4, False): "u4", (4, True): "i4"}


def to_f16(source: Weight | Compressed, *, flipped: bool = False) -> Weight | None:
    """The values in float16, or the transpose of a matrix, if it is ``flipped``.

    None where one does not fit: beyond 65504, infinite, or not a number.
    """
    values = np.empty(source.shape[::-1] if flipped else source.shape, np.float16)

    def work(part: slice) -> bool:
        x = read_rows(source, part, flipped)
        if not -_BEYOND < x.min(initial=0) <= x.max(initial=0) < _BEYOND:  # nor is this true of NaN
            return False
        values[part] = to_halves(x)
        return True

    fine = _all_blocks(work, len(values), values[:1].size)
    return Weight(values, "F16") if fine else None


def to_halves(x: _Array) -> NDArray[np.float16]:
    """Numbers below 65520 rounded to float16, to even where two are as near: `astype`, in half the time.

    Processors stumble over results below 2**-14, which weights are full of. Here they are rounded by adding 0.5, whose
    last bit is worth as much as theirs; of others the exponent is moved and 13 bits are rounded off.
    """
    bits = x.view(np.uint32)
    size = bits & np.uint32(0x7FFFFFFF)
    half = size >> 13
    half &= 1
    half += size
    half -= np.uint32((112 << 23) - 0xFFF)
    half >>= 13
    small = size < (113 << 23)
    half[small] = (size[small].view(np.float32) + np.float32(0.5)).view(np.uint32)  # of which 16 bits are kept
    sign = bits >> 16
    sign &= np.uint32(0x8000)
    half |= sign
    return half.astype(np.uint16).view(np.float16)


def _all_blocks(work: Callable[[slice], bool], rows: int, columns: int) -> bool:
    """Do some work for all rows, block by block, and tell whether it returned True for each."""
    step = max(1, _BLOCK // max(1, columns))
    with ThreadPoolExecutor(THREADS) as pool:
        return all(list(pool.map(lambda start: work(slice(start, start + step)), range(0, rows, step))))


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
        fitted = _least_squares(x, scale, zero, scheme, weights)
        return np.where(_error(x, fitted, zero, scheme, weights) < least, fitted, scale), zero


def _spanning(low: _Array, high: _Array, scheme: Scheme) -> tuple[_Array, _Array]:
    """Scales and zero points whose codes reach from ``low`` (not above 0) to ``high`` (not below 0)."""
    if not scheme.symmetric:
        top = 2**scheme.bits - 1
        scale = _in_f16(high - low, top)
        return scale, np.minimum(np.rint(-low / scale), top)  # above it where float16 made the scale smaller
    # The larger end gets the lowest code, which has no positive twin: the scale may be negative.
    scale = _in_f16(np.maximum(-low, high), 2 ** (scheme.bits - 1))
    return np.where(high > -low, -scale, scale), np.zeros_like(scale)


def _least_squares(x: _Array, scale: _Array, zero: _Array, scheme: Scheme, weights: _Array | None) -> _Array:
    """The scale with which the codes that ``scale`` gives are nearest to the values; ``scale`` where all are zero."""
    codes = codes_of(x, scale, zero, scheme)
    codes -= zero
    weighted = codes if weights is None else codes * np.square(weights)
    products, squares = (np.einsum("rgi,rgi->rg", part, weighted)[..., None] for part in (x, codes))
    fitted = np.divide(products, squares, out=scale.copy(), where=squares > 0)
    result: _Array = np.copysign(_in_f16(np.abs(fitted), 1), fitted)
    return result


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
