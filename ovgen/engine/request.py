"""One prompt on its way to becoming an output."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ovgen.config import SamplingParams
from ovgen.engine.beams import Beams
from ovgen.engine.sequence import KVSequence
from ovgen.errors import OvgenError
from ovgen.metrics import RequestMetrics
from ovgen.outputs import FinishReason, GenerationOutput, Piece, TokenLogprobs
from ovgen.sampling import Choice, Constraint, SamplerState, StopStrings, token_logprobs
from ovgen.sampling.beams import BeamSearch

__all__ = ["NoText", "Request", "TextStream", "make_request"]

_numbers = itertools.count()


class TextStream(Protocol):
    """Turns tokens into text as they come; never gives half a character."""

    def push(self, token_ids: Sequence[int]) -> str:
        """The text that these tokens complete."""

    def flush(self) -> str:
        """What is held back, now that no more tokens come."""


class NoText:
    """The text of a model without a tokenizer."""

    def push(self, token_ids: Sequence[int]) -> str:
        """Nothing."""
        return ""

    def flush(self) -> str:
        """Nothing."""
        return ""


@dataclass(slots=True, eq=False)
class Request:
    """A sequence with the wish to go on: how to sample, when to stop, what came of it.

    Attributes:
        sequence: prompt and output tokens, and their blocks.
        prompt: the tokens that it begins with.
        limit: the sequence ends when it has this many tokens, unless it is to go on with a part of them.
        stop_ids: tokens that end it.
        index: which of the texts of its prompt it is.
        number: a later request has a higher one; the texts of a prompt have the same.
        twins: other texts of its prompt, which end as it does: those that have not begun, and all beams of a search.
        beams: the search that it is a beam of.
        draft: tokens that may follow; the next step computes them along with those that do.
        fresh: tokens sampled and not yet emitted.
        pieces: emitted and not yet read by the caller.
        finish_reason: why it ended; None while it goes on.
        error: what made it fail; None otherwise.
        forgotten: it has ended, and the engine has freed what it held.
        score: of a beam, or the sum of the log-probabilities of its tokens where these are computed.
    """

    sequence: KVSequence
    prompt: tuple[int, ...]
    params: SamplingParams
    sampler: SamplerState
    text: TextStream
    stops: StopStrings
    limit: int
    stop_ids: frozenset[int]
    metrics: RequestMetrics
    index: int = 0
    number: int = field(default_factory=lambda: next(_numbers))
    twins: list[Request] = field(default_factory=list)
    beams: Beams | None = None
    draft: Sequence[int] = ()
    fresh: list[Choice] = field(default_factory=list)
    pieces: deque[Piece] = field(default_factory=deque)
    finish_reason: FinishReason | None = None
    error: OvgenError | None = None
    prompt_logprobs: list[TokenLogprobs | None] = field(default_factory=list)
    forgotten: bool = False
    score: float | None = None

    @property
    def rank(self) -> tuple[int, int, int]:
        """Requests are served in this order: by priority, age, and which of the texts of a prompt it is."""
        return self.params.priority, self.number, self.index

    @property
    def guesses(self) -> bool:
        """Whether its own text or a grammar may say what comes next."""
        return self.params.prompt_lookup_num_tokens > 0 or self.params.structured_outputs is not None

    @property
    def finished(self) -> bool:
        """Whether no more tokens will be sampled."""
        return self.finish_reason is not None or self.error is not None

    @property
    def done(self) -> bool:
        """Whether nothing more will come: it has finished, and all its tokens were emitted."""
        return self.finished and not self.fresh

    @property
    def remaining(self) -> int:
        """Tokens to compute before the next one can be sampled."""
        return len(self.sequence.tokens) - self.sequence.computed

    def wants_prompt_logprobs(self) -> bool:
        """Whether the chunk to come must give the logits of all its positions."""
        return self.params.prompt_logprobs is not None and len(self.prompt_logprobs) < len(self.prompt)

    def keep_prompt_logprobs(self, rows: NDArray[np.float32]) -> None:
        """Note the log-probabilities of prompt tokens: ``rows`` ``(n, vocab)`` follow what is computed.

        Raises:
            GenerationError: the logits are no numbers.
        """
        start = self.sequence.computed
        entries = self.prompt_logprobs
        if not entries:
            entries.append(None)  # nothing precedes the first token
        first = len(entries) - 1  # the first position whose row is new, even after a preemption
        end = min(start + len(rows) + 1, len(self.prompt))
        following = self.sequence.tokens[first + 1 : end]
        wanted = rows[first - start : first - start + len(following)]
        entries.extend(token_logprobs(wanted, following, self.params.prompt_logprobs or 0))

    def fail(self, error: OvgenError) -> None:
        """It ends with an error, and so do its twins."""
        for request in (self, *self.twins):
            request.error = error

    def commit(self, choice: Choice, now: float) -> None:
        """Append a sampled token, and finish where it or the length says so."""
        token_id, logprobs = choice
        self.sequence.tokens.append(token_id)
        self.sampler.append(token_id)
        self.fresh.append(choice)
        self.metrics.token(now)
        if logprobs is not None:
            self.score = (self.score or 0.0) + logprobs.logprob
        if token_id in self.stop_ids or self.sampler.complete:
            self.finish_reason = "stop"
        elif self.metrics.generated_tokens == self.params.max_new_tokens or (self.full and not self.shifts):
            self.finish_reason = "length"

    @property
    def full(self) -> bool:
        """Whether the sequence has as many tokens as it may have."""
        return len(self.sequence.tokens) >= self.limit

    @property
    def shifts(self) -> bool:
        """Whether it goes on with a part of its tokens when it is full."""
        return self.params.context_shift is not None

    def emit(self) -> None:
        """Turn the fresh tokens into a piece; a stop string found in their text finishes the request."""
        fresh = self.fresh
        text, hit = self.stops.feed(self.text.push([choice.token_id for choice in fresh]))
        if not hit and self.finish_reason is not None:
            tail, hit = self.stops.feed(self.text.flush())
            text += tail if hit else tail + self.stops.flush()
        if hit:
            self.finish_reason = "stop"
        wants = self.params.logprobs is not None
        logprobs = tuple(choice.logprobs for choice in fresh if choice.logprobs) if wants else None
        tokens = tuple(choice.token_id for choice in fresh)
        self.pieces.append(Piece(text, tokens, self.metrics, logprobs, self.finish_reason, self.index))
        self.fresh = []  # last: another thread takes a finished request without fresh tokens for complete

    def output(self, pieces: Sequence[Piece]) -> GenerationOutput:
        """The whole result of a finished request, given all the pieces it emitted."""
        assert self.finish_reason is not None
        logprobs = None
        if self.params.logprobs is not None:
            logprobs = tuple(entry for piece in pieces for entry in piece.logprobs or ())
        return GenerationOutput(
            text="".join(piece.text for piece in pieces),
            token_ids=tuple(token for piece in pieces for token in piece.token_ids),
            finish_reason=self.finish_reason,
            prompt_token_ids=self.prompt,
            logprobs=logprobs,
            prompt_logprobs=None if self.params.prompt_logprobs is None else tuple(self.prompt_logprobs),
            metrics=self.metrics,
            score=self.score,
        )


def make_request(
    prompt: Sequence[int],
    params: SamplingParams,
    text: Callable[[], TextStream],
    limit: int,
    eos_token_ids: frozenset[int],
    bad_words_ids: Sequence[Sequence[int]] = (),
    constraint: Constraint | None = None,
) -> Request:
    """A request that ends at ``limit`` tokens, or at one of ``eos_token_ids`` unless ``params`` ignores them."""
    eos = frozenset() if params.ignore_eos else eos_token_ids
    number, arrival = next(_numbers), time.perf_counter()
    most = limit - len(prompt) if params.context_shift is None else params.max_new_tokens
    count = max(params.best_of or params.n, params.num_beams)
    weighs = count > params.n and params.num_beams == 1  # the likeliest are wanted

    def make(index: int) -> Request:
        seed = None if params.seed is None else params.seed + index
        drawing = replace(params, seed=seed, logprobs=0 if weighs and params.logprobs is None else params.logprobs)
        rules = None if constraint is None else constraint.fork()
        return Request(
            sequence=KVSequence(list(prompt)),
            prompt=tuple(prompt),
            params=params,
            sampler=SamplerState(drawing, prompt, eos, bad_words_ids, most, rules),
            text=text(),
            stops=StopStrings(params.stop, params.include_stop_str_in_output),
            limit=limit,
            stop_ids=eos | set(params.stop_token_ids),
            metrics=RequestMetrics(arrival, len(prompt)),
            index=index,
            number=number,
        )

    requests = [make(index) for index in range(count)]
    requests[0].twins = requests[1:]
    if params.num_beams > 1:
        beams = Beams(BeamSearch(params, requests[0].stop_ids, limit - len(prompt)), requests)
        for request in requests:
            request.beams = beams
            request.twins = [other for other in requests if other is not request]
    return requests[0]
