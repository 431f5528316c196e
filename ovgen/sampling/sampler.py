"""From the logits of a step to one token for each of its requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ovgen.errors import GenerationError
from ovgen.outputs import TokenLogprobs
from ovgen.sampling.candidates import draw, shortlist
from ovgen.sampling.logprobs import check_finite, token_logprobs
from ovgen.sampling.state import SamplerState
from ovgen.sampling.transforms import Logits

__all__ = ["Choice", "Sampler", "SamplerState", "token_logprobs"]


@dataclass(frozen=True, slots=True)
class Choice:
    """The token chosen for one row.

    Attributes:
        token_id: the token.
        logprobs: its log-probability and the likeliest tokens, if the request asks for them.
    """

    token_id: int
    logprobs: TokenLogprobs | None


class Sampler:
    """Chooses the next tokens of a batch; what is to be remembered of a request is in its state.

    Not thread-safe: it holds a row to work on.
    """

    def __init__(self) -> None:
        self._scratch = np.empty(0, np.float32)

    def sample(self, logits: Logits, states: Sequence[SamplerState]) -> list[Choice | GenerationError]:
        """Choose one token per row, each by the options of its own request.

        A row depends on nothing but its logits and its state, so the company of a batch changes no choice.
        No token is appended to a state: the caller commits it.

        Args:
            logits: ``(rows, vocab)`` float32; may be overwritten.
            states: one per row.

        Returns:
            One entry per row: the choice, or why there is none (the other rows are unaffected).
        """
        assert logits.shape[0] == len(states)
        assert logits.dtype == np.float32
        if all(state.plain for state in states):
            best = logits.argmax(axis=1).tolist()
            return [_greedy(row, token) for row, token in zip(logits, best, strict=True)]
        return [self._choose(row, state) for row, state in zip(logits, states, strict=True)]

    def _choose(self, row: Logits, state: SamplerState) -> Choice | GenerationError:
        if state.plain:
            return _greedy(row, int(row.argmax()))
        top = state.params.logprobs
        try:
            if top is None:
                return Choice(_pick(row, state), None)
            # Log-probabilities are of the raw logits, so the options then work on a copy.
            token_id = _pick(self._copy(row), state)
            return Choice(token_id, token_logprobs(row[None], [token_id], top)[0])
        except GenerationError as error:
            return error

    def _copy(self, row: Logits) -> Logits:
        if self._scratch.size != row.size:
            self._scratch = np.empty_like(row)
        np.copyto(self._scratch, row)
        return self._scratch


def _greedy(row: Logits, token_id: int) -> Choice | GenerationError:
    try:
        check_finite(row, float(row[token_id]))  # argmax stops at a NaN, so the token chosen tells
    except GenerationError as error:
        return error
    return Choice(token_id, None)


def _pick(row: Logits, state: SamplerState) -> int:
    """One token from ``row``, which is overwritten."""
    state.process(row)
    if state.params.greedy:
        token_id = int(row.argmax())
        check_finite(row, float(row[token_id]))
        return token_id
    check_finite(row, float(row.max()))
    ids, values = shortlist(row, state.params)
    values -= values.max()
    index = draw(np.exp(values, out=values), state.rng.random())
    return index if ids is None else int(ids[index])
