"""The picture of a benchmark: latency by context, throughput by batch, and a roofline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ovgen.benchmark import Report
from ovgen.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["check_picture", "draw", "save"]

_SUFFIXES = (".png", ".svg", ".pdf")
_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#666666"  # https://jfly.uni-koeln.de/color
_BIN = 32  # steps of which a point of the curve is the median


def check_picture(file: Path) -> None:
    """Refuse a picture that could not be drawn, before anything long begins.

    Raises:
        ConfigError: its name or folder is wrong, or matplotlib is not installed.
    """
    if file.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"--plot {file}: the name must end in {', '.join(_SUFFIXES)}")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"--plot {file}: there is no folder {file.parent}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        text = "pictures take matplotlib: pip install 'ovgen[plot]', or '.[plot]' in a clone"
        raise ConfigError(text) from error


def draw(report: Report, file: Path) -> None:
    """Write the picture, whole or not at all.

    Args:
        report: of a benchmark with ``curve=True``.
        file: what to write; its suffix says as what.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    name, device = report.model["model"].split(" (")[0], report.model["device"].split(":")[0]
    kernels = report.model["kernels"].split(":")[0]
    figure.suptitle(f"{name} on {device}, {report.model['form'].split(':')[0]} form, {kernels} kernels", fontsize=13)
    _latency(left, report)
    _throughput(middle, report)
    _roofline(right, report)
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    save(figure, file)


def save(figure: Figure, file: Path) -> None:
    """Write a picture, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    partial = file.with_name(f".{file.stem}.{os.getpid()}.partial{file.suffix}")
    try:
        figure.savefig(partial, dpi=150)
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def _latency(axes: Axes, report: Report) -> None:
    """Time per token of one long text, and what reading memory takes."""
    axes.set(title="Time per token of one text", xlabel="context, tokens", ylabel="ms")
    steps = report.curve
    context = np.array([step.context for step in steps])
    times = np.array([1000 * step.seconds for step in steps])
    axes.plot(context, times, ".", color=_BLUE, alpha=0.2, markersize=3)
    edges = range(0, len(steps), _BIN)
    medians = [float(np.median(times[i : i + _BIN])) for i in edges]
    axes.plot([float(context[i : i + _BIN].mean()) for i in edges], medians, color=_BLUE, label="median of 32 steps")
    if report.limits is not None:
        least = [1000 * report.limits.seconds(float(tokens)) for tokens in context]
        axes.plot(context, least, "--", color=_ORANGE, label="reading weights and cache")
    axes.set_ylim(0, 1.6 * max(medians, default=1.0))  # single steps that something disturbed may lie above
    axes.set_xlim(0)
    axes.legend(frameon=False, loc="upper left")


def _throughput(axes: Axes, report: Report) -> None:
    """Tokens a second of all texts together, a line for each length of prompts."""
    axes.set(title="Throughput", xlabel="texts at once", ylabel="tokens/s")
    for length, color in zip(_lengths(report), (_BLUE, _ORANGE, _GREEN, _GREY) * 8, strict=False):
        points = sorted((p for p in report.points if p.prompt_tokens == length), key=lambda p: p.batch)
        speeds = [p.tokens_per_second for p in points]
        spread = [[s.median - s.least for s in speeds], [s.most - s.median for s in speeds]]
        batches, medians = [p.batch for p in points], [s.median for s in speeds]
        axes.errorbar(batches, medians, spread, color=color, marker="o", capsize=3, label=f"prompts of {length} tokens")
    batches = sorted({p.batch for p in report.points})
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_xlim(0, 1.05 * max(batches))
    axes.set_ylim(0, 1.35 * max(p.tokens_per_second.most for p in report.points))  # with room for the legend
    axes.legend(frameon=False, loc="upper left")


def _roofline(axes: Axes, report: Report) -> None:
    """Operations a second against operations per byte of weights and cache, as Williams, Waterman and Patterson draw it
    (https://doi.org/10.1145/1498765.1498785)."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set(title="Roofline", xlabel="operations per byte read", ylabel="GFLOP/s")
    found = report.limits
    if found is None:
        axes.text(0.5, 0.5, "limits are measured on CPUs only", ha="center", transform=axes.transAxes, color=_GREY)
        return
    done: list[tuple[str, float, float, str]] = []  # label, intensity, operations a second, color
    for p in report.points:
        cached = p.batch * (p.prompt_tokens + p.new_tokens / 2)
        read = found.weight_bytes + cached * found.cache_bytes
        speed = 2 * found.parameters * p.tokens_per_second.median
        if p.prompt_tokens == _lengths(report)[0]:
            done.append((f"{p.batch} at once", 2 * found.parameters * p.batch / read, speed, _BLUE))
        if p.batch == 1:
            flops = 2 * ((found.parameters - found.head) * p.prompt_tokens + found.head)
            first = f"prompt of {p.prompt_tokens}"
            done.append((first, flops / found.weight_bytes, flops / p.time_to_first_token.median, _ORANGE))
    most = max(intensity for _, intensity, _, _ in done)
    roof = np.geomspace(min(intensity for _, intensity, _, _ in done) / 2, 4 * max(most, found.flops / found.bandwidth))
    axes.loglog(roof, np.minimum(roof * found.bandwidth, found.flops) / 1e9, color=_GREY)
    note = f"{found.bandwidth / 1e9:.0f} GB/s read by numpy; {found.flops / 1e9:.0f} GFLOP/s of its float32 products"
    axes.set_xlabel(f"operations per byte read\n{note}")
    for label, intensity, speed, color in done:
        axes.plot(intensity, speed / 1e9, "o", color=color)
        axes.annotate(
            label, (intensity, speed / 1e9), (0, -14), textcoords="offset points", ha="center", color=color, fontsize=9
        )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(LogLocator())
    axes.set_ylim(0.6 * min(speed for _, _, speed, _ in done) / 1e9)


def _lengths(report: Report) -> list[int]:
    return sorted({p.prompt_tokens for p in report.points})
