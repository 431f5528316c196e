import time

from ovgen.config import EngineConfig, SamplingParams
from ovgen.engine.block_pool import BlockPool
from ovgen.engine.request import Request
from ovgen.engine.scheduler import Plan, Scheduler
from ovgen.engine.sequence import KVSequence
from ovgen.metrics import RequestMetrics
from ovgen.sampling import SamplerState, StopStrings
from tests.engine.fake import NoText


def make_request(length: int, **options: int) -> Request:
    params = SamplingParams(**options)  # type: ignore[arg-type]
    prompt = list(range(length))
    return Request(
        sequence=KVSequence(list(prompt)),
        prompt=tuple(prompt),
        params=params,
        sampler=SamplerState(params, prompt, frozenset()),
        text=NoText(),
        stops=StopStrings((), False),
        limit=1000,
        stop_ids=frozenset(),
        metrics=RequestMetrics(time.perf_counter(), length),
    )


def make_scheduler(blocks: int = 100, tokens: int = 16, seqs: int = 8) -> Scheduler:
    config = EngineConfig(max_num_batched_tokens=tokens, max_num_seqs=seqs)
    scheduler = Scheduler(config)
    scheduler.use(BlockPool(blocks), block_size=4, slots=None)
    return scheduler


def counts(plan: Plan) -> list[tuple[Request, int, int]]:
    return [(item.request, item.length, item.rows) for item in plan.items]


def compute(plan: Plan) -> None:
    """What the loop does with a step: everything planned is computed, and ends are followed by a new token."""
    for item in plan.items:
        item.request.sequence.computed += item.length
        if not item.request.remaining:
            item.request.sequence.tokens.append(0)


def test_a_long_prompt_is_computed_in_chunks_and_only_the_last_wants_logits() -> None:
    scheduler = make_scheduler(tokens=16)
    request = make_request(40)
    scheduler.add(request)
    seen = []
    for _ in range(4):
        plan = scheduler.plan()
        seen += counts(plan)
        compute(plan)
    assert seen == [(request, 16, 0), (request, 16, 0), (request, 8, 1), (request, 1, 1)]


def test_decoding_goes_before_new_prompts_and_shares_the_step_with_them() -> None:
    scheduler = make_scheduler(tokens=16)
    old, new = make_request(3), make_request(40)
    scheduler.add(old)
    compute(scheduler.plan())
    scheduler.add(new)
    assert counts(scheduler.plan()) == [(old, 1, 1), (new, 15, 0)]


def test_no_more_requests_run_than_allowed() -> None:
    scheduler = make_scheduler(seqs=2)
    requests = [make_request(2) for _ in range(3)]
    for request in requests:
        scheduler.add(request)
    assert [item.request for item in scheduler.plan().items] == requests[:2]
    scheduler.remove(requests[0])
    compute_second = scheduler.plan()
    assert [item.request for item in compute_second.items] == [requests[1], requests[2]]


def test_prompt_logprobs_want_every_row() -> None:
    scheduler = make_scheduler()
    request = make_request(5, prompt_logprobs=1)
    scheduler.add(request)
    assert counts(scheduler.plan()) == [(request, 5, 5)]


def test_when_blocks_run_out_the_youngest_gives_way_and_comes_back_first() -> None:
    scheduler = make_scheduler(blocks=4, tokens=16)
    old, young, waiting = make_request(7), make_request(7), make_request(4)
    for request in (old, young):
        scheduler.add(request)
    compute(scheduler.plan())  # 2 + 2 blocks: all taken; 8 tokens each now
    scheduler.add(waiting)
    compute(scheduler.plan())  # the eighth token fits
    plan = scheduler.plan()  # the ninth does not
    assert counts(plan) == [(old, 1, 1)]
    assert plan.preempted == [young]
    assert (young.sequence.blocks, young.sequence.computed) == ([], 0)
    assert list(scheduler.waiting) == [young, waiting]
    assert old.sequence.blocks == [0, 1, 2]  # the young one's first
    scheduler.remove(old)
    plan = scheduler.plan()
    assert counts(plan) == [(young, 9, 1), (waiting, 4, 1)]


def test_a_request_that_is_alone_and_does_not_fit_waits_without_holding_anything() -> None:
    scheduler = make_scheduler(blocks=1, tokens=16)
    request = make_request(9)
    scheduler.add(request)
    assert scheduler.plan() == Plan()
    assert request.sequence.blocks == []


def test_removing_frees_the_blocks_and_removing_twice_is_harmless() -> None:
    scheduler = make_scheduler()
    request = make_request(9)
    scheduler.add(request)
    scheduler.plan()
    assert scheduler._pool.used == 3
    scheduler.remove(request)
    scheduler.remove(request)
    assert scheduler._pool.used == 0
