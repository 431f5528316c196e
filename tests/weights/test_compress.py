"""Compression of one matrix: what errors it may leave, and what it does with numbers that no model should have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save

from ovgen.errors import ConfigError, UnsupportedModelError
from ovgen.weights import (
    Checkpoint,
    Compressed,
    CompressingCheckpoint,
    Compression,
    Compressor,
    Scheme,
    Weight,
    open_checkpoint,
)
from ovgen.weights.compress import compress, to_f16, to_halves
from ovgen.weights.compress_calibrated import _DAMPING, _factor, compress_calibrated
from ovgen.weights.compressing import stored_as

F32 = NDArray[np.float32]
SCHEMES = [(bits, symmetric) for bits in (8, 4) for symmetric in (False, True)]


def weight(matrix: F32, dtype: str = "F32") -> Weight:
    if dtype == "BF16":
        return Weight((matrix.view(np.uint32) >> 16).astype(np.uint16), dtype)
    return Weight(matrix.astype(np.float16) if dtype == "F16" else matrix, dtype)


def compressed(matrix: F32, scheme: Scheme) -> Compressed:
    result = compress(weight(matrix), scheme)
    assert result is not None
    return result


def grouped(matrix: F32, group: int) -> F32:
    return matrix.reshape(len(matrix), -1, group)


@st.composite
def matrices(draw: st.DrawFn) -> tuple[F32, int]:
    """A matrix and a group that divides its rows: random, with some groups that are extreme."""
    rows, groups = draw(st.integers(1, 9)), draw(st.integers(1, 4))
    group = draw(st.sampled_from([16, 32, 64, 86]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = (rng.standard_normal((rows, groups, group)) * draw(st.sampled_from([1e-3, 1.0, 50.0]))).astype(np.float32)
    x[0, 0] = draw(st.sampled_from([0.0, -0.0, 1.0, -3.5, 1e-9, -1e-42, 300.0]))
    if draw(st.booleans()):
        x[-1, -1, 0] *= 1000
    if draw(st.booleans()):
        x = np.abs(x) * draw(st.sampled_from([-1, 1]))
    return x.reshape(rows, -1), group


@pytest.mark.parametrize(("bits", "symmetric"), SCHEMES)
@settings(deadline=None, max_examples=60)
@given(case=matrices())
def test_values_are_within_half_a_step(bits: Any, symmetric: bool, case: tuple[F32, int]) -> None:
    matrix, group = case
    result = compressed(matrix, Scheme(bits, group, symmetric))
    assert result.shape == matrix.shape
    assert (result.zero_point is None) == symmetric
    x, y = grouped(matrix, group).astype(np.float64), grouped(result.to_f32(), group)
    low, high = np.minimum(x.min(-1), 0), np.maximum(x.max(-1), 0)
    span = np.maximum(-low, high) * 2 if symmetric else high - low
    levels = 2**bits if symmetric else 2**bits - 1
    step = np.maximum(span / levels, 2.0**-24)
    step_in_f16 = levels * np.maximum(step * 2.0**-11, 2.0**-25)  # what rounding the step adds up to at the far end
    cut_off = step / 2 if symmetric else 0  # the end that is as far away as the lowest code, on the other side
    bound = (step / 2 + cut_off + step_in_f16) * 1.0001
    error = np.abs(x - y)
    if bits == 8:
        assert (error <= bound[..., None]).all()
    else:
        assert (np.square(error).sum(-1) <= group * np.square(bound)).all()


def round_to_nearest(x: F32, symmetric: bool) -> F32:
    """INT4 as it is usually done: (rows, groups, group)."""
    low, high = np.minimum(x.min(-1, keepdims=True), 0), np.maximum(x.max(-1, keepdims=True), 0)
    tiny = np.float32(2.0**-24)
    if symmetric:
        scale = np.maximum(np.maximum(-low, high) / 8, tiny).astype(np.float16).astype(np.float32)
        scale = np.where(high > -low, -scale, scale)
        return np.asarray(np.clip(np.rint(x / scale), -8, 7) * scale)
    scale = np.maximum((high - low) / 15, tiny).astype(np.float16).astype(np.float32)
    zero = np.rint(-low / scale)
    return np.asarray((np.clip(np.rint(x / scale) + zero, 0, 15) - zero) * scale)


@pytest.mark.parametrize("symmetric", [False, True])
@settings(deadline=None, max_examples=60)
@given(case=matrices())
def test_searched_scales_are_never_worse_than_rounding_to_nearest(symmetric: bool, case: tuple[F32, int]) -> None:
    matrix, group = case
    x = grouped(matrix, group)
    y = grouped(compressed(matrix, Scheme(4, group, symmetric)).to_f32(), group)
    ours, plain = (np.square(x.astype(np.float64) - z).sum(-1) for z in (y, round_to_nearest(x, symmetric)))
    assert (ours <= plain * 1.001 + 1e-30).all()


def test_searched_scales_are_better_on_the_whole() -> None:
    matrix = np.random.default_rng(0).standard_normal((256, 512)).astype(np.float32)
    x = grouped(matrix, 128)
    ours = np.square(matrix - compressed(matrix, Scheme(4, 128, False)).to_f32()).sum()
    assert ours < 0.93 * np.square(x - round_to_nearest(x, False)).sum()


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize(("bits", "symmetric"), SCHEMES)
def test_a_flipped_source_is_its_transpose(dtype: str, bits: Any, symmetric: bool) -> None:
    matrix = np.random.default_rng(1).standard_normal((300, 352)).astype(np.float32)
    straight = compress(weight(matrix, dtype), Scheme(bits, 32, symmetric))
    flipped = compress(weight(np.ascontiguousarray(matrix.T), dtype), Scheme(bits, 32, symmetric), flipped=True)
    assert straight is not None
    assert flipped is not None
    assert np.array_equal(straight.codes, flipped.codes)
    assert np.array_equal(straight.scale, flipped.scale)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize(("bits", "symmetric"), SCHEMES)
def test_values_that_cannot_be_stored_are_an_error_with_the_name(wrong: float, bits: Any, symmetric: bool) -> None:
    matrix = np.ones((400, 256), np.float32)
    matrix[390, 7] = wrong
    with pytest.raises(UnsupportedModelError, match=r"'up\.weight' has values that are not finite"):
        stored_as(Scheme(bits, 64, symmetric), Weight(matrix, "F32"), "up.weight")
    if bits == 4:
        with pytest.raises(UnsupportedModelError, match=r"'up\.weight'"):
            stored_as(Scheme(4, 64, symmetric), Weight(matrix, "F32"), "up.weight", moments=np.eye(256, dtype="f4"))


def test_float16_holds_up_to_65504(caplog: pytest.LogCaptureFixture) -> None:
    fine = to_f16(Weight(np.array([[65504.0, -1e-9]], np.float32), "F32"))
    assert fine is not None
    assert fine.array.tolist() == [[65504.0, 0.0]]
    big = Weight(np.array([[65536.0, 1.0]], np.float32), "F32")
    assert stored_as(None, big, "norm") is big
    assert "norm has values that float16 cannot hold" in caplog.text


def layer() -> tuple[F32, F32]:
    """A weight (rows, columns), and inputs (tokens, columns) that are correlated, as activations are."""
    rng = np.random.default_rng(3)
    mix = rng.standard_normal((128, 128)) * rng.gamma(0.5, 1, 128)
    inputs = rng.standard_normal((2000, 128)) @ mix
    return rng.standard_normal((64, 128)).astype(np.float32), inputs.astype(np.float32)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("group", [32, 128])
def test_calibration_lowers_the_error_of_the_output(symmetric: bool, group: int) -> None:
    matrix, inputs = layer()
    scheme = Scheme(4, group, symmetric)
    calibrated = compress_calibrated(matrix.T.copy(), scheme, inputs[:1000].T @ inputs[:1000] / np.float32(1000))
    assert calibrated is not None
    errors = [
        np.square(inputs[1000:] @ (matrix - m.to_f32()).T).mean() for m in (calibrated, compressed(matrix, scheme))
    ]
    assert errors[0] < 0.65 * errors[1]


def test_calibration_with_inputs_that_tell_nothing() -> None:
    matrix, _ = layer()
    scheme = Scheme(4, 32, False)
    for moments in (np.zeros((128, 128), np.float32), np.ones((128, 128), np.float32)):
        result = compress_calibrated(matrix.T.copy(), scheme, moments)
        assert result is not None
        assert np.square(matrix - result.to_f32()).mean() < 0.1


@pytest.mark.parametrize("size", [1, 5, 127, 128, 301])
def test_the_factor_is_that_of_the_inverse(size: int) -> None:
    inputs = np.random.default_rng(1).standard_normal((2 * size, size)).astype(np.float32)
    inputs *= np.exp(np.arange(size, dtype=np.float32) / size * 4)  # columns of which some are much larger
    moments = inputs.T @ inputs
    damped = moments + _DAMPING * moments.diagonal().mean() * np.eye(size)
    expected = np.linalg.cholesky(np.linalg.inv(damped)).T
    np.testing.assert_allclose(_factor(moments), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_a_calibrated_matrix_with_independent_inputs_is_the_searched_one() -> None:
    matrix, _ = layer()
    scheme = Scheme(4, 32, False)
    result = compress_calibrated(matrix.T.copy(), scheme, np.eye(128, dtype=np.float32))
    assert result is not None
    assert np.array_equal(result.codes, compressed(matrix, scheme).codes)


@pytest.mark.parametrize(
    ("columns", "asked", "expected"),
    [
        (768, None, Scheme(4, 128, False)),
        (576, None, Scheme(4, 64, False)),
        (96, None, Scheme(4, 96, False)),
        (172, None, Scheme(8, 172, False)),
        (172, -1, Scheme(4, 172, False)),
        (48, 16, Scheme(4, 16, False)),
        (48, 32, Scheme(8, 48, False)),
        (33, -1, Scheme(8, 33, False)),
    ],
)
def test_groups_that_do_not_divide_the_row(columns: int, asked: int | None, expected: Scheme) -> None:
    compression = Compression(weights="int4", group_size=asked)
    assert compression.of_matrix(columns) == expected
    assert compression.of_table(columns) == Scheme(8, columns, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "int5"}, "weights must be one of f16, int8, int4, got 'int5'"),
        ({"weights": "int4", "group_size": 48}, "group_size must be a power of two from 16 on, .* got 48"),
        ({"weights": "int4", "group_size": 0}, "group_size .* got 0"),
        ({"weights": "int4", "embeddings": "i8"}, "embeddings must be one of .* got 'i8'"),
        ({"weights": "int8", "symmetric": "yes"}, "symmetric must be True, False or None, got 'yes'"),
        ({"weights": "f16", "group_size": 32}, "weights='f16' has neither"),
    ],
)
def test_options_are_checked(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Compression(**options)


@pytest.mark.parametrize(("bits", "symmetric"), SCHEMES)
def test_sizes_are_foretold(bits: Any, symmetric: bool) -> None:
    scheme = Scheme(bits, 32, symmetric)
    assert scheme.bytes_of(24, 96) == compressed(np.ones((24, 96), np.float32), scheme).nbytes


def test_what_has_fewer_bits_already_stays() -> None:
    matrix = np.random.default_rng(5).standard_normal((16, 64)).astype(np.float32)
    four, eight = (compressed(matrix, Scheme(bits, 32, True)) for bits in (4, 8))
    assert stored_as(Scheme(8, 64, False), four, "w") is four
    assert stored_as(Scheme(8, 64, False), eight, "w") is eight
    again = stored_as(Scheme(4, 32, True), eight, "w")
    assert isinstance(again, Compressed)
    assert np.abs(again.to_f32() - matrix).max() < np.abs(matrix).max() / 8
    half = stored_as(None, four, "w")
    assert isinstance(half, Weight)
    assert half.dtype == "F16"
    assert np.allclose(half.to_f32(), four.to_f32(), rtol=2**-11)


def test_groups_along_the_outputs_are_left_or_stored_anew(caplog: pytest.LogCaptureFixture) -> None:
    matrix = np.random.default_rng(7).standard_normal((16, 64)).astype(np.float32)
    eight = compressed(matrix, Scheme(8, 32, True))  # (inputs, outputs)
    compressor = Compressor(Compression(weights="int8"))
    left = compressor.matrix("w", eight, transposed=True)
    assert isinstance(left, Compressed)
    assert left.codes is eight.codes
    compressor.warn()
    assert "stored as before: 1 of the matrices, w" in caplog.text
    again = Compressor(Compression(weights="int4", group_size=16)).matrix("w", eight, transposed=True)
    assert again.dtype == "u4"
    assert np.abs(again.to_f32() - matrix.T).max() < np.abs(matrix).max() / 8


def test_a_checkpoint_compresses_what_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(6)
    names = {"embed": (40, 172), "up": (64, 128), "down": (20, 172), "norm": (128,)}
    inner = Checkpoint("here", {name: weight(rng.standard_normal(s).astype("f4")) for name, s in names.items()})
    seen: list[tuple[str, int]] = []
    compressor = Compressor(Compression(weights="int4"), progress=lambda *args: seen.append(args))
    told = CompressingCheckpoint(inner, compressor)
    kinds = [told.table("embed", (40, 172)), told.matrix("up", (128, 64), transposed=True)]
    kinds += [told.matrix("down", (20, 172)), told.get("norm", (128,))]
    assert [(kind.dtype, kind.shape) for kind in kinds] == [
        ("u8", (40, 172)),
        ("u4", (128, 64)),
        ("u8", (20, 172)),
        ("F32", (128,)),
    ]
    assert seen == [("embed", 40 * 172 * 4), ("up", 64 * 128 * 4), ("down", 20 * 172 * 4), ("norm", 512)]
    assert not caplog.text
    compressor.warn()
    assert "groups of that size do not divide: 1 of the matrices, down (INT8, 172 to a group)" in caplog.text


def test_pages_of_a_mapped_file_are_given_back_and_can_be_read_again(tmp_path: Path) -> None:
    smaps = Path("/proc/self/smaps")
    if not smaps.exists():
        pytest.skip("needs /proc")
    values = np.arange(1 << 20, dtype=np.float32)
    (tmp_path / "model.safetensors").write_bytes(save({"a": values}))
    mapped = open_checkpoint(tmp_path).get("a", values.shape)
    assert isinstance(mapped, Weight)

    def resident() -> int:
        lines = smaps.read_text().split(str(tmp_path))[1].splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))

    assert mapped.array.sum() > 0
    assert resident() >= 4096
    mapped.release()
    assert resident() <= 64
    assert np.array_equal(mapped.array, values)


def test_halves_are_what_numpy_rounds_to() -> None:
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)  # all that are finite, from 0 on
    middles = (halves[1:] + halves[:-1]) / 2
    near = [np.nextafter(middles, np.float32(towards)) for towards in (0, np.inf)]
    numbers = np.concatenate([halves, middles, *near, np.array([1e-45, 1e-38, 65519.99], np.float32)])
    for x in (numbers, -numbers):
        np.testing.assert_array_equal(to_halves(x).view(np.uint16), x.astype(np.float16).view(np.uint16))
