"""4 bits with calibration: GPTQ (Frantar et al. 2023, arXiv:2210.17323).

Columns are rounded one after the other, and what rounding did to the layer's output is made good, as far as it can be,
by the columns that are still to come. How, the moments of the inputs tell. In our measurements (see
``scripts/compression_table.py``) that takes away about half of what 4 bits cost; weighting the squared errors of
columns by the mean square of their input, which needs no moments, a tenth.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovgen.weights.compress import THREADS, codes_of, empty, fit, stored
from ovgen.weights.compressed import Compressed
from ovgen.weights.compression import Scheme

__all__ = ["compress_calibrated"]

# Of the mean of the diagonal, added to it. The paper has 0.01, which fits noise if there are but some thousand tokens.
_DAMPING = 0.3
_LEAF = 64  # triangular matrices below twice this size are inverted at once
_STEP = 128  # columns whose errors are handed on to the rest in one product


def compress_calibrated(matrix: NDArray[np.float32], scheme: Scheme, moments: NDArray[np.float32]) -> Compressed | None:
    """A matrix in 4 bits; None if a value is not finite, or too large for a float16 scale.

    Args:
        matrix: ``(columns, rows)``, the transpose of what is stored; it is overwritten.
        scheme: what to store; its group divides the columns.
        moments: ``(columns, columns)``, the mean of ``x^T x`` over inputs of the layer.
    """
    columns, rows = matrix.shape
    result = empty(rows, columns, scheme)
    factor = _factor(moments)
    weights = np.sqrt(np.maximum(moments.diagonal(), 0)).reshape(-1, scheme.group)
    parts = [slice(start, start + -(-rows // THREADS)) for start in range(0, rows, -(-rows // THREADS))]
    with ThreadPoolExecutor(THREADS) as pool:
        fine = list(pool.map(lambda part: _round(matrix[:, part], part, scheme, factor, weights, result), parts))
    return result if all(fine) else None


def _factor(moments: NDArray[np.float32]) -> NDArray[np.float32]:
    """The upper Cholesky factor of the inverse: row c tells how later columns make good an error in column c."""
    damped = moments.astype(np.float64)
    damped.flat[:: len(damped) + 1] += _DAMPING * damped.diagonal().mean() or 1.0
    # If H = U U^T with an upper U, the inverse of H is V^T V with the upper V = U^-1: a third of the time of
    # inverting H. Cholesky's lower factor of the reversed H is U, reversed.
    upper = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1].copy()
    _invert_upper(upper)
    return upper.astype(np.float32)


def _invert_upper(upper: NDArray[np.floating[Any]]) -> None:
    """Invert an upper triangular matrix in place, by quarters: nearly all of it is done in products."""
    half = len(upper) // 2
    if half < _LEAF:
        upper[:] = np.triu(np.linalg.inv(upper))
        return
    first, second, between = upper[:half, :half], upper[half:, half:], upper[:half, half:]
    _invert_upper(first)
    _invert_upper(second)
    between[:] = -first @ between @ second


def _round(
    w: NDArray[np.float32],
    rows: slice,
    scheme: Scheme,
    factor: NDArray[np.float32],
    weights: NDArray[np.float32],
    result: Compressed,
) -> bool:
    """Fill in some rows of the result; ``w`` is ``(columns, rows)``. False if a value cannot be stored."""
    columns, group = len(w), scheme.group
    codes = np.empty_like(w)
    scale = zero = np.empty((w.shape[1], 1, 1), np.float32)
    for first in range(0, columns, _STEP):
        last = min(first + _STEP, columns)
        errors = np.empty((last - first, w.shape[1]), np.float32)
        for c in range(first, last):
            if c % group == 0:
                x = np.ascontiguousarray(w[c : c + group].T)[:, None]
                scale, zero = fit(x, scheme, weights[c // group])
                if not np.isfinite(scale).all():
                    return False
                result.scale[rows, c // group] = scale[:, 0, 0]
                if result.zero_point is not None:
                    result.zero_point[rows, c // group] = zero[:, 0, 0]
            codes[c] = codes_of(w[c], scale[:, 0, 0], zero[:, 0, 0], scheme)
            errors[c - first] = (w[c] - (codes[c] - zero[:, 0, 0]) * scale[:, 0, 0]) / factor[c, c]
            w[c + 1 : last] -= factor[c, c + 1 : last, None] * errors[c - first]
        w[last:] -= factor[first:last, last:].T @ errors
    result.codes[rows] = stored(np.ascontiguousarray(codes.T), result.dtype)
    return True
