"""Log-softmax of raw logits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ovgen.errors import GenerationError
from ovgen.sampling import token_logprobs


def test_by_hand() -> None:
    # Weights 1, 2, 4, 1 of 8, and 1, 1, 2, 0 of 4.
    with np.errstate(divide="ignore"):
        logits = np.log(np.array([[1.0, 2.0, 4.0, 1.0], [1.0, 1.0, 2.0, 0.0]])).astype(np.float32)
    first, second = token_logprobs(logits, [1, 3], 2)
    assert (first.token_id, second.token_id) == (1, 3)
    assert first.logprob == pytest.approx(math.log(2 / 8), abs=1e-6)
    assert second.logprob == -math.inf
    assert list(first.top) == [2, 1]
    assert list(first.top.values()) == pytest.approx([math.log(4 / 8), math.log(2 / 8)], abs=1e-6)
    assert list(second.top) == [2, 0]  # the lower id first among equals
    assert list(second.top.values()) == pytest.approx([math.log(2 / 4), math.log(1 / 4)], abs=1e-6)


@pytest.mark.parametrize("vocab", [7, 30_000])
def test_against_a_full_sort_in_double_precision(vocab: int) -> None:
    rng = np.random.default_rng(vocab)
    logits = np.round(rng.normal(3, 6, (4, vocab)), 1).astype(np.float32)
    tokens = rng.integers(0, vocab, 4).tolist()
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    exact -= np.log(np.exp(exact).sum(axis=1, keepdims=True))
    before = logits.copy()
    for row, token, entry in zip(exact, tokens, token_logprobs(logits, tokens, 20), strict=True):
        best = np.argsort(-row, kind="stable")[:20].tolist()
        assert entry.logprob == pytest.approx(row[token], abs=1e-6)
        assert list(entry.top) == best
        assert list(entry.top.values()) == pytest.approx(row[best].tolist(), abs=1e-6)
    assert np.array_equal(logits, before)


def test_huge_logits_neither_overflow_nor_lose_precision() -> None:
    (entry,) = token_logprobs(np.array([[3e38, 3e38, 0]], np.float32), [0], 3)
    assert entry.logprob == pytest.approx(math.log(1 / 2), abs=1e-6)
    assert list(entry.top) == [0, 1, 2]


def test_no_more_than_the_vocabulary_holds() -> None:
    (entry,) = token_logprobs(np.zeros((1, 3), np.float32), [0], 10)
    assert list(entry.top) == [0, 1, 2]


def test_what_is_impossible_is_not_listed() -> None:
    (entry,) = token_logprobs(np.array([[1, -math.inf, 1]], np.float32), [1], 3)
    assert list(entry.top) == [0, 2]
    assert entry.logprob == -math.inf


def test_zero_reports_the_token_alone() -> None:
    (entry,) = token_logprobs(np.zeros((1, 4), np.float32), [2], 0)
    assert entry.top == {}
    assert entry.logprob == pytest.approx(math.log(1 / 4))


def test_broken_rows_are_refused() -> None:
    with pytest.raises(GenerationError, match="token 1 is NaN"):
        token_logprobs(np.array([[0, math.nan]], np.float32), [0], 1)
