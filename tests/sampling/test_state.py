"""What a request remembers: kept up step by step, and the same as worked out from the whole history."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovgen.config import SamplingParams
from ovgen.errors import GenerationError
from ovgen.sampling import SamplerState
from ovgen.sampling.history import BadWords, NgramIndex, TokenCounts
from ovgen.sampling.transforms import Logits
from tests.sampling import reference

VOCAB = 12
INF = math.inf
tokens = st.integers(0, VOCAB - 1)


def processed(state: SamplerState, *logits: float) -> list[float]:
    row = np.array(logits, dtype=np.float32)
    state.process(row)
    result: list[float] = row.tolist()
    return result


def state_of(
    prompt: Sequence[int] = (0,), eos: Sequence[int] = (), words: Sequence[Sequence[int]] = (), **options: Any
) -> SamplerState:
    return SamplerState(SamplingParams(**options), prompt, frozenset(eos), words)


@st.composite
def sampling_params(draw: st.DrawFn) -> SamplingParams:
    maybe_token = st.one_of(st.none(), tokens)
    some_tokens = st.lists(tokens, max_size=2).map(tuple)
    return SamplingParams(
        max_new_tokens=draw(st.integers(4, 9)),
        min_new_tokens=draw(st.integers(0, 4)),
        repetition_penalty=draw(st.sampled_from([1.0, 0.8, 1.3])),
        presence_penalty=draw(st.sampled_from([0.0, 0.5, -0.5])),
        frequency_penalty=draw(st.sampled_from([0.0, 0.25])),
        no_repeat_ngram_size=draw(st.integers(0, 4)),
        logit_bias=draw(st.dictionaries(tokens, st.floats(-5, 5), max_size=3)),
        suppress_tokens=draw(some_tokens),
        begin_suppress_tokens=draw(some_tokens),
        forced_bos_token_id=draw(maybe_token),
        forced_eos_token_id=draw(maybe_token),
        stop_token_ids=draw(some_tokens),
    )


@settings(max_examples=300, deadline=None)
@given(
    params=sampling_params(),
    prompt=st.lists(st.integers(0, VOCAB + 2), min_size=1, max_size=20),
    output=st.lists(tokens, min_size=1, max_size=9),
    eos=st.frozensets(tokens, max_size=2),
    words=st.lists(st.lists(tokens, min_size=1, max_size=3), max_size=4),
)
def test_every_step_is_as_worked_out_from_the_whole_history(
    params: SamplingParams, prompt: list[int], output: list[int], eos: frozenset[int], words: list[list[int]]
) -> None:
    rng = np.random.default_rng(0)
    state = SamplerState(params, prompt, eos, words)
    for step, token in enumerate(output):
        assert state.generated == step
        row: Logits = rng.normal(0, 3, VOCAB).astype(np.float32)
        expected = reference.processed(row, params, prompt, output[:step], eos, words)
        state.process(row)
        np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-6)
        state.append(token)


@settings(max_examples=100, deadline=None)
@given(
    params=sampling_params(),
    prompt=st.lists(tokens, min_size=1, max_size=20),
    shared=st.lists(tokens, max_size=9),
    outputs=st.tuples(st.lists(tokens, max_size=9), st.lists(tokens, max_size=9)),
    words=st.lists(st.lists(tokens, min_size=1, max_size=3), max_size=4),
)
def test_a_fork_and_its_origin_go_on_on_their_own(
    params: SamplingParams, prompt: list[int], shared: list[int], outputs: tuple[list[int], ...], words: list[list[int]]
) -> None:
    state = SamplerState(params, prompt, frozenset(), words)
    for token in shared:
        state.append(token)
    row: Logits = np.random.default_rng(0).normal(0, 3, VOCAB).astype(np.float32)
    for one, output in zip((state.fork(), state), outputs, strict=True):
        for token in output:
            one.append(token)
        expected = reference.processed(row, params, prompt, shared + output, frozenset(), words)
        result = row.copy()
        one.process(result)
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)


def test_a_fork_draws_what_its_origin_would_have_drawn() -> None:
    state = state_of(seed=1, temperature=1.0)
    state.rng.random()
    fork = state.fork()
    assert fork.rng.random(3).tolist() == state.rng.random(3).tolist()


class Afterwards:
    """Lets nothing but the token after the last one come."""

    complete = False

    def __init__(self, last: int) -> None:
        self.last = last

    def prepare(self) -> None:
        pass

    def apply(self, logits: Logits) -> None:
        logits[np.arange(logits.size) != self.last + 1] = -INF

    def append(self, token_id: int) -> None:
        self.last = token_id

    def forced(self) -> Sequence[int]:
        return [self.last + 1]

    def fork(self) -> Afterwards:
        return Afterwards(self.last)


def test_a_fork_has_a_constraint_of_its_own() -> None:
    state = SamplerState(SamplingParams(), [0], frozenset(), constraint=Afterwards(0))
    fork = state.fork()
    fork.append(1)
    assert processed(fork, 5, 5, 5) == [-INF, -INF, 5]
    assert processed(state, 5, 5, 5) == [-INF, 5, -INF]


def test_a_constraint_is_not_cut_short_by_a_forced_last_token() -> None:
    params = SamplingParams(forced_eos_token_id=2, max_new_tokens=1)
    assert processed(SamplerState(params, [0], frozenset({2}), constraint=Afterwards(0)), 5, 5, 5) == [-INF, 5, -INF]


@given(st.lists(tokens), st.lists(tokens))
def test_token_counts(before: list[int], after: list[int]) -> None:
    counts = TokenCounts(before)
    for token in after:
        counts.add(token)
    found = dict(zip(counts.ids.tolist(), counts.counts.tolist(), strict=True))
    assert found == Counter([*before, *after])


def test_token_counts_outgrow_their_first_arrays() -> None:
    counts = TokenCounts([5, 3, 5])
    for token in range(1000):
        counts.add(token)
    assert sorted(counts.ids.tolist()) == list(range(1000))
    assert dict(zip(counts.ids.tolist(), counts.counts.tolist(), strict=True))[5] == 3


def test_ngrams_by_hand() -> None:
    history = [1, 2, 3, 1, 2]
    index = NgramIndex(3, history)
    assert list(index.banned()) == [3]  # 1 2 3 stands
    history.append(4)
    index.add(4)
    assert list(index.banned()) == []
    for token in (1, 2):
        history.append(token)
        index.add(token)
    assert sorted(index.banned()) == [3, 4]


def test_no_ngram_is_banned_before_there_is_one() -> None:
    assert list(NgramIndex(4, [1, 2, 3]).banned()) == []
    assert list(NgramIndex(1, []).banned()) == []


def test_bad_words_by_hand() -> None:
    words = BadWords([[7], [1, 2, 3], [2, 4], [9, 2, 5], [0]], allowed={0})
    assert words.banned([]).tolist() == [7]
    assert words.banned([1]).tolist() == [7]
    assert words.banned([2]).tolist() == [7, 4]
    assert sorted(words.banned([1, 2]).tolist()) == [3, 4, 7]
    assert words.banned([1, 2, 6]).tolist() == [7]


def test_repetition_looks_at_prompt_and_output_the_counts_at_the_output() -> None:
    state = state_of([1], repetition_penalty=2.0)
    state.append(2)
    assert processed(state, 4, 4, 4) == [4, 2, 2]
    state = state_of([1], presence_penalty=1.0, frequency_penalty=0.5)
    assert processed(state, 4, 4, 4) == [4, 4, 4]
    state.append(2)
    state.append(2)
    assert processed(state, 4, 4, 4) == [4, 4, 4 - 1 - 2 * 0.5]


def test_bias_comes_before_the_repetition_penalty() -> None:
    state = state_of([0], logit_bias={0: 3.0}, repetition_penalty=2.0)
    assert processed(state, 1, 1) == [(1 + 3) / 2, 1]


def test_the_repetition_penalty_comes_before_presence() -> None:
    state = state_of([], repetition_penalty=2.0, presence_penalty=1.0)
    state.append(0)
    assert processed(state, 4, 4) == [4 / 2 - 1, 4]


def test_no_end_before_min_new_tokens() -> None:
    state = state_of(eos=[1], stop_token_ids=[2], min_new_tokens=2)
    assert processed(state, 5, 5, 5) == [5, -INF, -INF]
    state.append(0)
    assert processed(state, 5, 5, 5) == [5, -INF, -INF]
    state.append(0)
    assert processed(state, 5, 5, 5) == [5, 5, 5]


def test_forced_tokens_stand_first_and_last() -> None:
    state = state_of(forced_bos_token_id=1, forced_eos_token_id=2, max_new_tokens=3)
    seen = []
    for token in range(3):
        seen.append(processed(state, 5, 5, 5))
        state.append(token)
    assert seen == [[-INF, 0, -INF], [5, 5, 5], [-INF, -INF, 0]]


def test_the_caller_may_lower_the_limit_for_the_last_token() -> None:
    params = SamplingParams(max_new_tokens=100, forced_eos_token_id=2)
    state = SamplerState(params, [0], frozenset(), max_new_tokens=1)
    assert processed(state, 5, 5, 5) == [-INF, -INF, 0]
    endless = SamplerState(SamplingParams(forced_eos_token_id=2), [0], frozenset())
    assert processed(endless, 5, 5, 5) == [5, 5, 5]


def test_a_forced_last_token_wins_over_min_new_tokens() -> None:
    state = state_of(eos=[2], forced_eos_token_id=2, max_new_tokens=1, min_new_tokens=1)
    assert processed(state, 5, 5, 5) == [-INF, -INF, 0]


def test_begin_suppress_acts_on_the_first_token_that_is_free() -> None:
    state = state_of(begin_suppress_tokens=[0])
    assert processed(state, 5, 5) == [-INF, 5]
    state.append(1)
    assert processed(state, 5, 5) == [5, 5]
    state = state_of(begin_suppress_tokens=[0], forced_bos_token_id=1)
    state.append(1)
    assert processed(state, 5, 5) == [-INF, 5]


def test_bad_words_spare_end_of_sequence_unless_it_is_ignored() -> None:
    assert processed(state_of(eos=[1], words=[[1], [2]]), 5, 5, 5) == [5, 5, -INF]
    assert processed(state_of(eos=[], words=[[1], [2]]), 5, 5, 5) == [5, -INF, -INF]


def test_processors_run_in_order_and_see_the_whole_history() -> None:
    calls: list[list[int]] = []

    def add_one(ids: Sequence[int], logits: Logits) -> Logits:
        calls.append(list(ids))
        return logits + np.float32(1)

    def double_in_place(_ids: Sequence[int], logits: Logits) -> Logits:
        logits *= 2
        return logits

    state = state_of([7, 8], logits_processors=[add_one, double_in_place], suppress_tokens=[1])
    state.append(9)
    assert processed(state, 3, 3) == [(3 + 1) * 2, -INF]
    assert calls == [[7, 8, 9]]


def test_a_processor_that_raises_is_named() -> None:
    cause = KeyError("oh")

    def broken(_ids: Sequence[int], _logits: Logits) -> Logits:
        raise cause

    with pytest.raises(GenerationError, match=r"logits processor broken failed: KeyError\('oh'\)") as caught:
        processed(state_of(logits_processors=[broken]), 1, 2)
    assert caught.value.__cause__ is cause


class Widens:
    def __call__(self, _ids: Sequence[int], logits: Logits) -> Logits:
        return logits.astype(np.float64)


class Forgets:
    def __call__(self, _ids: Sequence[int], logits: Logits) -> Logits:
        logits += 1
        return None  # type: ignore[return-value]


class Shortens:
    def __call__(self, _ids: Sequence[int], logits: Logits) -> Logits:
        return logits[1:]


@pytest.mark.parametrize(
    ("processor", "got"),
    [(Widens(), r"float64 \(2,\)"), (Forgets(), "None"), (Shortens(), r"float32 \(1,\)")],
)
def test_a_processor_must_return_a_row(processor: Widens | Forgets | Shortens, got: str) -> None:
    name = type(processor).__name__
    with pytest.raises(GenerationError, match=rf"{name} must return float32 \(2,\), got {got}"):
        processed(state_of(logits_processors=[processor]), 1, 2)


@pytest.mark.parametrize(
    "options",
    [
        {"logit_bias": {0: 1.0, 3: 1.0}},
        {"forced_bos_token_id": 3},
        {"forced_eos_token_id": 3, "max_new_tokens": 1},
    ],
)
def test_a_token_beyond_the_vocabulary_is_named(options: dict[str, Any]) -> None:
    name = next(iter(options))
    with pytest.raises(GenerationError, match=f"{name} names token 3, but the model has 3 tokens"):
        processed(state_of(**options), 1, 2, 3)


def test_bans_of_tokens_beyond_the_vocabulary_are_already_kept() -> None:
    state = state_of(
        [1, 7], eos=[6], words=[[9]], suppress_tokens=[5], begin_suppress_tokens=[4], min_new_tokens=1,
        repetition_penalty=2.0, no_repeat_ngram_size=1,
    )  # fmt: skip
    assert processed(state, 2, 2, 2) == [2, -INF, 2]


@pytest.mark.parametrize(
    ("options", "plain"),
    [
        ({}, True),
        ({"top_k": 5, "seed": 3, "max_new_tokens": 7, "stop": ["x"]}, True),
        ({"temperature": 1.0}, False),
        ({"logprobs": 0}, False),
        ({"repetition_penalty": 1.1}, False),
        ({"min_new_tokens": 2, "stop_token_ids": [1]}, False),
    ],
)
def test_a_state_is_plain_if_the_highest_logit_decides(options: dict[str, Any], plain: bool) -> None:
    assert state_of(**options).plain is plain
