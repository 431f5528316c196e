"""Which tokens of which requests the next step computes. Numbers only: no device, no tensors.

There is no prefill phase nor decode phase (as in vLLM's v1 scheduler): a step takes from each request what it has to
compute, in the order of their rank (priority, then age), until the token budget is used up; a long prompt leaves a
token to each of those behind it. Where blocks run out, the last in rank gives up its own and is computed again later.
Who begins takes over the blocks that hold the beginning of its tokens already.

Where several steps are in flight at a time, each takes its share of the requests, so that there are some for the next.
A request is in one step at most; what it holds is not touched meanwhile.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from ovgen.config import EngineConfig
from ovgen.engine.block_pool import BlockPool
from ovgen.engine.kept import KeptSequences
from ovgen.engine.request import Request
from ovgen.engine.sequence import Copy
from ovgen.errors import CacheFullError

__all__ = ["Plan", "Scheduled", "Scheduler"]

_rank = attrgetter("rank")


class Scheduled(NamedTuple):
    """The next ``length`` tokens of a request, and a draft behind them; logits are wanted for the last ``rows``."""

    request: Request
    length: int
    rows: int
    draft: Sequence[int] = ()


@dataclass(slots=True)
class Plan:
    """One step: what to compute, what to copy before, who had to give way, and when the device was given it."""

    items: list[Scheduled] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)
    started: float = 0.0


class Scheduler:
    """Holds the requests between their arrival and their end."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self.waiting: list[Request] = []  # both in the order of rank
        self.running: list[Request] = []

    def use(
        self,
        pool: BlockPool,
        block_size: int,
        slots: int | None,
        depth: int = 1,
        *,
        shared: bool = False,
        kept: KeptSequences | None = None,
    ) -> None:
        """Take blocks from a pool. Nothing is running, and what waits has no blocks.

        Args:
            pool: hands out the blocks.
            block_size: tokens in each.
            slots: the device takes no more requests in a step; None: any number.
            depth: steps that are in flight at a time.
            shared: what a block holds serves all sequences that it is given to, so that prefixes can be reused.
            kept: what can be reused where it is not so.
        """
        assert not self.running
        self._pool = pool
        self._block_size = block_size
        self._depth = depth
        self._shares = shared and self._config.enable_prefix_caching
        self.kept = kept
        self._most = min(self._config.max_num_seqs, slots or self._config.max_num_seqs)

    def add(self, request: Request) -> None:
        """Let a request wait for its turn."""
        insort(self.waiting, request, key=_rank)

    def join(self, request: Request) -> bool:
        """Let a request run that was computed as part of another; False: it waits, and what it holds is to be freed."""
        room = len(self.running) < self._most
        insort(self.running if room else self.waiting, request, key=_rank)
        return room

    def remove(self, request: Request) -> None:
        """Take out a request that ended and free its blocks; unknown ones are ignored."""
        for place in (self.running, self.waiting):
            if request in place:
                place.remove(request)
        request.sequence.release(self._pool)

    def plan(self, flying: Collection[Request] = ()) -> Plan:
        """Choose the next step and reserve the blocks it writes to; requests that are ``flying`` stay out of it."""
        plan = Plan()
        budget = self._config.max_num_batched_tokens
        share = -(-min(self._most, len(self.running) + len(self.waiting)) // self._depth)
        position = 0
        while position < len(self.running) and len(plan.items) < share:
            request = self.running[position]
            position += 1
            remaining = request.remaining
            if request in flying or not remaining:  # a beam may have to wait for the others of its search
                continue
            most = budget - (len(self.running) - position)  # each of those behind gets a token at least
            count = remaining if remaining < most else most
            draft = self._draft(request, count, most, plan) if request.draft else ()
            if not self._make_room(request, count, plan, flying):
                return plan  # nobody overtakes: that would take the blocks that are missing
            budget -= self._take(request, count, draft, plan)
        # Nobody joins a step in which somebody had to leave, for the same reason.
        while budget and self.waiting and len(self.running) < self._most and not plan.preempted:
            request = self.waiting[0]
            if len(plan.items) == share:
                break
            self._reuse(request)
            count = min(request.remaining, budget)
            if not self._reserve(request, count, plan):
                self._drop(request)
                break
            insort(self.running, self.waiting.pop(0), key=_rank)
            budget -= self._take(request, count, (), plan)
        stuck = not (plan.items or plan.preempted or flying) and self.running and self.waiting
        # Then all that run are beams that wait for others of their searches, which find no room beside them. If the
        # last of them waits for the first in the queue, theirs finds no room at all.
        if stuck and self.running[-1].beams is not self.waiting[0].beams:
            self._give_way(self.running[-1], plan)
        return plan

    def landed(self, plan: Plan) -> None:
        """A step has been computed and committed: others may begin with what is in its blocks."""
        if self._shares:
            for item in plan.items:
                item.request.sequence.keep(self._pool, self._block_size)

    def preempt(self, request: Request) -> None:
        """Send a running request back to its place in the queue, to be computed again from its tokens."""
        self.running.remove(request)
        request.sequence.release(self._pool)
        self.add(request)

    def _reuse(self, request: Request) -> None:
        """Begin a request that waits with what others have computed, unless all logits of its prompt are wanted."""
        if request.wants_prompt_logprobs():
            return
        if self._shares:
            request.sequence.reuse(self._pool, self._block_size)
        elif self.kept is not None:
            self.kept.begin(request.sequence)
        if not request.metrics.generated_tokens:
            request.metrics.cached_tokens = request.sequence.computed

    def _drop(self, request: Request) -> None:
        """What a request that has to wait has begun with is of no use."""
        if self.kept is not None:
            self.kept.drop(request.sequence)
        request.sequence.release(self._pool)

    def _draft(self, request: Request, count: int, most: int, plan: Plan) -> Sequence[int]:
        """What of a request's draft fits the step behind its next ``count`` tokens; a guess makes nobody leave."""
        draft = request.draft[: min(most - count, request.limit - len(request.sequence.tokens) - 1)]
        request.draft = ()
        return draft if draft and self._reserve(request, count + len(draft), plan) else ()

    def _make_room(self, request: Request, count: int, plan: Plan, flying: Collection[Request]) -> bool:
        """Reserve blocks for a running request, at the cost of those behind it; False: it has to wait."""
        while not self._reserve(request, count, plan):
            last = self.running[-1]
            if last in flying:  # its turn to give way comes when it has landed
                return False
            self._give_way(last, plan)
            if last is request:
                return False
        return True

    def _give_way(self, request: Request, plan: Plan) -> None:
        self.preempt(request)
        plan.preempted.append(request)

    def _take(self, request: Request, count: int, draft: Sequence[int], plan: Plan) -> int:
        """Plan tokens of a request that has blocks for them; returns how many that are."""
        assert count > 0, "a running request has nothing to compute"
        rows = count if request.wants_prompt_logprobs() else int(count == request.remaining)
        plan.items.append(Scheduled(request, count, rows + len(draft), draft))
        return count + len(draft)

    def _reserve(self, request: Request, count: int, plan: Plan) -> bool:
        sequence = request.sequence
        while True:
            try:
                plan.copies.extend(sequence.reserve(self._pool, self._block_size, sequence.computed + count))
            except CacheFullError:
                if not self.forget():
                    return False
            else:
                return True

    def forget(self) -> bool:
        """Free a block that nobody works with; False: there is none."""
        return self.kept is not None and self.kept.make_room(self._pool.free + 1)
