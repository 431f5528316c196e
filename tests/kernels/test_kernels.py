"""The C++ kernels against their twin, on every instruction set that runs here."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ovgen.weights import Compressed
from ovgen.weights.compressed import Bits
from tests.kernels import twin
from tests.kernels.cases import FORMATS, Case, assert_within, cases, compressed, floats
from tests.kernels.compiling import SOURCES, compile_with, flags_of
from tests.kernels.library import Kernels, Library
from tests.kernels.twin import Shape

EXAMPLES = settings().max_examples  # 100, or many more in the profile for fuzzing


def assert_same(actual: list[NDArray[np.float32]], expected: list[NDArray[np.float32]], name: str) -> None:
    for y, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(y, other, err_msg=name)


def model_case(kind: str, tokens: int, *, gated: bool = False) -> Case:
    """Projections of a small model's size, large enough for several threads."""
    rng = np.random.default_rng(tokens)
    rows = (200, 200) if gated else (192, 64, 61)
    x = rng.normal(size=(tokens, 576)).astype(np.float32)
    activation = "silu" if gated else "none"
    if kind in ("int4", "int8"):
        shape = Shape(576, 64, rows, kind, zero_points=True, gated=gated, activation=activation)
        dtype: Bits = "u4" if kind == "int4" else "u8"
        return Case(shape, [compressed(rng, size, 576, 64, dtype, np.uint8) for size in rows], [], x)
    shape = Shape(576, 576, rows, kind, gated=gated, activation=activation)
    return Case(shape, [floats(rng, size, 576, kind) for size in rows], [], x)


@given(case=cases())
@settings(max_examples=EXAMPLES, deadline=None)
def test_packing(library: Library, case: Case) -> None:
    packed = library.pack(case.shape, case.weights, case.biases)
    np.testing.assert_array_equal(packed, twin.pack(case.shape, case.weights, case.biases))


@given(case=cases(), threads=st.sampled_from((1, 2, 0)))
@settings(max_examples=5 * EXAMPLES, deadline=None)
def test_linear(every_set: list[Kernels], case: Case, threads: int) -> None:
    packed = twin.pack(case.shape, case.weights, case.biases)
    expected = twin.linear(case.shape, packed, case.x)
    for kernels in every_set:
        assert_within(kernels.linear(case.shape, packed, case.x, threads), expected, kernels.name)


@pytest.mark.slow
@given(case=cases(most_rows=300), threads=st.sampled_from((1, 2, 3, 0)))
@settings(max_examples=50 * EXAMPLES, deadline=None)
def test_linear_at_length(every_set: list[Kernels], case: Case, threads: int) -> None:
    packed = twin.pack(case.shape, case.weights, case.biases)
    expected = twin.linear(case.shape, packed, case.x)
    for kernels in every_set:
        assert_within(kernels.linear(case.shape, packed, case.x, threads), expected, kernels.name)


@given(case=cases(), data=st.data())
@settings(max_examples=2 * EXAMPLES, deadline=None)
def test_a_token_does_not_depend_on_its_company(every_set: list[Kernels], case: Case, data: st.DataObject) -> None:
    """Bit for bit: neither on other tokens of the call nor on threads, so that batches and drafts change nothing."""
    packed = twin.pack(case.shape, case.weights, case.biases)
    first = data.draw(st.integers(0, len(case.x) - 1))
    some = slice(first, data.draw(st.integers(first + 1, len(case.x))))
    for kernels in every_set:
        together = kernels.linear(case.shape, packed, case.x, 0)
        apart = kernels.linear(case.shape, packed, case.x[some], 1)
        assert_same(apart, [y[some] for y in together], kernels.name)


@pytest.mark.parametrize("gated", [False, True], ids=["apart", "gated"])
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 5, 8, 16, 17, 33, 70])
def test_threads(every_set: list[Kernels], kind: str, tokens: int, gated: bool) -> None:
    """Of a matrix that is worth several: the same for any number of them, more than there is work for included."""
    case = model_case(kind, tokens, gated=gated)
    packed = twin.pack(case.shape, case.weights)
    expected = twin.linear(case.shape, packed, case.x)
    for kernels in every_set:
        alone = kernels.linear(case.shape, packed, case.x, 1)
        assert_within(alone, expected, kernels.name)
        for threads in (0, 2, 3, 100):
            assert_same(kernels.linear(case.shape, packed, case.x, threads), alone, kernels.name)


