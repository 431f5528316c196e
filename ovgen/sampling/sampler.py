"""From a row of logits to a token."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ovgen.outputs import TokenLogprobs
from ovgen.sampling.candidates import draw, shortlist
from ovgen.sampling.logprobs import check_finite, token_logprobs
from ovgen.sampling.state import SamplerState
from ovgen.sampling.transforms import Logits

__all__ = ["Choice", "Sampler", "SamplerState", "token_logprobs"]


class Choice(NamedTuple):
    """The token chosen for one row.

    Attributes:
        token_id: the token.
        logprobs: its log-probability and the likeliest tokens, if the request asks for them.
    """

    token_id: int
    logprobs: TokenLogprobs | None


class Sampler:
    """Chooses next tokens; what is to be remembered of a request is in its state.

    Not thread-safe: it holds a row to work on.
    """

    def __init__(self) -> None:
        self._scratch = np.empty(0, np.float32)

    def choose(self, row: Logits, state: SamplerState) -> Choice:
        """Choose one token, by nothing but these logits and this state: the company of a batch changes no choice.

        It is not appended to the state: the caller commits it.

        Args:
            row: ``(vocab,)`` float32; may be overwritten.
            state: the request's.

        Raises:
            GenerationError: no token can be chosen.
        """
        assert row.dtype == np.float32
        top = state.params.logprobs
        if top is None:
            return Choice(_pick(row, state), None)
        # Log-probabilities are of the raw logits, so the options then work on a copy.
        token_id = _pick(self._copy(row), state)
        return Choice(token_id, token_logprobs(row[None], [token_id], top)[0])

    def _copy(self, row: Logits) -> Logits:
        if self._scratch.size != row.size:
            self._scratch = np.empty_like(row)
        np.copyto(self._scratch, row)
        return self._scratch


def _pick(row: Logits, state: SamplerState) -> int:
    """One token from ``row``, which is overwritten."""
    state.process(row)
    if state.params.greedy:
        token_id = int(row.argmax())
        check_finite(row, float(row[token_id]))  # argmax stops at a NaN, so the token chosen tells
        return token_id
    check_finite(row, float(row.max()))
    ids, values = shortlist(row, state.params)
    values -= values.max()
    index = draw(np.exp(values, out=values), state.rng.random())
    return index if ids is None else int(ids[index])
