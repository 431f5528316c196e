"""Telling somebody what each step was."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ovgen.engine.block_pool import BlockPool
from ovgen.engine.results import Results
from ovgen.engine.scheduler import Plan, Scheduler
from ovgen.metrics import EngineMetrics, StepMetrics

__all__ = ["OnStep", "Watch"]

OnStep = Callable[[StepMetrics], None]
_log = logging.getLogger("ovgen")


class Watch:
    """Notes the figures of steps as long as somebody wants them.

    Attributes:
        hook: is told; None: nobody is. One that fails is reported and not called again: whoever only looks on must not
            stop those who generate.
    """

    def __init__(self, metrics: EngineMetrics, scheduler: Scheduler, results: Results) -> None:
        self.hook: OnStep | None = None
        self._metrics, self._scheduler, self._results = metrics, scheduler, results
        self._chosen = self._preemptions = 0  # that have been told
        self._untold: list[StepMetrics] = []

    def note(self, plan: Plan, asked: float, landed: float, pool: BlockPool) -> None:
        """A step has landed, and its results are in its requests; ``asked`` is when the host began to wait."""
        chosen, preemptions = self._results.chosen, self._metrics.preemptions
        if self.hook is not None:
            step = StepMetrics(
                number=self._metrics.steps,
                started=plan.started,
                landed=landed,
                waited=landed - asked,
                requests=len(plan.items),
                tokens=sum(item.length + len(item.draft) for item in plan.items),
                generated=chosen - self._chosen,
                running=len(self._scheduler.running),
                waiting=len(self._scheduler.waiting),
                preempted=preemptions - self._preemptions,
                blocks=pool.used,
            )
            self._untold.append(step)
        self._chosen, self._preemptions = chosen, preemptions

    def tell(self) -> None:
        """Call the hook with what it has not been told."""
        while self._untold:
            step = self._untold.pop(0)
            if self.hook is None:
                continue
            try:
                self.hook(step)
            except Exception:
                self.hook = None
                _log.exception("on_step failed, and is not called again")
