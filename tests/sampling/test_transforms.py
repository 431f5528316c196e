"""Each option on a row small enough to work out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from ovgen.sampling import transforms
from ovgen.sampling.transforms import Logits

INF = math.inf


def row(*values: float) -> Logits:
    return np.array(values, dtype=np.float32)


def of_probabilities(*values: float) -> Logits:
    """Logits whose softmax are these numbers; a common factor is of no matter."""
    return np.log(np.array(values, dtype=np.float64)).astype(np.float32)


def kept(logits: Logits) -> list[int]:
    assert logits.dtype == np.float32
    return np.flatnonzero(logits > -INF).tolist()


def test_bias_is_added() -> None:
    result = transforms.add_bias(row(1, 2, 3), [2, 0], row(0.5, -10))
    assert result.tolist() == [1 - 10, 2, 3 + 0.5]


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    result = transforms.repetition_penalty(row(3, -3, 0, 6), [0, 1, 2], 2.0)
    assert result.tolist() == [3 / 2, -3 * 2, 0, 6]


def test_repetition_penalty_below_one_favours_repetition() -> None:
    assert transforms.repetition_penalty(row(3, -3), [0, 1], 0.5).tolist() == [6, -1.5]


def test_repetition_penalty_passes_over_tokens_that_the_head_lacks() -> None:
    assert transforms.repetition_penalty(row(4, 4), [1, 2, 99], 2.0).tolist() == [4, 2]


def test_presence_counts_once_and_frequency_each_time() -> None:
    result = transforms.count_penalties(row(1, 1, 1), [2, 0], row(3, 1), presence=0.5, frequency=0.25)
    assert result.tolist() == [1 - 0.5 - 0.25 * 1, 1, 1 - 0.5 - 0.25 * 3]


def test_suppressed_tokens_cannot_be_chosen() -> None:
    assert transforms.suppress(row(1, 2, 3), [1, 7]).tolist() == [1, -INF, 3]
    assert transforms.suppress(row(1, 2, 3), []).tolist() == [1, 2, 3]


def test_a_forced_token_stands_alone_even_if_it_was_suppressed() -> None:
    assert transforms.force(row(1, -INF, 3), 1).tolist() == [-INF, 0, -INF]


def test_temperature_divides_differences() -> None:
    result = transforms.temperature(row(1, 3, -INF, 2), 0.5)
    assert result.tolist() == [(1 - 3) / 0.5, 0, -INF, (2 - 3) / 0.5]


@pytest.mark.parametrize("value", [1e-300, 1e-45, 1e-38])
def test_the_lowest_temperatures_leave_the_likeliest(value: float) -> None:
    assert transforms.temperature(row(80, 90, 90, -90), value).tolist() == [-INF, 0, 0, -INF]


def test_the_highest_temperatures_make_all_that_is_left_equal() -> None:
    result = transforms.temperature(row(80, 90, -INF), 1e300)
    assert result[2] == -INF
    assert np.exp(result[:2]).tolist() == [1, 1]


def test_top_k_keeps_the_highest() -> None:
    assert transforms.top_k(row(1, 4, 2, 3), 2).tolist() == [-INF, 4, -INF, 3]


def test_top_k_keeps_all_that_equal_the_last() -> None:
    assert kept(transforms.top_k(row(3, 1, 3, 5, 3), 2)) == [0, 2, 3, 4]


@pytest.mark.parametrize("k", [3, 4, 1000])
def test_top_k_of_the_whole_vocabulary_keeps_it(k: int) -> None:
    assert transforms.top_k(row(1, 4, 2), k).tolist() == [1, 4, 2]


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.01, [2]),  # the likeliest always stays
        (0.49, [2]),  # 0.5 hold 0.49
        (0.51, [0, 2]),  # 0.5 do not hold 0.51, 0.5 + 0.3 do
        (0.79, [0, 2]),
        (0.81, [0, 2, 3]),  # 0.5 + 0.3 + 0.15
        (0.96, [0, 1, 2, 3]),
    ],
)
def test_top_p_keeps_the_fewest_that_hold_p(p: float, expected: list[int]) -> None:
    assert kept(transforms.top_p(of_probabilities(0.3, 0.05, 0.5, 0.15), p)) == expected


def test_top_p_drops_the_higher_ids_among_equals() -> None:
    # Four of weight 1: two of them hold exactly half.
    assert kept(transforms.top_p(row(7, 7, 7, 7), 0.5)) == [0, 1]
    assert kept(transforms.top_p(row(7, 7, 7, 7), 0.51)) == [0, 1, 2]


def test_top_p_is_of_what_earlier_options_left() -> None:
    # Without token 0 the rest is 0.2 : 0.2 : 0.1, so that the first two hold 0.8 of it.
    logits = transforms.suppress(of_probabilities(0.5, 0.2, 0.2, 0.1), [0])
    assert kept(transforms.top_p(logits, 0.79)) == [1, 2]


@pytest.mark.parametrize(("p", "expected"), [(0.59, [0, 2]), (0.61, [2]), (0.09, [0, 1, 2, 3]), (1.0, [2])])
def test_min_p_is_relative_to_the_likeliest(p: float, expected: list[int]) -> None:
    # Shares of the likeliest: 0.6, 0.1, 1, 0.3
    assert kept(transforms.min_p(of_probabilities(0.3, 0.05, 0.5, 0.15), p)) == expected


def test_typical_p_prefers_information_near_the_entropy() -> None:
    # p:             0.5      0.25     0.125    0.125
    # -log2 p:       1        2        3        3         bits
    # entropy:       0.5 * 1 + 0.25 * 2 + 0.125 * 3 * 2 = 1.75 bits
    # distance:      0.75     0.25     1.25     1.25      so the order is 1, 0, then 2 and 3
    logits = of_probabilities(0.5, 0.25, 0.125, 0.125)
    assert kept(transforms.typical_p(logits, 0.2)) == [1]  # 0.25 hold 0.2
    assert kept(transforms.typical_p(logits, 0.3)) == [0, 1]
    assert kept(transforms.typical_p(logits, 0.74)) == [0, 1]
    assert kept(transforms.typical_p(logits, 0.8)) == [0, 1, 2, 3]  # 2 is needed, and 3 is as near


def test_surprise_of_a_hand_made_distribution() -> None:
    distance, probability = transforms.surprise(of_probabilities(0.5, 0.25, 0.125, 0.125))
    assert distance / math.log(2) == pytest.approx([0.75, 0.25, 1.25, 1.25], rel=1e-5)
    assert probability == pytest.approx([0.5, 0.25, 0.125, 0.125], rel=1e-6)


WARPS: list[Callable[[Logits], Logits]] = [
    lambda x: transforms.add_bias(x, [1], row(2.0)),
    lambda x: transforms.repetition_penalty(x, [0, 3], 1.7),
    lambda x: transforms.count_penalties(x, [2], row(2.0), 0.3, 0.4),
    lambda x: transforms.suppress(x, [0]),
    lambda x: transforms.force(x, 2),
    lambda x: transforms.temperature(x, 0.6),
    lambda x: transforms.top_k(x, 2),
    lambda x: transforms.top_p(x, 0.6),
    lambda x: transforms.min_p(x, 0.3),
    lambda x: transforms.typical_p(x, 0.5),
]


@pytest.mark.parametrize("warp", WARPS)
def test_a_batch_is_its_rows_and_the_input_stays(warp: Callable[[Logits], Logits]) -> None:
    batch = np.random.default_rng(3).normal(0, 2, (5, 8)).astype(np.float32)
    batch[2, 4:] = -INF
    before = batch.copy()
    together = warp(batch)
    assert together.dtype == np.float32
    assert np.array_equal(together, np.stack([warp(each) for each in batch]))
    assert np.array_equal(batch, before)
    assert not np.array_equal(together, batch)


def test_out_is_written_in_place() -> None:
    logits = row(1, 2, 3)
    assert transforms.suppress(logits, [0], out=logits) is logits
    assert logits.tolist() == [-INF, 2, 3]
    other = row(0, 0, 0)
    assert transforms.add_bias(logits, [1], row(5), out=other) is other
    assert other.tolist() == [-INF, 7, 3]
    assert logits.tolist() == [-INF, 2, 3]
