"""What `bench_peers.py` shows of its rows: tables in Markdown, CSV, and a picture."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["absent", "as_csv", "draw", "table", "write_whole"]

_NAMES, _FIGURES = ("engine", "device"), ("load, s", "first token, ms", "ms/token", "tokens/s", "as fast", "peak, MB")
COLUMNS = (*_NAMES, *_FIGURES, "same tokens")
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#666666")
"""For engines; https://jfly.uni-koeln.de/color."""


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The rows of one model, precision and batch, as a Markdown table, without what is missing."""
    lines: list[tuple[str, ...]] = [COLUMNS]
    against = next((row["against"] for row in rows if "against" in row), None)
    for row in rows:
        if "missing" not in row:
            ratio = "-" if row["ratio"] is None else "{ratio:.2f} ({ratio_least:.2f} - {ratio_most:.2f})".format(**row)
            figures = (f"{row['load']:.2f}", f"{1000 * row['first']:.1f}", f"{1000 * row['decode']:.2f}")
            same = "-" if row["same"] is None else f"{100 * row['same']:.0f} %"
            peak = f"{row['peak'] / 1e6:.0f}" if row["peak"] else "-"
            lines.append((row["engine"], row["device"], *figures, f"{row['speed']:.1f}", ratio, peak, same))
    if against is not None:
        lines[0] = tuple(f"as fast as {against}" if title == "as fast" else title for title in COLUMNS)
    lines.insert(1, ("---",) * len(COLUMNS))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"


def absent(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What is missing of the rows, and why."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if "missing" in row:
            reasons.setdefault(row["missing"], []).append(f"{row['engine']} on {row['device']}")
    if reasons:
        yield "\nNot available here:\n"
    for reason, names in reasons.items():
        yield f"- {', '.join(names)}: {reason}"


def as_csv(results: Sequence[dict[str, Any]]) -> str:
    """All rows, with the columns that any of them has."""
    names = list(dict.fromkeys(name for row in results for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(results)
    return out.getvalue()


def write_whole(file: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, file)


def draw(file: Path, results: Sequence[dict[str, Any]]) -> None:
    """Bars for each engine, a row of panels for each model, precision and batch; whole or not at all.

    Args:
        file: what to write; its suffix says as what.
        results: rows of `bench_peers.summary`, with what they are about.
    """
    from matplotlib.figure import Figure

    from ovgen.benchmark_plot import save

    found = [row for row in results if "missing" not in row]
    about = list(dict.fromkeys(_about(row) for row in found))
    if not about:
        return
    names = list(dict.fromkeys(_name(row) for row in found))
    colors = {name: _COLORS[index % len(_COLORS)] for index, name in enumerate(names)}
    figure = Figure(figsize=(14, 0.8 + sum(1.1 + 0.32 * len(_of(found, each)) for each in about)), layout="constrained")
    panels = figure.subplots(len(about), 4, squeeze=False)
    for line, each in zip(panels, about, strict=True):
        rows = _of(found, each)[::-1]  # the first one on top
        bars = [_name(row) for row in rows]
        shades = [colors[name] for name in bars]
        speeds = [row["speed"] for row in rows]
        figures = [
            ("tokens/s", speeds),
            ("first token, ms", [1000 * row["first"] for row in rows]),
            ("load, s", [row["load"] for row in rows]),
            ("peak memory, MB", [(row["peak"] or 0) / 1e6 for row in rows]),
        ]
        for axes, (title, values) in zip(line, figures, strict=True):
            drawn = axes.barh(bars, values, color=shades)
            axes.bar_label(drawn, [f"{value:.3g}" if value < 100 else f"{value:.0f}" for value in values], padding=3)
            axes.set_xlim(0, 1.25 * max(values) or 1.0)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_title(f"{each}\n{title}" if axes is line[0] else title, fontsize=10, loc="left")
            if axes is not line[0]:
                axes.set_yticks([])
    save(figure, file)


def _about(row: dict[str, Any]) -> str:
    texts = "one text" if row["batch"] == 1 else f"{row['batch']} texts"
    return f"{row['model']}, {row['precision']}, {texts}"


def _name(row: dict[str, Any]) -> str:
    return str(row["engine"] if row["device"] == "CPU" else f"{row['engine']}, {row['device']}")


def _of(rows: Sequence[dict[str, Any]], about: str) -> list[dict[str, Any]]:
    return [row for row in rows if _about(row) == about]
