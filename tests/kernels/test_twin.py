"""The twin against plain floating-point mathematics, bounds worked out on paper, and bytes read off the description."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from ovgen.weights import Compressed
from ovgen.weights.compressed import Bits
from tests.kernels import twin
from tests.kernels.cases import Case, cases, compressed
from tests.kernels.twin import Output, Shape

EXAMPLES = settings().max_examples


def one_code(bits: int, row: int, column: int) -> Compressed:
    """16 rows of 256 columns in two groups, all codes 0 but one."""
    codes = np.zeros((16, 256), np.uint8)
    codes[row, column] = 5
    scale = np.ones((16, 2), np.float16)
    if bits == 8:
        return Compressed(codes.view(np.int8), "i8", scale)
    return Compressed(codes[:, ::2] | codes[:, 1::2] << 4, "u4", scale)


@pytest.mark.parametrize(
    ("row", "column", "at", "value"),
    [
        (0, 0, 0, 5),  # the first byte of the first unit
        (0, 3, 3, 5),
        (0, 4, 0, 5 << 4),  # the upper half of the first
        (1, 0, 4, 5),  # the next lane
        (7, 7, 31, 5 << 4),  # the end of the unit
        (0, 8, 32, 5),  # the second unit
        (0, 32, 128, 5),  # the second block
        (0, 128, 512, 5),  # the second group: four blocks on
        (8, 0, 1024, 5),  # the second panel: eight blocks on
    ],
)
def test_where_a_4_bit_code_lies(row: int, column: int, at: int, value: int) -> None:
    packed = twin.pack(Shape(256, 128, (16,), "int4", zero_points=True), [one_code(4, row, column)])
    assert np.flatnonzero(packed[:2048]).tolist() == [at]
    assert packed[at] == value


@pytest.mark.parametrize(
    ("row", "column", "at"),
    [(0, 0, 0), (0, 3, 3), (0, 4, 32), (1, 0, 4), (7, 31, 255), (0, 32, 256), (0, 128, 1024), (8, 0, 2048)],
)
def test_where_an_8_bit_code_lies(row: int, column: int, at: int) -> None:
    packed = twin.pack(Shape(256, 128, (16,), "int8"), [one_code(8, row, column)])
    assert np.flatnonzero(packed[:4096]).tolist() == [at]
    assert packed[at] == 5


def test_where_the_other_numbers_lie() -> None:
    """Nine rows: two panels of a block of 256 bytes; then scales, zero points and biases, in multiples of 64 bytes."""
    shape = Shape(32, 32, (9,), "int8", zero_points=True, bias=True)
    scale, zero = np.arange(1, 10, dtype=np.float16)[:, None], np.arange(11, 20, dtype=np.uint8)[:, None]
    weight = Compressed(np.zeros((9, 32), np.int8), "i8", scale, zero)
    packed = twin.pack(shape, [weight], [np.arange(21, 30, dtype=np.float32)])
    assert len(packed) == 512 + 64 + 64 + 64
    assert packed[512:576].view(np.float16).tolist() == [*range(1, 10)] + [0] * 23
    assert packed[576:640].view(np.float16).tolist() == [*range(139, 148)] + [0] * 23  # 128 added
    assert packed[640:704].view(np.float32).tolist() == [*range(21, 30)] + [0] * 7


def test_panels_of_a_gate_alternate() -> None:
    weights = [Compressed(np.full((16, 32), value, np.int8), "i8", np.ones((16, 1), np.float16)) for value in (1, 2)]
    apart, gated = (twin.pack(Shape(32, 32, (16, 16), "int8", gated=gated), weights)[:1024] for gated in (False, True))
    assert apart.reshape(4, 256)[:, 0].tolist() == [1, 1, 2, 2]
    assert gated.reshape(4, 256)[:, 0].tolist() == [1, 2, 1, 2]


@given(case=cases(formats=("int4", "int8")))
@settings(max_examples=2 * EXAMPLES, deadline=None)
def test_packed_values_are_those_of_the_weights(case: Case) -> None:
    """But for fractional zero points, whose last bits go where 8 or 128 is added to them."""
    packed = twin.pack(case.shape, case.weights, case.biases)
    for number, (matrix, weight) in enumerate(zip(twin.unpack(case.shape, packed), case.codes, strict=True)):
        fractional = weight.zero_point is not None and weight.zero_point.dtype == np.float16
        # A float16 between 128 and 256 is an eighth from the next, so half of that is lost at most; between 8 and 16 it
        # is 1 / 128.
        lost = (1 / 16 if case.shape.bits == 8 else 1 / 256) if fractional else 0
        scale = np.abs(matrix.scale).repeat(case.shape.group, axis=1)
        assert (np.abs(matrix.values() - weight.to_f32()) <= lost * scale * 1.0001).all()
        if case.shape.bias:
            np.testing.assert_array_equal(matrix.bias, case.biases[number])


def test_codes_of_activations_are_worked_out() -> None:
    """The largest magnitude becomes 127; halves go to the even code; signs stay."""
    x = np.array([[254, 1, 3, 5, -1, -3, -254, 0]], np.float32)
    codes, scale = twin.quantise(x)
    assert codes.tolist() == [[127, 0, 2, 2, 0, -2, -127, 0]]
    assert scale.tolist() == [2]


def test_activations_are_missed_by_half_a_step_at_most() -> None:
    x = np.random.default_rng(0).normal(size=(100, 128)).astype(np.float32)
    codes, scale = twin.quantise(x)
    assert (np.abs(codes).max(axis=1) == 127).all()
    assert (np.abs(codes * scale[:, None].astype(float) - x) <= scale[:, None] * (0.5 + 1e-5)).all()


@pytest.mark.parametrize(
    ("value", "scale"), [(0, 0), (9e-37, 0), (1e-40, 0), (np.nan, np.nan), (np.inf, np.nan), (-np.inf, np.nan)]
)
def test_activations_without_codes(value: float, scale: float) -> None:
    codes, scales = twin.quantise(np.array([[value, 0, 1e-38]], np.float32))
    assert not codes.any()
    np.testing.assert_array_equal(scales, [scale])


@given(case=cases(formats=("int4", "int8")))
@settings(max_examples=EXAMPLES, deadline=None)
def test_linear_is_a_multiplication(case: Case) -> None:
    """Of weights with activations that are missed by half a step: at most m / 254 times the sum of magnitudes."""
    shape = case.shape.plain()
    x = np.nan_to_num(case.x, posinf=1, neginf=1)
    packed = twin.pack(shape, case.weights, case.biases)
    outputs = twin.linear(shape, packed, x)
    for matrix, output in zip(twin.unpack(shape, packed), outputs, strict=True):
        values = matrix.values().astype(np.float64)
        bound = np.zeros_like(output.values)
        for _, columns in shape.pieces():
            most = np.abs(x[:, columns]).max(axis=1).astype(np.float64)
            missed = np.where(most < 1.5e-36, most, most / 254)  # what is so small counts as 0
            bound += missed[:, None] * np.abs(values[:, columns]).sum(axis=1)
        exact = x.astype(np.float64) @ values.T + matrix.bias
        assert (np.abs(output.values - exact) <= bound * 1.0001 + output.error).all()


@pytest.mark.parametrize("dtype", ["u4", "i4", "u8", "i8"])
def test_whole_numbers_are_multiplied_exactly(dtype: Bits) -> None:
    """Activations that are their own codes lose nothing."""
    rng = np.random.default_rng(0)
    bits = 4 if dtype in ("u4", "i4") else 8
    shape = Shape(320, 160, (11, 5), f"int{bits}", zero_points=True, bias=True)
    weights = [compressed(rng, rows, 320, 160, dtype, np.uint8) for rows in (11, 5)]
    biases = [rng.normal(size=rows).astype(np.float32) for rows in (11, 5)]
    x = rng.integers(-127, 128, (3, 320)).astype(np.float32)
    for _, columns in shape.pieces():
        x[:, columns.start] = 127
    outputs = twin.linear(shape, twin.pack(shape, weights, biases), x)
    for weight, bias, output in zip(weights, biases, outputs, strict=True):
        np.testing.assert_allclose(output.values, x.astype(float) @ weight.to_f32().T.astype(float) + bias, rtol=1e-5)


def test_float32_is_allowed_no_more_than_it_needs() -> None:
    """What the kernels may miss is a millionth of the sum of magnitudes: one wrong code is far beyond it."""
    rng = np.random.default_rng(0)
    shape = Shape(1024, 128, (8,), "int4")
    weight = compressed(rng, 8, 1024, 128, "i4")
    x = rng.normal(size=(1, 1024)).astype(np.float32)
    (output,) = twin.linear(shape, twin.pack(shape, [weight]), x)
    assert (output.error <= 3e-6 * np.abs(x) @ (np.abs(weight.to_f32()).T + 8 * np.abs(weight.scale).max())).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", [-3, -1, 0, 1, 3]),
        ("relu", [0, 0, 0, 1, 3]),
        ("silu", [-0.1422776, -0.2689414, 0, 0.7310586, 2.8577224]),
        ("gelu_erf", [-0.0040497, -0.1586553, 0, 0.8413447, 2.9959503]),
        ("gelu_tanh", [-0.0036374, -0.1588080, 0, 0.8411920, 2.9963626]),
    ],
)
def test_activation_functions(name: str, expected: list[float]) -> None:
    """Values of torch."""
    x = np.array([-3.0, -1, 0, 1, 3])
    np.testing.assert_allclose(twin.activate(name, Output(x, np.zeros(5))).values, expected, atol=1e-7)


def test_a_gate_is_activated_and_multiplies() -> None:
    rng = np.random.default_rng(0)
    weights = [compressed(rng, 8, 64, 32, "i8") for _ in range(2)]
    x = rng.normal(size=(2, 64)).astype(np.float32)
    gate, up = twin.linear(Shape(64, 32, (8, 8), "int8"), twin.pack(Shape(64, 32, (8, 8), "int8"), weights), x)
    shape = Shape(64, 32, (8, 8), "int8", gated=True, activation="relu")
    (output,) = twin.linear(shape, twin.pack(shape, weights), x)
    np.testing.assert_allclose(output.values, np.maximum(gate.values, 0) * up.values, rtol=1e-12)


def test_embedding_takes_rows() -> None:
    weight = compressed(np.random.default_rng(0), 10, 64, 32, "u4", np.uint8)
    shape = Shape(64, 32, (10,), "int4", zero_points=True)
    rows = twin.embedding(shape, twin.pack(shape, [weight]), [0, 9, -1, -10, 10, -11])
    np.testing.assert_array_equal(rows[:4], weight.to_f32()[[0, 9, 9, 0]])
    assert not rows[4:].any()
