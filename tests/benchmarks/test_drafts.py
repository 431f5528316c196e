"""Host time of finding drafts, which every step waits for."""

import random
from collections.abc import Callable

import pytest

from ovgen.config import SamplingParams
from ovgen.engine.drafts import Drafts
from ovgen.engine.request import NoText, make_request

Benchmark = Callable[[Callable[[], None]], None]


@pytest.mark.parametrize("length", [100, 10_000])
@pytest.mark.parametrize("requests", [1, 16, 64])
def test_host_time_of_prompt_lookup_per_step(benchmark: Benchmark, requests: int, length: int) -> None:
    """A token more for each request, as after a step whose draft was wrong."""
    rng = random.Random(0)
    params = SamplingParams(prompt_lookup_num_tokens=10)
    running = [
        make_request([rng.randrange(500) for _ in range(length)], params, NoText, 1 << 30, frozenset())
        for _ in range(requests)
    ]
    drafts = Drafts()
    drafts.propose(running)

    def step() -> None:
        for request in running:
            drafts.landed(request, len(request.draft), 0)
            request.draft = ()
            request.sequence.tokens.append(rng.randrange(500))
        drafts.propose(running)

    benchmark(step)
