"""Drafts change no text, whatever they are and whatever happens beside them; they only save steps."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovgen.engine.engine import Engine
from ovgen.engine.request import Request
from tests.engine.fake import VOCAB, continuation, next_token
from tests.engine.test_loop import fake, finish, generated, make_engine, submit

Guess = Callable[[Sequence[int]], list[int]]


def right(count: int) -> Guess:
    """Drafts that are right in all tokens."""
    return lambda tokens: continuation(tokens, count)


def mixed(seed: int) -> Guess:
    """Drafts of any length that are right for a while."""
    rng = random.Random(seed)

    def guess(tokens: Sequence[int]) -> list[int]:
        draft = continuation(tokens, rng.randrange(8))
        return [token if rng.random() < 0.8 else rng.randrange(VOCAB) for token in draft]

    return guess


def draft_with(engine: Engine, guess: Guess) -> None:
    def propose(requests: Sequence[Request]) -> None:
        for request in requests:
            request.draft = guess(request.sequence.tokens)

    engine.has_draft_model = True
    engine._drafts.propose = propose  # type: ignore[method-assign]


def test_right_drafts_save_steps_and_are_counted() -> None:
    engine = make_engine()
    draft_with(engine, right(4))
    request = submit(engine, [1, 2, 3], max_new_tokens=21)
    finish(engine, request)
    assert generated(request) == continuation([1, 2, 3], 21)
    assert len(fake(engine).steps) == 1 + 4  # the prompt and its token; four times five tokens
    assert (request.metrics.drafted_tokens, request.metrics.accepted_tokens) == (16, 16)
    assert engine.metrics.acceptance == 1
    assert engine.pool.used == 0


def test_wrong_drafts_cost_no_token() -> None:
    engine = make_engine()
    draft_with(engine, lambda tokens: [(next_token(tokens) + 1) % VOCAB] * 3)
    request = submit(engine, [1, 2, 3], max_new_tokens=10)
    finish(engine, request)
    assert generated(request) == continuation([1, 2, 3], 10)
    assert len(fake(engine).steps) == 10
    assert request.metrics.accepted_tokens == 0 < request.metrics.drafted_tokens


def test_a_draft_ends_where_the_text_ends() -> None:
    engine = make_engine()
    draft_with(engine, right(8))
    request = submit(engine, [1, 2, 3], max_new_tokens=6)
    finish(engine, request)
    assert generated(request) == continuation([1, 2, 3], 6)
    assert request.finish_reason == "length"
    assert [sum(len(chunk.token_ids) for chunk in step) for step in fake(engine).steps] == [3, 5]


def test_a_stop_token_in_a_draft_ends_the_text() -> None:
    tokens = continuation([1, 2, 3], 20)
    stop = tokens[6]
    engine = make_engine()
    draft_with(engine, right(8))
    request = submit(engine, [1, 2, 3], max_new_tokens=20, stop_token_ids=[stop])
    finish(engine, request)
    assert generated(request) == tokens[: tokens.index(stop) + 1]
    assert request.finish_reason == "stop"


def test_a_guess_makes_nobody_leave() -> None:
    engine = make_engine(blocks=6)
    draft_with(engine, right(7))
    requests = [submit(engine, [i] * 4, max_new_tokens=8, ignore_eos=True) for i in range(2)]
    finish(engine, *requests)
    assert engine.metrics.preemptions == 0
    assert [generated(request) for request in requests] == [continuation([i] * 4, 8) for i in range(2)]


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_texts_are_what_they_are_without_drafts(data: st.DataObject) -> None:
    options: dict[str, Any] = data.draw(
        st.sampled_from(
            [
                {},
                {"temperature": 3.0, "seed": 5},
                {"temperature": 1.0, "seed": 6, "repetition_penalty": 1.2, "presence_penalty": 0.5},
                {"no_repeat_ngram_size": 2, "logprobs": 2},
                {"context_shift": 3, "max_new_tokens": 60},
            ]
        )
    )
    options = {"max_new_tokens": data.draw(st.integers(1, 20)), **options}
    prompts = data.draw(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=4))
    engine = make_engine(
        blocks=data.draw(st.integers(9, 20)), tokens=data.draw(st.integers(4, 24)), seqs=data.draw(st.integers(1, 4))
    )
    plain = make_engine(blocks=engine.pool.limit)
    draft_with(engine, mixed(data.draw(st.integers(0, 1000))))
    texts = []
    for each in (engine, plain):
        requests = [submit(each, prompt, **options) for prompt in prompts]
        finish(each, *requests)
        assert each.pool.used == 0
        texts.append(
            [(generated(r), [entry for piece in r.pieces for entry in piece.logprobs or ()]) for r in requests]
        )
    assert texts[0] == texts[1]


def test_text_that_repeats_itself_is_guessed_from_itself() -> None:
    def periodic(ids: Sequence[int], logits: Any) -> Any:
        logits[:] = 0
        logits[ids[-7]] = 9
        return logits

    prompt = [10, 20, 30, 40, 50, 60, 70] * 2
    counts = {}
    for most in (0, 6):
        engine = make_engine()
        request = submit(engine, prompt, max_new_tokens=60, prompt_lookup_num_tokens=most, logits_processors=[periodic])
        finish(engine, request)
        assert generated(request) == ([10, 20, 30, 40, 50, 60, 70] * 9)[:60]
        counts[most] = len(fake(engine).steps)
    assert counts[0] == 60
    assert counts[6] < 60 / 2.5
    assert not engine._drafts._lookups  # nothing is kept of a request that has ended


@pytest.mark.parametrize("place", ["start", "wait"])
def test_a_failure_in_a_drafted_step_loses_nothing(place: str) -> None:
    engine = make_engine()
    draft_with(engine, mixed(3))
    requests = [submit(engine, [i, 5], max_new_tokens=15) for i in range(3)]
    for _ in range(3):
        engine.step()
    fake(engine).fail[place] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        finish(engine, *requests)
    finish(engine, *requests)
    assert [generated(request) for request in requests] == [continuation([i, 5], 15) for i in range(3)]
    assert engine.pool.used == 0
