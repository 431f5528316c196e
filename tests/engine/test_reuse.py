"""Requests that begin with what ended ones have left, where the runner keeps the cache by sequence."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovgen.config import EngineConfig, SamplingParams
from ovgen.engine.engine import Engine
from ovgen.engine.group import Group
from ovgen.engine.session import Session
from tests.engine.fake import KeepingRunner, NoText, continuation
from tests.engine.test_loop import CONTEXT, finish, generated, submit

PROMPT = list(range(30))


def make_engine(blocks: int = 1000, tokens: int = 16, seqs: int = 8, **options: Any) -> Engine:
    config = EngineConfig(max_num_batched_tokens=tokens, max_num_seqs=seqs, cache_size=blocks / 1024, **options)
    return Engine(KeepingRunner(), config, CONTEXT, frozenset())


def run(engine: Engine, prompt: Sequence[int], count: int = 5, **options: Any) -> int:
    """Generate greedily, check it, and say how many tokens of the prompt lay in the cache."""
    request = submit(engine, prompt, max_new_tokens=count, **options)
    finish(engine, request)
    assert generated(request) == continuation(prompt, count)
    return request.metrics.cached_tokens


def assert_only_kept(engine: Engine) -> None:
    """The runner holds the rows of kept sequences and nothing else, and the pool their blocks."""
    kept = engine.scheduler.kept
    assert kept is not None
    assert isinstance(engine.runner, KeepingRunner)
    assert set(engine.runner.rows) == {sequence.number for sequence in kept._kept}
    assert engine.pool.used == len({block for sequence in kept._kept for block in sequence.blocks})
    kept.clear()
    assert engine.pool.used == 0
    assert not engine.runner.rows


def test_the_next_turn_goes_on_where_the_last_one_ended() -> None:
    engine = make_engine()
    assert run(engine, PROMPT) == 0
    turn = [*PROMPT, *continuation(PROMPT, 5), 7, 8, 9]
    assert run(engine, turn) == 34  # the last token of a text is not computed
    assert run(engine, [*turn[:20], 90, 91]) == 20
    assert run(engine, turn) == 37  # all but the last token, which gives the logits
    assert engine.metrics.hit_rate == pytest.approx((34 + 20 + 37) / (30 + 38 + 22 + 38))
    assert_only_kept(engine)


def test_it_can_be_switched_off() -> None:
    engine = make_engine(enable_prefix_caching=False)
    assert [run(engine, PROMPT), run(engine, PROMPT)] == [0, 0]
    assert engine.pool.used == 0


def test_what_is_kept_gives_way_before_anybody_has_to() -> None:
    engine = make_engine(blocks=20)
    run(engine, PROMPT)
    requests = [submit(engine, [50 + i] * 12, max_new_tokens=8) for i in range(4)]  # five blocks each
    finish(engine, *requests)
    assert engine.metrics.preemptions == 0
    assert_only_kept(engine)


def test_sessions_find_the_room_that_is_kept() -> None:
    engine = make_engine(blocks=10)
    run(engine, PROMPT)
    with Session(engine, lambda: "m") as session:
        session.forward(list(range(40)), rows=1)
    assert_only_kept(engine)


def test_a_failure_keeps_nothing() -> None:
    engine = make_engine()
    run(engine, PROMPT)
    request = submit(engine, [5, 6], max_new_tokens=5)
    assert isinstance(engine.runner, KeepingRunner)
    engine.runner.fail["wait"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        finish(engine, request)
    assert engine.scheduler.kept is not None
    assert len(engine.scheduler.kept) == 0
    finish(engine, request)
    assert generated(request) == continuation([5, 6], 5)
    assert_only_kept(engine)


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_reuse_changes_no_text(data: st.DataObject) -> None:
    """Prompts with beginnings in common, several texts, drafts, little room, and requests that are given up."""
    engine = make_engine(
        blocks=data.draw(st.integers(14, 30)), tokens=data.draw(st.integers(4, 20)), seqs=data.draw(st.integers(1, 4))
    )
    prompts = st.lists(st.integers(0, 1), min_size=1, max_size=20)
    for _ in range(data.draw(st.integers(1, 6))):
        several: dict[str, Any] = data.draw(st.sampled_from([{}, {"n": 3, "temperature": 3.0, "seed": 1}]))
        params = SamplingParams(
            max_new_tokens=data.draw(st.integers(1, 8)),
            prompt_lookup_num_tokens=data.draw(st.sampled_from([0, 4])),
            **several,
        )
        batch = data.draw(st.lists(prompts, min_size=1, max_size=3))
        found = [outputs(each, batch, params) for each in (engine, make_engine(enable_prefix_caching=False))]
        assert found[0] == found[1]
        given_up = submit(engine, data.draw(prompts), max_new_tokens=8)
        for _ in range(data.draw(st.integers(0, 4))):
            engine.step()
        engine.abort(given_up)
    engine.drain()
    assert_only_kept(engine)


def outputs(engine: Engine, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[list[tuple[int, ...]]]:
    groups = [Group(engine, engine.prepare(prompt, params, NoText)) for prompt in prompts]
    for group in groups:
        group.submit()
    results = [group.output(list(group.drive())) for group in groups]
    return [[text.token_ids for text in result.outputs] for result in results]
