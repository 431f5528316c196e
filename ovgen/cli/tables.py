"""How commands print figures for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

__all__ = ["megabytes", "number", "table"]


def table(rows: Sequence[Sequence[str]], align: Literal["<", ">"]) -> Iterator[str]:
    """Rows of equally many cells as lines, in columns that are aligned to the left or to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:{align}{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def number(value: float | None, factor: float, digits: int) -> str:
    """A multiple of a value with so many decimals, or a dash for None."""
    return "-" if value is None else f"{factor * value:.{digits}f}"


def megabytes(size: int) -> str:
    """Bytes in millions."""
    return f"{size / 1e6:.1f} MB"
