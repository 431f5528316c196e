"""From a row of logits to the few tokens that may be drawn, and the draw.

The functions here keep exactly the tokens that their namesakes in ``ovgen.sampling.transforms`` keep. They
gain their speed by looking for the best tokens first and leaving the rest of the vocabulary unsorted.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ovgen.config import SamplingParams
from ovgen.sampling import transforms
from ovgen.sampling.transforms import Logits

__all__ = ["draw", "keep_min_p", "keep_top_k", "keep_top_p", "keep_typical_p", "leading", "shortlist"]

Indices = NDArray[np.intp]

# How many candidates are tried before the whole row is sorted.
_TRIES = (512, 8192)
# A row is looked at as this many columns, of which only the maxima are ranked ...
_COLUMNS = 4096
# ... or as this many for each candidate asked for, so that most columns hold no more than one.
_COLUMNS_EACH = 4
# Sums over more tokens than this are taken block by block.
_BLOCK = 512


def shortlist(logits: Logits, params: SamplingParams) -> tuple[Indices | None, Logits]:
    """Apply temperature, top-k, top-p, min-p and typical-p.

    Args:
        logits: ``(vocab,)`` float32, neither NaN nor +inf, at least one finite; may be overwritten.
        params: the options; not greedy.

    Returns:
        The ids of the tokens left, ascending, or None for the whole vocabulary; and their logits, float32.
    """
    if params.temperature != 1:
        transforms.temperature(logits, params.temperature, out=logits)
    warps = (
        (params.top_p < 1, keep_top_p, params.top_p),
        (params.min_p > 0, keep_min_p, params.min_p),
        (params.typical_p < 1, keep_typical_p, params.typical_p),
    )
    wanted = [(keep, value) for active, keep, value in warps if active]
    ids: Indices | None = None
    if 0 < params.top_k < logits.size:
        ids = keep_top_k(logits, params.top_k)
    elif wanted and logits.min() == -np.inf:
        ids = np.flatnonzero(logits > -np.inf)
    values = _at(logits, ids)
    for keep, value in wanted:
        kept = keep(values, value)
        ids, values = _through(ids, kept), values[kept]
    return ids, values


def _at(values: Logits, ids: Indices | None) -> Logits:
    """The values at some indices; None stands for all, which then need no copy."""
    return values if ids is None else values[ids]


def _through(ids: Indices | None, kept: Indices) -> Indices:
    """Indices among some of the values, as indices among all of them."""
    return kept if ids is None else ids[kept]


def leading(values: Logits, count: int) -> Indices | None:
    """Find a few values among which the highest ``count`` are.

    Args:
        values: ``(tokens,)`` float32, no NaN.
        count: how many are wanted.

    Returns:
        The indices, ascending, of all values not below some threshold that at least ``count`` of them reach;
        None for all, where that is simpler.
    """
    columns = max(_COLUMNS, _COLUMNS_EACH * count)
    height = values.size // columns
    if height < 2:
        return None
    # Each of `count` columns has a value that reaches the threshold, so the threshold is low enough;
    # what does not fill a row of columns can only add to them.
    peaks = values[: height * columns].reshape(height, columns).max(axis=0)
    threshold = np.partition(peaks, columns - count)[columns - count]
    return np.flatnonzero(values >= threshold)


def keep_top_k(values: Logits, k: int) -> Indices:
    """Indices, ascending, of the finite ones among the ``k`` highest values and all that equal the last."""
    ids = leading(values, k)
    best = _at(values, ids)
    edge = np.partition(best, best.size - k)[best.size - k]
    return _through(ids, np.flatnonzero(best >= edge if edge > -np.inf else best > -np.inf))


def keep_top_p(values: Logits, p: float) -> Indices:
    """Indices, ascending, of the fewest of the finite ``values`` that hold the probability ``p``."""
    peak = values.max()
    limit = p * transforms.total_weight(values)
    for count in (*_TRIES, values.size):
        ids = leading(values, count)
        best = _at(values, ids)
        ranked = np.sort(best)[::-1]
        held = _cumulated(np.exp(ranked - peak))
        if held[-1] >= limit or ids is None:
            break
    kept = 1 + int(np.searchsorted(held[:-1], limit))
    edge = ranked[kept - 1]
    keep: NDArray[np.bool_] = best >= edge
    surplus = int(np.count_nonzero(keep)) - kept
    if surplus:  # equals of the last token kept: the higher ids go
        keep[np.flatnonzero(best == edge)[-surplus:]] = False
    return _through(ids, np.flatnonzero(keep))


def keep_min_p(values: Logits, p: float) -> Indices:
    """Indices, ascending, of the ``values`` at least ``p`` times as likely as the likeliest."""
    edge = np.float32(values.max() + np.float32(math.log(p)))
    return np.flatnonzero(values >= edge)


def keep_typical_p(values: Logits, mass: float) -> Indices:
    """Indices, ascending, of the finite ``values`` of most typical information that hold ``mass``."""
    distance, probability = transforms.surprise(values)
    for count in (*_TRIES, values.size):
        ids = leading(-distance, count)
        order = _through(ids, _ascending(_at(distance, ids)))
        held = _cumulated(probability[order])
        if held[-1] >= mass or ids is None:
            break
    last = min(int(np.searchsorted(held, mass)), order.size - 1)
    return np.flatnonzero(distance <= distance[order[last]])


def _cumulated(weights: Logits) -> NDArray[np.float64]:
    """Running sums in double precision; numpy is slow to convert and sum in one go."""
    ends = weights.astype(np.float64)
    return np.cumsum(ends, out=ends)


def _ascending(distances: Logits) -> Indices:
    """A stable argsort of numbers that are not negative, several times as fast as numpy's.

    The bits of such a float32 sort as the number does, so an integer can carry it together with its index.
    """
    keys = distances.view(np.int32).astype(np.int64) << 32
    keys |= np.arange(distances.size)
    keys.sort()
    return (keys & 0xFFFFFFFF).astype(np.intp)


def draw(weights: Logits, uniform: float) -> int:
    """Choose an index with a probability in proportion to its weight: the inverse of the cumulated weights.

    Args:
        weights: ``(tokens,)`` float32, none negative, at least one positive.
        uniform: the random number, in [0, 1).

    Returns:
        The index; never one of weight 0.
    """
    start = 0
    if weights.size > _BLOCK:
        # Only one block is summed token by token.
        blocks = np.add.reduceat(weights, np.arange(0, weights.size, _BLOCK), dtype=np.float64)
        ends = np.cumsum(blocks)
        target = uniform * ends[-1]
        block = _first_above(ends, target)
        start = block * _BLOCK
        weights = weights[start : start + _BLOCK]
        # How far into the block, as a share of it: below 1 even where the two sums differ in rounding.
        uniform = (target - (ends[block - 1] if block else 0.0)) / blocks[block]
    ends = np.cumsum(weights, dtype=np.float64)
    return start + _first_above(ends, uniform * ends[-1])


def _first_above(ends: NDArray[np.float64], target: float) -> int:
    """First index whose cumulated weight exceeds ``target``; its own weight is not 0.

    Rounding may put ``target`` at the end of the scale: that is the last index of a weight above 0.
    """
    last = int(np.searchsorted(ends, ends[-1]))
    return min(int(np.searchsorted(ends, target, side="right")), last)
