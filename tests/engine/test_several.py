"""Several texts of a prompt, who goes first, fair shares of a step, and going on when the context is full."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovgen.config import SamplingParams
from ovgen.engine.engine import Engine
from ovgen.engine.group import Group
from ovgen.engine.request import Request
from ovgen.errors import RequestError
from tests.engine.fake import NoText, continuation, next_token
from tests.engine.test_loop import CONTEXT, fake, finish, generated, make_engine, submit

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6]


def texts(engine: Engine, *prompts: list[int], **options: Any) -> list[list[tuple[int, ...]]]:
    """The token ids of all texts of each prompt; everything is free afterwards."""
    params = SamplingParams(**{"max_new_tokens": 10, **options})
    groups = [Group(engine, engine.prepare(prompt, params, NoText)) for prompt in prompts]
    for group in groups:
        group.submit()
    outputs = [group.output(list(group.drive())) for group in groups]
    assert engine.pool.used == 0
    engine.pool.check()
    return [[each.token_ids for each in output.outputs] for output in outputs]


# Several texts


def test_the_texts_of_a_prompt_are_those_of_requests_with_the_next_seeds() -> None:
    (several,) = texts(make_engine(), PROMPT, n=4, temperature=5.0, seed=7)
    alone = [texts(make_engine(), PROMPT, temperature=5.0, seed=7 + i)[0][0] for i in range(4)]
    assert several == alone
    assert len(set(several)) == 4


def test_the_prompt_is_computed_once_and_its_blocks_are_shared() -> None:
    engine = make_engine(tokens=64)
    (lead,) = [engine.prepare(PROMPT, SamplingParams(n=3, temperature=5.0, seed=1, max_new_tokens=2), NoText)]
    requests = [lead, *lead.twins]
    engine.submit(lead)
    finish(engine, *requests)
    assert [sum(len(chunk.token_ids) for chunk in step) for step in fake(engine).steps] == [8, 3]
    first, *others = fake(engine).steps[1]
    assert all(list(chunk.blocks[:2]) == list(first.blocks[:2]) for chunk in others)  # two full blocks of four
    assert len({chunk.blocks[2] for chunk in fake(engine).steps[1]}) == 3


def test_a_block_that_is_not_full_is_copied_for_each_text() -> None:
    (several,) = texts(make_engine(), PROMPT[:6], n=3, temperature=5.0, seed=2)
    assert several == [texts(make_engine(), PROMPT[:6], temperature=5.0, seed=2 + i)[0][0] for i in range(3)]


def test_texts_that_find_no_place_in_a_step_wait_for_it() -> None:
    engine = make_engine(seqs=2)
    (several,) = texts(engine, PROMPT, n=5, temperature=5.0, seed=7)
    assert several == [texts(make_engine(), PROMPT, temperature=5.0, seed=7 + i)[0][0] for i in range(5)]
    assert max(len(step) for step in fake(engine).steps) == 2


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_company_preemption_and_chunks_change_no_text(data: st.DataObject) -> None:
    prompts = data.draw(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=4))
    n = data.draw(st.integers(1, 4))
    small = make_engine(
        blocks=data.draw(st.integers(7, 20)), tokens=data.draw(st.integers(4, 20)), seqs=data.draw(st.integers(1, 4))
    )
    options = {"n": n, "temperature": 4.0, "seed": 3, "max_new_tokens": data.draw(st.integers(1, 12))}
    assert texts(small, *prompts, **options) == [texts(make_engine(), prompt, **options)[0] for prompt in prompts]


def test_the_likeliest_texts_are_chosen_from_more() -> None:
    engine = make_engine()
    params = SamplingParams(n=2, best_of=5, temperature=5.0, seed=1, max_new_tokens=4)
    group = Group(engine, engine.prepare(PROMPT, params, NoText))
    group.submit()
    best = group.output(list(group.drive()))
    every = [
        Group(
            engine,
            engine.prepare(PROMPT, SamplingParams(temperature=5.0, seed=1 + i, max_new_tokens=4, logprobs=0), NoText),
        )
        for i in range(5)
    ]
    outputs = []
    for each in every:
        each.submit()
        outputs.append(each.output(list(each.drive())))
    scores = {output.token_ids: sum(entry.logprob for entry in output.logprobs or ()) for output in outputs}
    expected = sorted(scores, key=lambda ids: scores[ids], reverse=True)[:2]
    assert [output.token_ids for output in best.outputs] == expected
    assert [output.score for output in best.outputs] == pytest.approx([scores[ids] for ids in expected])
    assert best.logprobs is None  # they were not asked for


def test_a_prompt_that_fails_fails_all_its_texts() -> None:
    def broken(ids: Any, logits: Any) -> Any:
        raise ZeroDivisionError

    engine = make_engine()
    params = SamplingParams(n=3, temperature=1.0, logits_processors=[broken])  # type: ignore[arg-type]
    lead = engine.prepare(PROMPT, params, NoText)
    requests = [lead, *lead.twins]
    engine.submit(lead)
    finish(engine, *requests)
    assert all(request.error is not None for request in requests)
    assert engine.pool.used == 0


def test_aborting_a_prompt_before_its_end_ends_all_its_texts() -> None:
    engine = make_engine(tokens=8)
    lead = engine.prepare(PROMPT * 4, SamplingParams(n=3, temperature=1.0), NoText)
    requests = [lead, *lead.twins]
    engine.submit(lead)
    engine.step()
    engine.abort(lead)
    finish(engine, *requests)
    assert [request.finish_reason for request in requests] == ["abort"] * 3
    assert engine.pool.used == 0


def test_a_text_that_is_given_up_before_it_begins_never_does() -> None:
    engine = make_engine(tokens=8)
    lead = engine.prepare(PROMPT * 2, SamplingParams(n=3, temperature=5.0, seed=1, max_new_tokens=3), NoText)
    requests = [lead, *lead.twins]
    engine.submit(lead)
    engine.step()
    engine.abort(requests[1])
    finish(engine, *requests)
    assert [request.finish_reason for request in requests] == ["length", "abort", "length"]
    assert not generated(requests[1])
    engine.drain()
    assert (engine.pool.used, engine.scheduler.running) == (0, [])


# Who goes first


def order_of_first_tokens(engine: Engine, requests: list[Request]) -> list[int]:
    seen: list[int] = []
    while not all(request.done for request in requests):
        engine.step()
        seen += [i for i, request in enumerate(requests) if request.metrics.generated_tokens and i not in seen]
    return seen


def test_a_lower_priority_number_goes_first_and_equals_in_the_order_of_arrival() -> None:
    engine = make_engine(seqs=1)
    requests = [submit(engine, [i], max_new_tokens=2, priority=p) for i, p in enumerate([1, 0, 1, -1, 0])]
    assert order_of_first_tokens(engine, requests) == [3, 1, 4, 0, 2]


def test_where_blocks_run_out_the_lowest_in_rank_gives_way() -> None:
    engine = make_engine(blocks=6)
    first = submit(engine, [1] * 4, max_new_tokens=12, priority=1)
    second = submit(engine, [2] * 4, max_new_tokens=12, priority=0)
    gone: set[Request] = set()
    while not (first.done and second.done):
        engine.step()
        gone |= set(engine.scheduler.waiting)
    assert gone == {first}  # though it came first
    assert generated(first) == continuation([1] * 4, 12)
    assert generated(second) == continuation([2] * 4, 12)


def test_a_long_prompt_leaves_a_token_to_each_of_those_behind_it() -> None:
    engine = make_engine(tokens=16)
    decoding = [submit(engine, [i], max_new_tokens=20, priority=1) for i in range(3)]
    engine.step()
    engine.step()
    long = submit(engine, [7] * 60, max_new_tokens=1)
    for _ in range(5):
        engine.step()
    lengths = [[len(chunk.token_ids) for chunk in step] for step in fake(engine).steps]
    assert lengths[2:6] == [[1, 1, 1, 13], [13, 1, 1, 1], [13, 1, 1, 1], [13, 1, 1, 1]]
    finish(engine, long, *decoding)


# Going on when the context is full


def shifted(prompt: list[int], count: int, first: int, capacity: int) -> list[int]:
    """Greedy output of the fake model that keeps the first tokens and the newer half of the others."""
    tokens = list(prompt)
    output: list[int] = []
    while len(output) < count:
        if len(tokens) >= capacity:
            tokens = tokens[:first] + tokens[-((capacity - first) // 2) :]
        tokens.append(next_token(tokens))
        output.append(tokens[-1])
    return output


@pytest.mark.parametrize("first", [0, 1, 4, 7, CONTEXT - 4])
def test_generation_goes_on_with_the_first_tokens_and_the_newer_half(first: int) -> None:
    engine = make_engine()
    request = submit(engine, PROMPT, max_new_tokens=500, context_shift=first)
    finish(engine, request)
    assert generated(request) == shifted(PROMPT, 500, first, CONTEXT)
    assert request.metrics.dropped_tokens > 0
    assert len(request.sequence.tokens) <= CONTEXT
    assert engine.pool.used == 0
    output = request.output([])
    assert output.prompt_token_ids == tuple(PROMPT)


def test_a_prompt_that_is_too_long_is_cut_the_same_way() -> None:
    engine = make_engine()
    prompt = [i % 97 for i in range(3 * CONTEXT)]
    request = submit(engine, prompt, max_new_tokens=5, context_shift=4)
    kept = prompt[:4] + prompt[-98:]
    finish(engine, request)
    assert request.prompt == tuple(kept)
    assert request.metrics.dropped_tokens == len(prompt) - len(kept)
    assert generated(request) == continuation(kept, 5)


def test_a_small_cache_shifts_like_a_short_context() -> None:
    engine = make_engine(blocks=5)  # 20 tokens
    request = submit(engine, PROMPT, max_new_tokens=50, context_shift=2)
    finish(engine, request)
    assert generated(request) == shifted(PROMPT, 50, 2, 20)


def test_first_tokens_that_leave_no_room_are_refused() -> None:
    with pytest.raises(RequestError, match="context_shift=197 leaves no room in a context of 200 tokens"):
        make_engine().prepare(PROMPT, SamplingParams(context_shift=197), NoText)


# What the engine has counted


def test_the_engine_counts_what_its_requests_did() -> None:
    engine = make_engine(tokens=64)
    texts(engine, PROMPT, n=3, temperature=5.0, seed=1, max_new_tokens=5)
    texts(engine, [*PROMPT, 0], max_new_tokens=2)
    metrics = engine.metrics
    assert (metrics.requests, metrics.generated_tokens, metrics.prompt_tokens) == (4, 17, 8 + 9)
    assert metrics.cached_tokens == 8  # two blocks of four were kept
    assert metrics.hit_rate == pytest.approx(8 / 17)
    assert metrics.steps == len(fake(engine).steps) == 5 + 2
    assert (metrics.preemptions, metrics.acceptance) == (0, None)


def test_who_had_to_give_way_is_counted() -> None:
    engine = make_engine(blocks=6)
    finish(engine, *(submit(engine, [i] * 4, max_new_tokens=12) for i in range(2)))
    assert engine.metrics.preemptions > 0
    assert engine.metrics.requests == 2


def test_the_cache_says_how_much_it_may_take() -> None:
    assert str(make_engine(blocks=512).cache) == "at most 0.5 GiB, for 2048 tokens, taken by need"
