"""Timings and counts of requests and steps, in seconds on the clock of ``time.perf_counter``; counts of an engine."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EngineMetrics", "RequestMetrics", "StepMetrics"]


@dataclass(slots=True)
class RequestMetrics:
    """When the stations of a request's way were reached, and how many tokens it has.

    Attributes:
        arrival: when it was added.
        first_token: when its first token had been sampled; None before that.
        last_token: when its newest token had been sampled; None before that.
        prompt_tokens: length of the prompt.
        generated_tokens: tokens sampled so far.
        cached_tokens: those of the prompt that lay in the cache already when it was begun, or begun again.
        drafted_tokens: guesses that were computed along with what was known.
        accepted_tokens: those of them that turned out right.
        dropped_tokens: those that the sequence went on without when the context was full.
        kernels: what computed linear layers: ``plugin``, or ``native`` with the instruction set.
    """

    arrival: float
    prompt_tokens: int
    first_token: float | None = None
    last_token: float | None = None
    generated_tokens: int = 0
    cached_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    dropped_tokens: int = 0
    kernels: str = "plugin"

    def token(self, now: float) -> None:
        """Count one token, sampled at ``now``."""
        if self.first_token is None:
            self.first_token = now
        self.last_token = now
        self.generated_tokens += 1

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds from arrival to the first token."""
        return None if self.first_token is None else self.first_token - self.arrival

    @property
    def time_per_output_token(self) -> float | None:
        """Mean seconds per token after the first; None before there are two."""
        if self.first_token is None or self.last_token is None or self.generated_tokens < 2:
            return None
        return (self.last_token - self.first_token) / (self.generated_tokens - 1)

    @property
    def tokens_per_second(self) -> float | None:
        """Decode speed: tokens a second after the first."""
        per_token = self.time_per_output_token
        return 1 / per_token if per_token else None


@dataclass(slots=True)
class EngineMetrics:
    """What a model has done since it was loaded; requests are counted when they end.

    Attributes:
        steps: inferences for requests.
        requests: that have ended with any tokens, each text of a prompt for itself.
        prompt_tokens: of their prompts, each counted once.
        cached_tokens: those of the prompts that lay in the cache already.
        generated_tokens: that they sampled.
        drafted_tokens: guesses that were computed along with what was known.
        accepted_tokens: those of them that turned out right.
        preemptions: how often a request had to give up its blocks.
    """

    steps: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    preemptions: int = 0

    def add(self, request: RequestMetrics, *, first: bool) -> None:
        """Count a request that has ended; the prompt of several texts is counted with the ``first``."""
        self.requests += 1
        if first:
            self.prompt_tokens += request.prompt_tokens
            self.cached_tokens += request.cached_tokens
        self.generated_tokens += request.generated_tokens
        self.drafted_tokens += request.drafted_tokens
        self.accepted_tokens += request.accepted_tokens

    @property
    def hit_rate(self) -> float | None:
        """Share of the prompts' tokens that lay in the cache already; None before there are any."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else None

    @property
    def acceptance(self) -> float | None:
        """Share of the guesses that turned out right; None before there are any."""
        return self.accepted_tokens / self.drafted_tokens if self.drafted_tokens else None


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """One inference for requests; what sessions compute is none.

    The device had nothing to do from the ``landed`` of a step to the ``started`` of the next one; the host worked from
    one ``landed`` to the next, but for what it ``waited``.

    Attributes:
        number: steps so far.
        started: when the device was given it.
        landed: when its results were there.
        waited: seconds that the host did nothing but wait for them.
        requests: that it computed for.
        tokens: that it computed, those of prompts and guesses included.
        generated: tokens that were chosen from its results; a beam search's count by beams.
        running: requests that have begun and not ended, with this step's results.
        waiting: requests that have not begun, or have given way.
        preempted: requests that have given up their blocks since the last step.
        blocks: of the KV cache that are in use.
    """

    number: int
    started: float
    landed: float
    waited: float
    requests: int
    tokens: int
    generated: int
    running: int
    waiting: int
    preempted: int
    blocks: int
