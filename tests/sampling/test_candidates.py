"""The fast paths against their twins in ``transforms``, and the draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ovgen.config import SamplingParams
from ovgen.sampling import candidates, transforms
from ovgen.sampling.candidates import Indices, draw, shortlist
from ovgen.sampling.transforms import Logits
from tests.sampling import reference

# Three kinds of rows: free, many equal values, and many filtered.
_free = st.floats(-40, 40, width=32)
_tied = st.integers(-3, 3).map(float)
_masked = st.one_of(st.just(-math.inf), _tied, _free)


def rows(least: int = 1) -> st.SearchStrategy[Logits]:
    def of(elements: st.SearchStrategy[float]) -> st.SearchStrategy[Logits]:
        return hnp.arrays(np.float32, st.integers(least, 200), elements=elements, fill=st.nothing())

    return st.one_of(of(_free), of(_tied), of(_masked)).filter(lambda row: bool(row.max() > -np.inf))


@st.composite
def sampling_params(draw: st.DrawFn) -> SamplingParams:
    return SamplingParams(
        temperature=draw(st.one_of(st.just(1.0), st.floats(0.05, 5))),
        top_k=draw(st.one_of(st.just(0), st.integers(1, 250))),
        top_p=draw(st.one_of(st.just(1.0), st.sampled_from([0.25, 0.5, 0.75]), st.floats(0.001, 0.999))),
        min_p=draw(st.one_of(st.just(0.0), st.floats(0.001, 1))),
        typical_p=draw(st.one_of(st.just(1.0), st.floats(0.01, 0.99))),
    )


@pytest.fixture(scope="module", autouse=True)
def _narrow() -> Iterator[None]:
    """Let even short rows take the paths that are meant for long ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "_TRIES", (2, 6))
        patch.setattr(candidates, "_COLUMNS", 4)
        patch.setattr(candidates, "_COLUMNS_EACH", 2)
        patch.setattr(candidates, "_BLOCK", 8)
        yield


def same(logits: Logits, params: SamplingParams) -> None:
    expected = reference.warped(logits, params)
    ids, values = shortlist(logits.copy(), params)
    if ids is None:
        assert np.array_equal(values, expected)
    else:
        assert ids.tolist() == np.flatnonzero(expected > -np.inf).tolist()
        assert np.array_equal(values, expected[ids])


@settings(max_examples=300, deadline=None)
@given(rows(), sampling_params())
def test_the_shortlist_is_what_the_reference_leaves(logits: Logits, params: SamplingParams) -> None:
    same(logits, params)


@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0, 12.0])
@pytest.mark.parametrize("levels", [None, 4.0])
@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 50},
        {"top_k": 3000},
        {"top_k": 20000},
        {"top_p": 0.3},
        {"top_p": 0.95},
        {"top_p": 0.9999},
        {"min_p": 0.01},
        {"typical_p": 0.5},
        {"typical_p": 0.95},
        {"temperature": 0.7, "top_k": 50, "top_p": 0.95},
        {"temperature": 1.4, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.8},
    ],
)
def test_long_rows_with_the_real_limits(options: dict[str, Any], levels: float | None, spread: float) -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(0, spread, 70_001).astype(np.float32)
    if levels is not None:
        # As coarse as half precision may make them.
        logits = (np.round(logits * levels) / levels).astype(np.float32)
    logits[rng.integers(0, logits.size, 100)] = -np.inf
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "_TRIES", (512, 8192))
        patch.setattr(candidates, "_COLUMNS", 4096)
        patch.setattr(candidates, "_COLUMNS_EACH", 4)
        same(logits, SamplingParams(**{"temperature": 1.0, **options}))


@settings(max_examples=300, deadline=None)
@given(rows(), st.integers(1, 300))
def test_leading_holds_the_highest_and_all_their_equals(logits: Logits, count: int) -> None:
    ids = candidates.leading(logits, count)
    if ids is None:
        return
    outside = np.delete(logits, ids)
    assert ids.tolist() == sorted(set(ids.tolist()))
    assert ids.size >= count
    assert not outside.size or outside.max() < logits[ids].min()


