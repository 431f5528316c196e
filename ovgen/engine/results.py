"""What the logits of a step make of its requests: tokens, log-probabilities, ends and errors."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ovgen.engine.cache import KVCache
from ovgen.engine.drafts import Drafts
from ovgen.engine.limits import shortened
from ovgen.engine.request import Request
from ovgen.engine.scheduler import Plan, Scheduler
from ovgen.errors import GenerationError
from ovgen.sampling import Sampler

__all__ = ["Results"]


class Results:
    """Samples from the logits of steps.

    Args:
        sampler: draws the tokens.
        scheduler: gets to know the texts that begin where a prompt ends.
        drafts: gets to know which guesses were right.
        unemitted: requests that have new tokens, in the order in which they got the first of them.

    Attributes:
        chosen: tokens, from the beginning.
    """

    def __init__(self, sampler: Sampler, scheduler: Scheduler, drafts: Drafts, unemitted: dict[Request, None]) -> None:
        self._sampler = sampler
        self._scheduler = scheduler
        self._drafts = drafts
        self._unemitted = unemitted
        self.chosen = 0

    def commit(self, plan: Plan, logits: NDArray[np.float32], cache: KVCache) -> list[Request]:
        """Note what has been computed, and sample where a request has nothing left to compute.

        Args:
            plan: the step. Requests in it that finished while the device worked are left alone.
            logits: its rows ``(rows, vocab)``, request by request; overwritten.
            cache: of the sequences.

        Returns:
            Requests that the step was for, and those that begin where their prompts end.
        """
        served = [request for item in plan.items for request in (item.request, *item.request.twins)]
        end = 0
        for request, length, rows, draft in plan.items:
            begin, end = end, end + rows
            if request.finished:  # aborted, or stopped by a string
                continue
            try:
                if request.wants_prompt_logprobs():
                    request.keep_prompt_logprobs(logits[begin:end])
                request.sequence.computed += length
                if request.remaining:
                    continue
                if request.beams is not None:
                    self.chosen += 1
                    ended = request.beams.note(request, logits[end - 1], cache, self._scheduler)
                    self._unemitted.update(dict.fromkeys(ended))
                else:
                    first = end - 1 - len(draft)
                    if request.twins:
                        self._begin_twins(request, logits[first], cache)
                    self._append(request, logits, first, draft, cache)
            except GenerationError as error:
                request.fail(error)
        return served

    def _begin_twins(self, request: Request, row: NDArray[np.float32], cache: KVCache) -> None:
        """The prompt has been computed: its other texts begin with the same row of logits."""
        while request.twins:
            twin = request.twins[0]
            if twin.finished:  # aborted before it began
                del request.twins[0]
                continue
            twin.sequence = cache.fork(request.sequence)
            twin.metrics.cached_tokens = len(twin.prompt)
            try:
                self._append(twin, row[None].copy(), 0, (), cache)
            except GenerationError as error:
                twin.fail(error)
            finally:  # also if it is interrupted: whoever runs is computed again then
                del request.twins[0]
                if not self._scheduler.join(twin):
                    cache.release(twin.sequence)

    def _append(
        self, request: Request, logits: NDArray[np.float32], first: int, draft: Sequence[int], cache: KVCache
    ) -> None:
        """Sample a token from each row from the ``first`` on, as long as the one before is what the draft has there.

        So a token depends on those before it only, and is what it would be without a draft, whatever the options.
        """
        sequence, accepted = request.sequence, 0
        while True:
            choice = self._sampler.choose(logits[first + accepted], request.sampler)
            self.chosen += 1
            request.commit(choice, time.perf_counter())
            self._unemitted[request] = None
            if request.finished or accepted == len(draft) or choice.token_id != draft[accepted]:
                break
            accepted += 1
        if draft:
            sequence.computed += accepted
            request.metrics.drafted_tokens += len(draft)
            request.metrics.accepted_tokens += accepted
            self._drafts.landed(request, len(draft), accepted)
            cache.runner.trim(sequence.number, sequence.computed)
        if request.shifts and request.full and not request.finished:
            _shift(request, cache)


def _shift(request: Request, cache: KVCache) -> None:
    """Go on with the first tokens and the newer half of the others, which are computed again.

    Why the first: StreamingLLM, https://arxiv.org/abs/2309.17453.
    """
    sequence, first = request.sequence, request.params.context_shift or 0
    kept = shortened(sequence.tokens, first, request.limit)
    request.metrics.dropped_tokens += len(sequence.tokens) - len(kept)
    cache.trim(sequence, first)
    sequence.tokens[:] = kept
