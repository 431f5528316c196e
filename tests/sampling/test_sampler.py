"""One token per row: greedy and drawn, alone and in company, sound and broken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ovgen.config import SamplingParams
from ovgen.errors import GenerationError
from ovgen.sampling import Choice, Sampler, SamplerState
from ovgen.sampling.transforms import Logits
from tests.sampling import reference

INF, NAN = math.inf, math.nan


def batch(*rows: Sequence[float]) -> Logits:
    return np.array(rows, dtype=np.float32)


def state_of(**options: Any) -> SamplerState:
    return SamplerState(SamplingParams(**options), [0, 1], frozenset())


def sample(logits: Logits, *states: SamplerState) -> list[int]:
    return [token_of(choice) for choice in choose(logits, *states)]


def choose(logits: Logits, *states: SamplerState) -> list[Choice | GenerationError]:
    """What one sampler makes of each row, errors included."""
    sampler = Sampler()
    chosen: list[Choice | GenerationError] = []
    for row, state in zip(logits, states, strict=True):
        try:
            chosen.append(sampler.choose(row, state))
        except GenerationError as error:
            chosen.append(error)
    return chosen


def token_of(choice: Choice | GenerationError) -> int:
    assert isinstance(choice, Choice), choice
    return choice.token_id


def error_of(choice: Choice | GenerationError) -> str:
    assert isinstance(choice, GenerationError)
    return str(choice)


def run(params: SamplingParams, steps: Sequence[Logits]) -> list[int]:
    """The tokens of a request that is alone, given the logits ``(vocab,)`` of its steps."""
    state = SamplerState(params, [0, 1], frozenset({2}))
    tokens = []
    for logits in steps:
        tokens += sample(logits[None].copy(), state)
        state.append(tokens[-1])
    return tokens


def test_greedy_takes_the_highest_and_the_first_among_equals() -> None:
    logits = batch([1, 3, 2], [5, 5, -INF], [-3, -2, -1])
    assert sample(logits, state_of(), state_of(), state_of()) == [1, 0, 2]


def test_greedy_ignores_the_options_of_drawing() -> None:
    assert sample(batch([1, 3, 2]), state_of(top_k=1, top_p=0.1, min_p=0.9, typical_p=0.1)) == [1]


def test_greedy_obeys_the_other_options() -> None:
    assert sample(batch([1, 3, 2]), state_of(suppress_tokens=[1])) == [2]


def test_the_caller_commits() -> None:
    state = state_of(frequency_penalty=1.0)
    assert sample(batch([1, 1.5]), state) == [1]
    assert state.generated == 0
    assert sample(batch([1, 1.5]), state) == [1]
    state.append(1)
    assert state.generated == 1
    assert sample(batch([1, 1.5]), state) == [0]  # 1.5 - 1 < 1


# Chance


def chi_square(counts: Sequence[int], probabilities: Sequence[float]) -> float:
    total = sum(counts)
    return sum((n - total * p) ** 2 / (total * p) for n, p in zip(counts, probabilities, strict=True))


# 4 degrees of freedom: a right sampler is above this once in a thousand seeds.
CRITICAL = 18.47


def test_tokens_come_as_often_as_they_are_probable() -> None:
    probabilities = [0.4, 0.3, 0.15, 0.1, 0.05]
    logits = np.log(np.array([probabilities])).astype(np.float32)
    state = state_of(temperature=1.0, seed=11)
    tokens = [sample(logits.copy(), state)[0] for _ in range(20_000)]
    counts = np.bincount(tokens, minlength=5).tolist()
    assert chi_square(counts, probabilities) < CRITICAL
    assert chi_square(counts, [0.42, 0.28, 0.15, 0.1, 0.05]) > CRITICAL  # the test would notice this much


def test_temperature_sharpens_the_draw() -> None:
    # At 1/2 the weights are squares: 9, 4, 1, 1, 1 of 16.
    logits = np.log(np.array([[3.0, 2.0, 1.0, 1.0, 1.0]])).astype(np.float32)
    state = state_of(temperature=0.5, seed=12)
    tokens = [sample(logits.copy(), state)[0] for _ in range(20_000)]
    counts = np.bincount(tokens, minlength=5).tolist()
    assert chi_square(counts, [9 / 16, 4 / 16, 1 / 16, 1 / 16, 1 / 16]) < CRITICAL


def test_only_what_the_options_leave_is_drawn() -> None:
    rng = np.random.default_rng(2)
    params = SamplingParams(temperature=1.3, top_k=40, top_p=0.9, min_p=0.01, seed=4)
    for _ in range(50):
        logits = rng.normal(0, 2, 500).astype(np.float32)
        left = set(np.flatnonzero(reference.warped(logits, params) > -INF).tolist())
        state = SamplerState(params, [0], frozenset())
        drawn = {sample(logits[None].copy(), state)[0] for _ in range(20)}
        assert drawn <= left
        assert len(drawn) > 1


def steps_of(seed: int, vocab: int = 2000) -> list[Logits]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 2, vocab).astype(np.float32) for _ in range(12)]


def test_a_seed_decides_the_text() -> None:
    steps = steps_of(1)
    seeded = [run(SamplingParams(temperature=1.0, seed=seed), steps) for seed in (5, 5, 6)]
    assert seeded[0] == seeded[1] != seeded[2]
    assert run(SamplingParams(temperature=1.0), steps) != run(SamplingParams(temperature=1.0), steps)


def test_company_changes_nothing() -> None:
    requests = [
        SamplingParams(temperature=1.0, seed=7),
        SamplingParams(),
        SamplingParams(temperature=0.7, top_k=30, top_p=0.9, seed=7),
        SamplingParams(repetition_penalty=1.5, no_repeat_ngram_size=2),
        SamplingParams(temperature=1.0, top_p=0.8, frequency_penalty=0.5, logprobs=3, seed=9),
        SamplingParams(temperature=1.5, typical_p=0.7, min_p=0.001, seed=10),
        SamplingParams(),
    ]
    steps = [steps_of(seed, vocab=2001) for seed in range(len(requests))]
    alone = [run(params, steps[i]) for i, params in enumerate(requests)]
    states = [SamplerState(params, [0, 1], frozenset({2})) for params in requests]
    together: list[list[int]] = [[] for _ in requests]
    for step in range(12):
        for i, token in enumerate(sample(np.stack([rows[step] for rows in steps]), *states)):
            states[i].append(token)
            together[i].append(token)
    assert together == alone


def test_each_token_takes_one_random_number() -> None:
    state = state_of(temperature=1.0, top_p=0.5, seed=3)
    for logits in steps_of(2)[:5]:
        sample(logits[None], state)
    fresh = np.random.default_rng(3)
    fresh.random(5)
    assert state.rng.random() == fresh.random()


# Log-probabilities


def test_logprobs_are_of_the_raw_logits() -> None:
    # Probabilities 8/16, 4/16, 3/16, 1/16; token 0 is then forbidden.
    raw = np.log(np.array([[8.0, 4.0, 3.0, 1.0]])).astype(np.float32)
    kept = raw.copy()
    (choice,) = choose(raw, state_of(suppress_tokens=[0], temperature=0.01, logprobs=2))
    assert token_of(choice) == 1
    assert isinstance(choice, Choice)
    assert choice.logprobs is not None
    assert choice.logprobs.token_id == 1
    assert choice.logprobs.logprob == pytest.approx(math.log(4 / 16), abs=1e-6)
    assert list(choice.logprobs.top) == [0, 1]
    assert choice.logprobs.top[0] == pytest.approx(math.log(8 / 16), abs=1e-6)
    assert np.array_equal(raw, kept)


def test_logprobs_are_absent_unless_asked_for() -> None:
    choices = choose(batch([1, 2], [1, 2]), state_of(), state_of(logprobs=0))
    assert isinstance(choices[0], Choice)
    assert choices[0].logprobs is None
    assert isinstance(choices[1], Choice)
    assert choices[1].logprobs is not None
    assert choices[1].logprobs.top == {}


# Broken rows

OPTIONS: list[dict[str, Any]] = [
    {},
    {"temperature": 1.0},
    {"temperature": 0.5, "top_k": 2, "top_p": 0.9},
    {"logprobs": 1},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1, NAN, 9], "the logit of token 1 is NaN"),
        ([NAN, NAN, NAN], "the logit of token 0 is NaN"),
        ([1, 2, INF], r"the logit of token 2 is \+inf"),
        ([-INF, -INF, -INF], "no token is left to choose from"),
    ],
)
def test_a_broken_row_fails_alone(row: list[float], message: str, options: dict[str, Any]) -> None:
    logits = batch([9, 1, 1], row, [1, 1, 9])
    choices = choose(logits, state_of(), state_of(**options), state_of())
    assert [token_of(choices[0]), token_of(choices[2])] == [0, 2]
    with pytest.raises(GenerationError, match=message):
        raise choices[1] if isinstance(choices[1], GenerationError) else AssertionError(choices[1])


def test_options_may_leave_nothing() -> None:
    (choice,) = choose(batch([1, 2]), state_of(suppress_tokens=[0, 1]))
    assert "no token is left" in error_of(choice)


def test_a_failing_processor_fails_its_own_request() -> None:
    def broken(_ids: Sequence[int], _logits: Logits) -> Logits:
        raise ZeroDivisionError("mine")

    choices = choose(batch([1, 2], [2, 1]), state_of(logits_processors=[broken]), state_of())
    assert "broken failed" in error_of(choices[0])
    assert isinstance(choices[0], GenerationError)
    assert isinstance(choices[0].__cause__, ZeroDivisionError)
    assert token_of(choices[1]) == 0


def test_logprobs_of_a_broken_row_fail_even_if_a_sound_token_is_left() -> None:
    (choice,) = choose(batch([1, NAN]), state_of(suppress_tokens=[1], logprobs=1))
    assert "NaN" in error_of(choice)
    assert sample(batch([1, NAN]), state_of(suppress_tokens=[1])) == [0]
