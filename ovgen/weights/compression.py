"""What to compress to: the options, and what they come to for one matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from ovgen.errors import ConfigError

__all__ = ["Compression", "Precision", "Progress", "Scheme"]

Precision: TypeAlias = Literal["f16", "int8", "int4"]
"""What weights can be stored in."""

Progress: TypeAlias = Callable[[str, int], None]
"""Told each piece of work that is done: what it was, and its size. Of a compression, the name of a tensor and how many
bytes of the source it took."""

_INT4_GROUP = 128  # what optimum-intel and NNCF take
_SMALLEST_GROUP = 16
_WHOLE_ROW = -1


@dataclass(frozen=True, slots=True)
class Scheme:
    """How one matrix is stored.

    Attributes:
        bits: 8 or 4.
        group: how many neighbours in a row share a scale; a divisor of the columns.
        symmetric: codes around 0, without a zero point.
    """

    bits: Literal[4, 8]
    group: int
    symmetric: bool

    def __str__(self) -> str:
        return f"INT{self.bits}, {self.group} to a group"

    def bytes_of(self, rows: int, columns: int) -> int:
        """What a matrix takes: codes, float16 scales, and zero points of as many bits as the codes."""
        groups = rows * (columns // self.group)
        return rows * columns * self.bits // 8 + 2 * groups + (0 if self.symmetric else groups * self.bits // 8)


@dataclass(frozen=True, kw_only=True)
class Compression:
    """What the weights of a model are to be stored in. Vectors (norms, biases) are never cut below 16 bits.

    Attributes:
        weights: the matrices of linear layers. ``"f16"`` stores vectors so, too.
        group_size: how many neighbours in a row share a scale; -1 for a row as a whole. The default is 128 for
            INT4 and the row for INT8, as in optimum-intel.
        symmetric: without zero points. The default is False, as in optimum-intel: a zero point costs a byte or half
            of one a group, and perplexity was nearly always lower with it (``scripts/compression_table.py``). Tables
            in INT8 beside weights in INT4 always have zero points, as in NNCF.
        embeddings: embeddings and the head. They are looked up and not multiplied, or decide between close candidates,
            so the default is INT8, one scale a row; ``"f16"`` where the weights are that. ``"int4"`` takes the
            same groups as the weights.

    Raises:
        ConfigError: a value that is not allowed; the message names option and value.
    """

    weights: Precision
    group_size: int | None = None
    symmetric: bool | None = None
    embeddings: Precision | None = None

    def __post_init__(self) -> None:
        allowed = get_args(Precision)
        if not isinstance(self.weights, str) or self.weights not in allowed:
            raise ConfigError(f"weights must be one of {', '.join(allowed)}, got {self.weights!r}")
        if self.embeddings is not None and self.embeddings not in allowed:
            raise ConfigError(f"embeddings must be one of {', '.join(allowed)} or None, got {self.embeddings!r}")
        group = self.group_size
        if group is not None and group != _WHOLE_ROW and (not _is_power(group) or group < _SMALLEST_GROUP):
            raise ConfigError(
                f"group_size must be a power of two from {_SMALLEST_GROUP} on, or -1 for whole rows, got {group!r}"
            )
        if not (self.symmetric is None or isinstance(self.symmetric, bool)):
            raise ConfigError(f"symmetric must be True, False or None, got {self.symmetric!r}")
        if self.weights == "f16" and not (self.group_size is None and self.symmetric is None):
            raise ConfigError("group_size and symmetric are options of int8 and int4; weights='f16' has neither")

    @classmethod
    def of(cls, weights: Precision | Compression | None) -> Compression | None:
        """What a user means by ``weights="int4"``: the same as by ``Compression(weights="int4")``.

        Raises:
            ConfigError: there is no such precision.
        """
        return weights if weights is None or isinstance(weights, Compression) else cls(weights=weights)

    def of_matrix(self, columns: int) -> Scheme | None:
        """How the weight of a linear layer is stored, whose rows are ``columns`` long; None for float16.

        A group must divide the row. Where it does not it is halved until it does, down to 32, or 16 if that is asked
        for; a row that none divides, and an INT4 row of odd length, is stored in INT8 with one scale.
        """
        return self._scheme(self.weights, columns)

    def of_table(self, columns: int) -> Scheme | None:
        """How an embedding or a head is stored; None for float16."""
        embeddings = self.embeddings or ("f16" if self.weights == "f16" else "int8")
        return self._rows_in_8_bits(columns) if embeddings == "int8" else self._scheme(embeddings, columns)

    def fits(self, columns: int) -> bool:
        """Whether `of_matrix` gives rows of this length what was asked for."""
        scheme = self.of_matrix(columns)
        precision = "f16" if scheme is None else f"int{scheme.bits}"
        return precision == self.weights and (scheme is None or scheme.group == self._group(scheme.bits, columns))

    def bytes_of(self, rows: int, columns: int, *, table: bool) -> int:
        """What a matrix takes."""
        scheme = self.of_table(columns) if table else self.of_matrix(columns)
        return 2 * rows * columns if scheme is None else scheme.bytes_of(rows, columns)

    def _scheme(self, precision: Precision, columns: int) -> Scheme | None:
        if precision == "f16":
            return None
        bits: Literal[4, 8] = 8 if precision == "int8" else 4
        group = self._group(bits, columns)
        while columns % group and group > 32:
            group //= 2
        if columns % group or (bits == 4 and columns % 2):
            return self._rows_in_8_bits(columns)
        return Scheme(bits, group, bool(self.symmetric))

    def _rows_in_8_bits(self, columns: int) -> Scheme:
        return Scheme(8, columns, self.weights == "int8" and bool(self.symmetric))

    def _group(self, bits: int, columns: int) -> int:
        default = _WHOLE_ROW if bits == 8 else _INT4_GROUP
        size = default if self.group_size is None else self.group_size
        return columns if size == _WHOLE_ROW else min(size, columns)


def _is_power(number: object) -> bool:
    return isinstance(number, int) and number > 0 and number & (number - 1) == 0
