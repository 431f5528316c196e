"""Log-probabilities of the model's own logits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ovgen.errors import GenerationError
from ovgen.outputs import TokenLogprobs
from ovgen.sampling.candidates import keep_top_k
from ovgen.sampling.transforms import Logits, total_weight

__all__ = ["check_finite", "token_logprobs"]


def token_logprobs(logits: Logits, token_ids: Sequence[int], top: int) -> list[TokenLogprobs]:
    """Log-softmax of each row, at the token that stands there and at the likeliest ones.

    Args:
        logits: ``(rows, vocab)`` float32, as the model gave them; left as they are.
        token_ids: one token per row.
        top: how many of the likeliest tokens to report; the lower id first among equals, none of
            probability 0.

    Raises:
        GenerationError: a row holds NaN or +inf, or nothing finite.
    """
    return [_row_logprobs(row, int(token), top) for row, token in zip(logits, token_ids, strict=True)]


def _row_logprobs(logits: Logits, token_id: int, top: int) -> TokenLogprobs:
    peak = float(logits.max())
    check_finite(logits, peak)
    log_total = math.log(total_weight(logits))
    best: dict[int, float] = {}
    if top:
        ids = keep_top_k(logits, min(top, logits.size))
        ids = ids[np.argsort(-logits[ids], kind="stable")[:top]]
        values = logits[ids].astype(np.float64) - peak - log_total
        best = dict(zip(ids.tolist(), values.tolist(), strict=True))
    return TokenLogprobs(token_id, float(logits[token_id]) - peak - log_total, best)


def check_finite(logits: Logits, peak: float) -> None:
    """Refuse a row that nothing can be chosen from.

    Args:
        logits: ``(vocab,)`` float32.
        peak: its maximum, which is NaN if any of them is.

    Raises:
        GenerationError: ``peak`` is not finite; the message says why.
    """
    if math.isfinite(peak):
        return
    if math.isnan(peak):
        token = int(np.isnan(logits).argmax())
        cause = f"the logit of token {token} is NaN; a higher inference precision may help"
    elif peak > 0:
        cause = f"the logit of token {int(logits.argmax())} is +inf; a higher inference precision may help"
    else:
        cause = "no token is left to choose from: every logit is -inf, from the model or by the options"
    raise GenerationError(cause)