def test_leading_leaves_most_of_a_long_row_out() -> None:
    logits = np.arange(200, dtype=np.float32)[::-1].copy()
    ids = candidates.leading(logits, 2)
    assert ids is not None
    assert ids.size <= 8


Keep = Callable[[Logits, float], Indices]


@pytest.mark.parametrize(
    ("keep", "twin", "value"),
    [
        (candidates.keep_top_p, transforms.top_p, 0.7),
        (candidates.keep_min_p, transforms.min_p, 0.2),
        (candidates.keep_typical_p, transforms.typical_p, 0.6),
    ],
)
def test_each_filter_keeps_what_its_namesake_keeps(keep: Keep, twin: Keep, value: float) -> None:
    logits = np.random.default_rng(8).normal(0, 2, 90).astype(np.float32)
    left = np.flatnonzero(twin(logits, value) > -np.inf)
    assert 0 < left.size < logits.size
    assert keep(logits, value).tolist() == left.tolist()


def test_a_mass_that_rounding_never_reaches_keeps_everything() -> None:
    rng = np.random.default_rng(4)
    almost_one = 1 - 2.0**-53
    rows = [rng.normal(0, 1, 40).astype(np.float32) for _ in range(30)]
    held = [np.cumsum(transforms.surprise(row)[1], dtype=np.float64)[-1] for row in rows]
    assert min(held) < almost_one < max(held)
    for row, mass in zip(rows, held, strict=True):
        left = candidates.keep_typical_p(row, almost_one)
        assert left.tolist() == np.flatnonzero(transforms.typical_p(row, almost_one) > -np.inf).tolist()
        assert left.size == row.size or mass >= almost_one


def test_a_wrong_shortlist_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_short(values: Logits, p: float) -> Indices:
        return np.flatnonzero(transforms.top_p(values, p) > -np.inf)[1:]

    monkeypatch.setattr(candidates, "keep_top_p", one_short)
    logits = np.arange(20, dtype=np.float32)
    with pytest.raises(AssertionError):
        same(logits, SamplingParams(temperature=1.0, top_p=0.9))


# The draw


@pytest.mark.parametrize("size", [5, 8, 9, 100])
def test_an_even_grid_of_numbers_draws_each_index_by_its_weight(size: int) -> None:
    weights = np.random.default_rng(size).integers(0, 9, size).astype(np.float32)
    total = int(weights.sum())
    # One number in the middle of each unit of weight.
    drawn = [draw(weights, (unit + 0.5) / total) for unit in range(total)]
    assert np.bincount(drawn, minlength=size).tolist() == weights.astype(int).tolist()
    assert drawn == sorted(drawn)


_weights = hnp.arrays(
    np.float32,
    st.integers(1, 60),
    elements=st.one_of(st.just(0.0), st.floats(0, 1, width=32), st.floats(0, 2.0**-120, width=32)),
    fill=st.nothing(),
).filter(lambda weights: bool(weights.max() > 0))


@settings(max_examples=300, deadline=None)
@given(_weights, st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, 1 - 2.0**-53])))
def test_nothing_of_probability_zero_is_drawn(weights: Logits, uniform: float) -> None:
    assert weights[draw(weights, uniform)] > 0


@pytest.mark.parametrize("zeros", [1, 30])
def test_rounding_to_the_end_of_the_scale_stays_with_what_has_weight(zeros: int) -> None:
    weights = np.array([1, 1] + [0] * zeros, dtype=np.float32)
    assert draw(weights, 1.0) == 1


@settings(max_examples=300, deadline=None)
@given(_weights, st.floats(0, 1, exclude_max=True))
def test_the_draw_inverts_the_cumulated_weights(weights: Logits, uniform: float) -> None:
    index = draw(weights, uniform)
    ends = np.cumsum(weights, dtype=np.float64)
    start = ends[index - 1] if index else 0.0
    rounding = 1e-13 * ends[-1]
    assert start - rounding <= uniform * ends[-1] <= ends[index] + rounding
