"""What each sampling option does to the logits: the readable reference, in the order in which they act.

Each function takes one row ``(vocab,)`` or a batch ``(rows, vocab)`` of float32 logits and returns an array
of the same shape and dtype. A token that may not be chosen has the logit -inf; every row that comes in holds
at least one finite logit, and neither NaN nor +inf.
Where there is an ``out``, the result is written there, which may be ``logits`` itself; else to a new array.

The order, which is that of ``generate`` in Hugging Face transformers (presence and frequency penalties, which
it lacks, follow the repetition penalty):

     1. ``logit_bias``
     2. ``repetition_penalty`` over the tokens of prompt and output
     3. ``presence_penalty`` and ``frequency_penalty`` over the tokens of the output
     4. ``no_repeat_ngram_size`` over prompt and output
     5. ``bad_words``; a word that is an end-of-sequence token by itself stays allowed
     6. ``min_new_tokens``: end-of-sequence and stop tokens are suppressed
     7. ``forced_bos_token_id`` at the first token (HF: only after a prompt of one token)
     8. ``forced_eos_token_id`` at the last one that ``max_new_tokens`` allows, of a text that need not have a form
     9. ``suppress_tokens``
    10. ``begin_suppress_tokens`` at the first token, or at the second where the first is forced (HF: and the
        prompt has one token)
    11. ``logits_processors``, in the order given

and, unless ``temperature`` is 0, which takes the likeliest token of what is left, the lowest id among equals:

    12. ``temperature``
    13. ``top_k``
    14. ``top_p``
    15. ``min_p``
    16. ``typical_p``

Step 6 stands before the forced tokens, so these win over ``min_new_tokens``; steps 9 to 11 may take away even
a forced token, which leaves nothing and fails the request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Ids",
    "Logits",
    "add_bias",
    "count_penalties",
    "force",
    "min_p",
    "repetition_penalty",
    "suppress",
    "surprise",
    "temperature",
    "top_k",
    "top_p",
    "total_weight",
    "typical_p",
]

Logits: TypeAlias = NDArray[np.float32]
Ids: TypeAlias = "Sequence[int] | NDArray[np.int64]"

_FLOAT32 = np.finfo(np.float32)
# Tokens per block of a sum over a vocabulary: small enough that its temporary arrays stay in the cache.
_BLOCK = 16384


def add_bias(logits: Logits, ids: Ids, values: Logits, out: Logits | None = None) -> Logits:
    """Add ``values[i]`` to the logit of ``ids[i]``; the ids are distinct."""
    out = _writable(logits, out)
    out[..., ids] += values
    return out


def repetition_penalty(logits: Logits, ids: Ids, penalty: float, out: Logits | None = None) -> Logits:
    """Divide the positive logits of ``ids`` by ``penalty`` and multiply the negative ones (CTRL)."""
    out = _writable(logits, out)
    ids = _within(ids, out.shape[-1])
    scores = out[..., ids]
    out[..., ids] = np.where(scores < 0, scores * penalty, scores / penalty)
    return out


def count_penalties(
    logits: Logits, ids: Ids, counts: Logits, presence: float, frequency: float, out: Logits | None = None
) -> Logits:
    """Subtract ``presence + frequency * counts[i]`` from the logit of ``ids[i]``; the ids are distinct.

    Args:
        logits: ``(vocab,)`` or ``(rows, vocab)`` float32.
        ids: the tokens generated so far, all within the vocabulary.
        counts: ``(len(ids),)`` float32, how often each was generated.
        presence: the penalty for having occurred at all.
        frequency: the penalty per occurrence.
        out: where to write; see above.
    """
    out = _writable(logits, out)
    out[..., ids] -= presence + frequency * counts
    return out


def suppress(logits: Logits, ids: Ids, out: Logits | None = None) -> Logits:
    """Forbid ``ids``; those beyond the vocabulary, which nothing could choose, are passed over."""
    out = _writable(logits, out)
    out[..., _within(ids, out.shape[-1])] = -np.inf
    return out


def force(logits: Logits, token_id: int, out: Logits | None = None) -> Logits:
    """Leave ``token_id`` alone, whatever its logit was."""
    out = _writable(logits, out)
    out[...] = -np.inf
    out[..., token_id] = 0
    return out


def temperature(logits: Logits, value: float, out: Logits | None = None) -> Logits:
    """Divide by ``value``, after moving the maximum to 0.

    The move changes no probability, and lets no temperature, however low, overflow to +inf.
    """
    divisor = np.float32(min(max(value, float(_FLOAT32.tiny)), float(_FLOAT32.max)))
    out = _writable(logits, out)
    out -= out.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):  # to -inf: a probability of 0
        out /= divisor
    return out


def top_k(logits: Logits, k: int) -> Logits:
    """Keep the ``k`` highest logits, and all that equal the last of them."""
    vocab = logits.shape[-1]
    if k >= vocab:
        return logits.copy()
    edge = np.partition(logits, vocab - k, axis=-1)[..., vocab - k, None]
    return np.where(logits >= edge, logits, np.float32(-np.inf))


def _rowwise(warp: Callable[[Logits, float], Logits]) -> Callable[[Logits, float], Logits]:
    """Let a function of one row's finite logits work on whole rows and batches.

    Filtered tokens are taken out first, so that a row and the list of its candidates give the same result to
    the last bit, sums included.
    """

    @wraps(warp)
    def apply(logits: Logits, value: float) -> Logits:
        out = np.full_like(logits, -np.inf)
        for source, target in zip(np.atleast_2d(logits), np.atleast_2d(out), strict=True):
            finite = source > -np.inf
            target[finite] = warp(source[finite], value)
        return out

    return apply


@_rowwise
def top_p(logits: Logits, p: float) -> Logits:
    """Keep the fewest tokens, likeliest first, that hold the probability ``p``.

    A token stays while those before it hold less than ``p``. Among equal logits the lower id comes first;
    transformers leaves this to a sort that is not stable.
    """
    weights = np.exp(logits - logits.max())
    order = np.argsort(-logits, kind="stable")
    held = np.cumsum(weights[order], dtype=np.float64)
    before = np.concatenate(([0.0], held[:-1]))
    dropped = order[before >= p * total_weight(logits)]
    return suppress(logits, dropped)


def min_p(logits: Logits, p: float) -> Logits:
    """Keep the tokens at least ``p`` times as likely as the likeliest: no more than -ln ``p`` below it."""
    edge = logits.max(axis=-1, keepdims=True) + np.float32(math.log(p))
    return np.where(logits >= edge, logits, np.float32(-np.inf))


@_rowwise
def typical_p(logits: Logits, mass: float) -> Logits:
    """Keep the tokens whose information is nearest to the entropy, as many as hold the probability ``mass``.

    All that are as near as the last of them stay too.
    """
    distance, probability = surprise(logits)
    order = np.argsort(distance, kind="stable")
    held = np.cumsum(probability[order], dtype=np.float64)
    last = min(int(np.count_nonzero(held < mass)), logits.size - 1)
    return np.where(distance <= distance[order[last]], logits, np.float32(-np.inf))


def total_weight(logits: Logits) -> float:
    """The sum of ``exp(logits - max(logits))`` over a row ``(tokens,)`` float32, in double precision."""
    peak = logits.max()
    total = 0.0
    for start in range(0, logits.size, _BLOCK):
        weights = logits[start : start + _BLOCK] - peak
        np.exp(weights, out=weights)
        total += float(weights.sum(dtype=np.float64))
    return total


def surprise(logits: Logits) -> tuple[Logits, Logits]:
    """How far each token's information is from the entropy of the row, and its probability.

    Args:
        logits: ``(tokens,)`` float32, all finite.

    Returns:
        ``|-ln p - H|`` in nats and ``p``, both ``(tokens,)`` float32.
    """
    logprob = logits - logits.max()
    logprob -= np.float32(math.log(total_weight(logits)))
    probability = np.exp(logprob)
    entropy = -(probability * logprob).sum(dtype=np.float64)
    return np.abs(logprob + np.float32(entropy)), probability


def _writable(logits: Logits, out: Logits | None) -> Logits:
    """The array to work on: ``out`` holding the logits, or a fresh copy of them."""
    if out is None:
        return logits.copy()
    if out is not logits:
        np.copyto(out, logits)
    return out


def _within(ids: Ids, vocab: int) -> NDArray[np.int64]:
    """The ids that the head of the model can produce; its embedding may know more."""
    known = np.asarray(ids, dtype=np.int64)
    return known if not known.size or known.max() < vocab else known[known < vocab]
