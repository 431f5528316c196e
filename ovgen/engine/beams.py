"""The requests of a beam search: one for each beam that there may be, all computed like any other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from ovgen.engine.cache import KVCache
from ovgen.engine.sequence import KVSequence
from ovgen.sampling import Choice, SamplerState
from ovgen.sampling.beams import BeamSearch, Candidates, Successor
from ovgen.sampling.transforms import Logits

if TYPE_CHECKING:
    from ovgen.engine.request import Request
    from ovgen.engine.scheduler import Scheduler

__all__ = ["Beams"]

_Head: TypeAlias = "tuple[KVSequence, SamplerState, int]"
"""A beam of the next step: what is computed of it, its options, and its newest token."""


class Beams:
    """Hands the logits of beams to the search, and its new beams to the requests.

    The beams of a step need not be computed in one step of the engine: what a beam may go on with is noted, and it
    waits for the others.

    Args:
        search: chooses.
        requests: hold the beams, and the texts in the end; the first begins with the prompt.
    """

    def __init__(self, search: BeamSearch, requests: list[Request]) -> None:
        self._search = search
        self._requests = requests
        self._live = requests[:1]  # those that are beams now, in the order of the search
        self._noted: dict[Request, Candidates] = {}
        self._successors: list[Successor] | None = None  # chosen, and not there yet

    def note(self, request: Request, row: Logits, cache: KVCache, scheduler: Scheduler) -> list[Request]:
        """Take the logits ``(vocab,)`` of a beam, which are overwritten; the last one of a step brings the next beams.

        Returns:
            The requests that hold a text, when the search has ended.

        Raises:
            GenerationError: nothing can be chosen.
        """
        self._noted[request] = self._search.candidates(row, request.sampler)
        if len(self._noted) < len(self._live) or any(beam.remaining for beam in self._live):
            return []  # one that gave way after it was noted is computed, and noted, again
        if self._successors is None:  # else a failure came in between, and all beams were computed again
            self._successors = self._search.step([self._noted[beam] for beam in self._live])
        heads = self._heads(self._successors, cache)
        self._replace(heads, cache, scheduler)
        self._noted.clear()
        self._successors = None
        return [] if heads else self._finish()

    def _heads(self, successors: Sequence[Successor], cache: KVCache) -> list[_Head]:
        """The next beams; the first child of a beam goes on with what it has, the others with copies."""
        heads: list[_Head] = []
        forks: list[KVSequence] = []
        try:
            for number, token_id in successors:
                parent = self._live[number]
                first = all(parent.sequence is not sequence for sequence, _, _ in heads)
                if not first:
                    forks.append(cache.fork(parent.sequence))
                sequence, sampler = (parent.sequence, parent.sampler) if first else (forks[-1], parent.sampler.fork())
                heads.append((sequence, sampler, token_id))
        except BaseException:
            for sequence in forks:
                cache.release(sequence)
            raise
        return heads

    def _replace(self, heads: list[_Head], cache: KVCache, scheduler: Scheduler) -> None:
        """Make these the beams."""
        before, after, now = len(self._live), len(heads), time.perf_counter()
        for beam in self._live:
            if all(beam.sequence is not sequence for sequence, _, _ in heads):
                cache.release(beam.sequence)
        self._live = self._requests[:after]
        for request, (sequence, sampler, token_id) in zip(self._live, heads, strict=True):
            request.sequence, request.sampler = sequence, sampler
            sequence.tokens.append(token_id)
            sampler.append(token_id)
            request.metrics.token(now)
        for request in self._requests[before:after]:
            scheduler.join(request)
        for request in self._requests[after:before]:
            request.sequence = KVSequence([])
            scheduler.remove(request)
        for request in self._live:
            if request in scheduler.waiting:  # where nobody has blocks
                cache.release(request.sequence)

    def _finish(self) -> list[Request]:
        """Hand the best texts to the requests, in their order; those left over get none."""
        texts = self._search.best(self._requests[0].params.n)
        for request in self._requests:
            request.finish_reason = "stop"
            request.metrics.generated_tokens = 0
        for request, text in zip(self._requests, texts, strict=False):
            request.fresh = [Choice(token_id, None) for token_id in text.token_ids]
            request.score = text.score
            request.metrics.generated_tokens = len(text.token_ids)
            if text.token_ids[-1] not in request.stop_ids:
                request.finish_reason = "length"
        return self._requests[: len(texts)]
