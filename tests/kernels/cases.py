"""Random matrices and activations for the tests of the kernels, and how results are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from ovgen.weights import Compressed, Weight
from ovgen.weights.compressed import Bits
from tests.kernels.twin import ACTIVATIONS, Output, Shape

__all__ = ["FORMATS", "ZEROS", "Case", "activations", "assert_within", "cases", "compressed", "floats"]

FORMATS = ("int4", "int8", "f16", "bf16", "f32")

GROUPS = (1, 8, 20, 31, 32, 33, 37, 64, 100, 128, 129, 160, 256, 300, 576)
TOKENS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 31, 32, 33, 64, 65, 70)
EXTREMES: dict[Bits, tuple[int, int]] = {"u4": (0, 0xFF), "i4": (0x88, 0x77), "u8": (0, 0xFF), "i8": (0x80, 0x7F)}
"""The lowest and the highest code, filling a byte."""
ZEROS = (None, np.uint8, np.float16)


@dataclass(frozen=True)
class Case:
    """A multiplication."""

    shape: Shape
    weights: Sequence[Compressed | Weight]
    biases: list[NDArray[np.float32]]
    x: NDArray[np.float32]

    @property
    def codes(self) -> list[Compressed]:
        """The weights that are codes."""
        return [weight for weight in self.weights if isinstance(weight, Compressed)]


@st.composite
def cases(draw: st.DrawFn, most_rows: int = 40, formats: Sequence[str] = FORMATS) -> Case:
    """Any matrix that can be packed, with activations for it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32), label="seed"))
    kind = draw(st.sampled_from(formats))
    bits = 4 if kind == "int4" else 8
    group = draw(st.sampled_from(GROUPS))
    columns = group * draw(st.integers(1, 4))
    columns *= 2 if bits == 4 and columns % 2 else 1  # two to a byte
    gated = draw(st.booleans())
    rows = tuple(draw(st.lists(st.integers(1, most_rows), min_size=1, max_size=4)))
    rows = (rows[0],) * 2 if gated else rows
    bias = draw(st.booleans())
    biases = [rng.normal(size=size).astype(np.float32) for size in rows] if bias else []
    activation = draw(st.sampled_from(ACTIVATIONS))
    if kind not in ("int4", "int8"):
        shape = Shape(columns, columns, rows, kind, bias=bias, gated=gated, activation=activation)
        flips = [draw(st.booleans()) for _ in rows]
        numbers = [floats(rng, size, columns, kind, flipped=flip) for size, flip in zip(rows, flips, strict=True)]
        return Case(shape, numbers, biases, draw(activations(columns, rng, infinite=False)))
    kinds: list[tuple[Bits, Any]] = [
        (draw(st.sampled_from(("u4", "i4") if bits == 4 else ("u8", "i8"))), draw(st.sampled_from(ZEROS))) for _ in rows
    ]
    codes = draw(st.sampled_from(("any", "lowest", "highest")))
    matrices = [compressed(rng, size, columns, group, *stored, codes) for size, stored in zip(rows, kinds, strict=True)]
    shape = Shape(
        columns,
        group,
        rows,
        kind,
        zero_points=any(zero is not None or dtype in ("u4", "u8") for dtype, zero in kinds),
        bias=bias,
        gated=gated,
        activation=activation,
    )
    return Case(shape, matrices, biases, draw(activations(columns, rng)))


@st.composite
def activations(
    draw: st.DrawFn, columns: int, rng: np.random.Generator, *, infinite: bool = True
) -> NDArray[np.float32]:
    """``(tokens, columns)``, some of them far from what is usual."""
    x = rng.normal(size=(draw(st.sampled_from(TOKENS)), columns)).astype(np.float32)
    spots = rng.integers(0, x.size, 3)
    kinds = ("usual", "zeros", "denormal", "tiny", "huge", "outlier", "level", "nan", "inf")
    kind = draw(st.sampled_from(kinds if infinite else kinds[:-1]))
    if kind == "zeros":
        x[rng.integers(0, len(x), len(x)), :] = 0
    elif kind == "denormal":
        x *= np.float32(1e-40)
    elif kind == "tiny":  # about the limit that counts as zero
        x *= np.float32(5e-37)
    elif kind == "huge":
        x *= np.float32(1e30)
    elif kind == "outlier":
        x.flat[spots] = 1e30
    elif kind == "level":  # codes of +127 and -127 only
        x = np.sign(x)
    elif kind == "nan":
        x.flat[spots] = np.nan
    elif kind == "inf":
        x.flat[spots] = (np.inf, -np.inf, np.inf)
    return x


def floats(rng: np.random.Generator, rows: int, columns: int, kind: str, *, flipped: bool = False) -> Weight:
    """A random matrix in f16, bf16 or f32, some numbers denormal, perhaps the transpose of what lies in memory."""
    shape = (columns, rows) if flipped else (rows, columns)
    numbers = (rng.normal(size=shape) * 10.0 ** rng.integers(-7, 1, shape)).astype(np.float32)
    if kind == "bf16":
        stored: NDArray[Any] = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    else:
        stored = numbers.astype(np.float16 if kind == "f16" else np.float32)
    return Weight(stored.T if flipped else stored, kind.upper())


def compressed(
    rng: np.random.Generator, rows: int, columns: int, group: int, dtype: Bits, zero: Any = None, codes: str = "any"
) -> Compressed:
    """A random matrix.

    Args:
        rng: where the numbers come from.
        rows: of the matrix.
        columns: of the matrix.
        group: columns that share a scale.
        dtype: of the codes.
        zero: the type of the zero points, if there are any.
        codes: any, or all of them the lowest or the highest there are.
    """
    bits = 4 if dtype in ("u4", "i4") else 8
    size = (rows, columns * bits // 8)
    if codes == "any":
        stored = rng.integers(0, 256, size, np.uint8)
    else:
        stored = np.full(size, EXTREMES[dtype][codes == "highest"], np.uint8)
    numbers = (rows, columns // group)
    scale = (rng.normal(size=numbers) * 10.0 ** rng.integers(-7, 1, numbers)).astype(np.float16)  # some denormal
    points = None
    if zero is not None:
        lowest = 0 if dtype[0] == "u" or zero is np.uint8 else -(2 ** (bits - 1))
        points = rng.uniform(lowest, 2**bits - 1 if dtype[0] == "u" else 2 ** (bits - 1) - 1, numbers).astype(zero)
    return Compressed(stored.view(np.int8 if dtype == "i8" else np.uint8), dtype, scale, points)


def assert_within(actual: list[NDArray[np.float32]], expected: list[Output], name: str) -> None:
    """Every result lies within float32 rounding of the twin's."""
    for y, (values, error) in zip(actual, expected, strict=True):
        with np.errstate(over="ignore"):
            lowest, highest = (values - error).astype(np.float32), (values + error).astype(np.float32)
        wrong = ~np.where(np.isnan(values), np.isnan(y), (lowest <= y) & (y <= highest))
        examples = [part[wrong][:4] for part in (y, values, error)]
        assert not wrong.any(), "{}: {} instead of {}, give or take {}".format(name, *examples)