@pytest.mark.parametrize("dtype", ["u8", "i8", "u4", "i4"])
def test_extreme_codes_meet_extreme_activations(every_set: list[Kernels], dtype: Bits) -> None:
    """Sums of products in 16 bits must hold -128 times 127, and 15 times 127, as often as they are added up."""
    shape = Shape(256, 256, (9, 9), "int4" if dtype in ("u4", "i4") else "int8", zero_points=dtype in ("u4", "u8"))
    rng = np.random.default_rng(0)
    weights = [compressed(rng, 9, 256, 256, dtype, codes=codes) for codes in ("lowest", "highest")]
    packed = twin.pack(shape, weights)
    x = np.stack([np.ones(256), -np.ones(256), np.tile([1, -1], 128), np.repeat([1, -1], 128)]).astype(np.float32)
    for kernels in every_set:
        assert_within(kernels.linear(shape, packed, x), twin.linear(shape, packed, x), kernels.name)


def test_codes_are_rounded_half_to_even(every_set: list[Kernels]) -> None:
    """The rows of the identity show the codes themselves, of which many here lie half way, or nearly so."""
    rng = np.random.default_rng(0)
    shape = Shape(128, 128, (128,), "int8")
    packed = twin.pack(shape, [Compressed(np.eye(128, dtype=np.int8), "i8", np.ones((128, 1), np.float16))])
    scale = rng.uniform(1e-3, 1e3, (20_000, 1))
    halves = (rng.integers(-127, 127, (20_000, 128)) + 0.5) * scale
    halves[:, 5] = 127 * scale[:, 0]
    x = halves.astype(np.float32)
    codes, scales = twin.quantise(x)
    for kernels in every_set:
        assert_same(kernels.linear(shape, packed, x, 0), [codes.astype(np.float32) * scales[:, None]], kernels.name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_with_its_token(every_set: list[Kernels], value: float) -> None:
    case = model_case("int4", 5)
    packed = twin.pack(case.shape, case.weights)
    x = case.x.copy()
    x[2, 100] = value
    for kernels in every_set:
        spoilt, sound = kernels.linear(case.shape, packed, x), kernels.linear(case.shape, packed, case.x)
        for y, other in zip(spoilt, sound, strict=True):
            assert np.isnan(y[2]).all(), kernels.name
            np.testing.assert_array_equal(np.delete(y, 2, 0), np.delete(other, 2, 0), err_msg=kernels.name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_multiplied_by_floats_as_it_is(every_set: list[Kernels], value: float) -> None:
    case = model_case("f32", 5)
    packed = twin.pack(case.shape, case.weights)
    x = case.x.copy()
    x[2, 100] = value
    for kernels in every_set:
        spoilt, sound = kernels.linear(case.shape, packed, x), kernels.linear(case.shape, packed, case.x)
        for y, other, matrix in zip(spoilt, sound, case.weights, strict=True):
            np.testing.assert_array_equal(y[2], value * matrix.to_f32()[:, 100], err_msg=kernels.name)
            np.testing.assert_array_equal(np.delete(y, 2, 0), np.delete(other, 2, 0), err_msg=kernels.name)


@pytest.mark.parametrize("kind", ["int8", "f32"])
def test_no_tokens(every_set: list[Kernels], kind: str) -> None:
    case = model_case(kind, 1)
    packed = twin.pack(case.shape, case.weights)
    for kernels in every_set:
        assert [y.shape for y in kernels.linear(case.shape, packed, case.x[:0])] == [(0, 192), (0, 64), (0, 61)]


@given(case=cases(), data=st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_embedding(library: Library, case: Case, data: st.DataObject) -> None:
    packed = twin.pack(case.shape, case.weights, case.biases)
    rows = case.shape.rows[0]
    ids = data.draw(st.lists(st.integers(-2 * rows, 2 * rows), max_size=20))
    np.testing.assert_array_equal(
        library.embedding(case.shape, packed, ids), twin.embedding(case.shape, packed, ids), strict=True
    )


def test_instruction_sets_can_be_chosen(library: Library) -> None:
    best = max(library.sets().values())
    assert library.chosen() == best
    assert all(library.choose(number) and library.chosen() == number for number in library.sets().values())
    assert not library.choose(99)
    assert library.choose(best)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="VNNI is of x86")
@pytest.mark.parametrize("name", ["avx_vnni", "avx512_vnni"])
def test_vnni_is_compiled(name: str) -> None:
    """What may not run here: to assembly, with the instruction in it that the emulation stands for."""
    source = SOURCES / f"{name}.cpp"
    assert "vpdpbusd" in compile_with("-S", *flags_of(source), source, "-o", "-")
