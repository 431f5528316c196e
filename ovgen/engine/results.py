"""What the logits of a step make of its requests: tokens, log-probabilities, ends and errors."""

from __future__ import annotations

import time
from collections import deque

import numpy as np
from numpy.typing import NDArray

from ovgen.engine.request import Request
from ovgen.engine.scheduler import Plan
from ovgen.errors import GenerationError, OvgenError
from ovgen.sampling import Sampler

__all__ = ["commit"]


def commit(plan: Plan, logits: NDArray[np.float32], sampler: Sampler, unemitted: deque[Request]) -> None:
    """Note what has been computed, and sample where a request has nothing left to compute.

    Args:
        plan: the step. Requests in it that finished while the device worked are left alone.
        logits: its rows ``(rows, vocab)``, request by request.
        sampler: draws the tokens.
        unemitted: where requests go that have a new token.
    """
    sampled: list[tuple[int, Request]] = []  # row -> request
    row = 0
    for item in plan.items:
        request = item.request
        row += item.rows
        if request.finished:  # aborted, or stopped by a string
            continue
        try:
            request.keep_prompt_logprobs(logits[row - item.rows : row])
        except GenerationError as error:
            request.error = error
        else:
            request.sequence.computed += item.count
            if not request.remaining:
                sampled.append((row - 1, request))
    if not sampled:
        return
    if len(sampled) < len(logits):
        logits = logits[[row for row, _ in sampled]]
    choices = sampler.sample(logits, [request.sampler for _, request in sampled])
    now = time.perf_counter()
    for (_, request), choice in zip(sampled, choices, strict=True):
        if isinstance(choice, OvgenError):
            request.error = choice
        else:
            request.commit(choice, now)
            unemitted.append(request)
