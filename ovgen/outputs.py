"""What a request gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ovgen.metrics import RequestMetrics

__all__ = ["FinishReason", "GenerationOutput", "Piece", "TokenLogprobs"]

FinishReason = Literal["stop", "length", "abort"]
"""``stop``: EOS, a stop token or a stop string; ``length``: max_new_tokens or a full context."""


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural log-probabilities at one position, of the model's own logits before any option acts on them.

    Attributes:
        token_id: the token that stands at this position.
        logprob: its log-probability.
        top: the most likely tokens of this position, best first, each with its log-probability.
    """

    token_id: int
    logprob: float
    top: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step adds to the stream of a request.

    Attributes:
        text: new text; empty while a character or a possible stop string is still incomplete.
        token_ids: the tokens of this step.
        metrics: timings of the request so far; one object for all its pieces.
        logprobs: one entry per token of this step, if asked for.
        finish_reason: why the request ended; None while it goes on.
        index: which of the texts of its prompt it belongs to, where there are several.
    """

    text: str
    token_ids: tuple[int, ...]
    metrics: RequestMetrics
    logprobs: tuple[TokenLogprobs, ...] | None = None
    finish_reason: FinishReason | None = None
    index: int = 0


@dataclass(frozen=True, slots=True)
class GenerationOutput:
    """A finished request.

    Attributes:
        text: the text generated, without the prompt.
        token_ids: its tokens, the one that ended it included.
        finish_reason: why it ended.
        prompt_token_ids: the prompt as the model saw it.
        logprobs: one entry per generated token, if ``logprobs`` was asked for.
        prompt_logprobs: one entry per prompt token, if asked for; None for the first, which nothing precedes.
        metrics: timings.
        score: of a beam search; or the sum of the log-probabilities of the tokens, if those were asked for or compared.
        others: the other texts of the prompt, if several were asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] | None
    prompt_logprobs: tuple[TokenLogprobs | None, ...] | None
    metrics: RequestMetrics
    score: float | None = None
    others: tuple[GenerationOutput, ...] = ()

    @property
    def outputs(self) -> tuple[GenerationOutput, ...]:
        """All texts of the prompt: this one, which is the best where they were compared, and the others."""
        return (self, *self.others)
