"""Which tokens of which requests the next step computes. Numbers only: no device, no tensors.

There is no prefill phase nor decode phase (as in vLLM's v1 scheduler): a step takes from each request what it has to
compute, oldest request first, until the token budget is used up. Where blocks run out, the youngest request gives up
its own and is computed again later.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ovgen.config import EngineConfig
from ovgen.engine.block_pool import BlockPool
from ovgen.engine.request import Request
from ovgen.engine.sequence import Copy
from ovgen.errors import CacheFullError

__all__ = ["Plan", "Scheduled", "Scheduler"]


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The next ``count`` tokens of a request, with logits wanted for the last ``rows`` of them."""

    request: Request
    count: int
    rows: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: what to compute, what to copy before, and who had to give way."""

    items: list[Scheduled] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)


class Scheduler:
    """Holds the requests between their arrival and their end."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []  # oldest first

    def use(self, pool: BlockPool, block_size: int, slots: int | None) -> None:
        """Take blocks from a pool; ``slots``: the device takes no more requests in a step, None: any number.

        Nothing is running, and what waits has no blocks.
        """
        assert not self.running
        self._pool = pool
        self._block_size = block_size
        self._most = min(self._config.max_num_seqs, slots or self._config.max_num_seqs)

    def add(self, request: Request) -> None:
        """Let a request wait for its turn."""
        self.waiting.append(request)

    def remove(self, request: Request) -> None:
        """Take out a request that ended and free its blocks; unknown ones are ignored."""
        if request in self.running:
            self.running.remove(request)
        elif request in self.waiting:
            self.waiting.remove(request)
        request.sequence.release(self._pool)

    def plan(self) -> Plan:
        """Choose the next step and reserve the blocks it writes to."""
        plan = Plan()
        budget = self._config.max_num_batched_tokens
        position = 0
        while budget and position < len(self.running):  # which gets shorter, from its end, by preemption
            budget -= self._take(self.running[position], budget, plan)
            position += 1
        # Nobody joins a step in which somebody had to leave: it would take the blocks that were missing.
        while budget and self.waiting and len(self.running) < self._most and not plan.preempted:
            request = self.waiting[0]
            if not self._reserve(request, min(request.remaining, budget), plan):
                break
            self.running.append(self.waiting.popleft())
            budget -= self._take(request, budget, plan)
        return plan

    def preempt(self, request: Request) -> None:
        """Send a running request back to the head of the queue, to be computed again from its tokens."""
        self.running.remove(request)
        request.sequence.release(self._pool)
        self.waiting.appendleft(request)

    def _take(self, request: Request, budget: int, plan: Plan) -> int:
        """Plan up to ``budget`` tokens of a running request, at the cost of younger ones; returns how many."""
        count = min(request.remaining, budget)
        assert count > 0, "a running request has nothing to compute"
        while not self._reserve(request, count, plan):
            youngest = self.running[-1]
            self.preempt(youngest)
            plan.preempted.append(youngest)
            if youngest is request:
                return 0
        ends = count == request.remaining
        rows = count if request.wants_prompt_logprobs() else int(ends)
        plan.items.append(Scheduled(request, count, rows))
        return count

    def _reserve(self, request: Request, count: int, plan: Plan) -> bool:
        sequence = request.sequence
        try:
            plan.copies.extend(sequence.reserve(self._pool, self._block_size, sequence.computed + count))
        except CacheFullError:
            return False
        return True
