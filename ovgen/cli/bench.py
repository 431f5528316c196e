"""``ovgen bench``: how fast a model is on this machine, and what it takes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ovgen.cli.options import add_model_options, load_model, model_options, model_path, to_json
from ovgen.cli.tables import megabytes, number, table

if TYPE_CHECKING:
    from ovgen.benchmark import Load, Report, Spread

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "measure how fast a model is here, and what it takes"
EXAMPLE = """examples:
  ovgen bench
  ovgen bench path/to/model --weights int4 --prompt-tokens 64,512 --batch 1,4,16
  ovgen bench path/to/model --device NPU --batch 1 --no-load --json > npu.json
  ovgen bench path/to/model --plot speed.png

Close other programs first. Times are medians over all steps, or over the runs, with the least and the most of them.
A cold start has nothing that ovgen or OpenVINO have kept: kernels are built and compressed copies made. Files may be
in the system's memory already, in both starts. `idle` is time that the device waits for the host, `host` all that the
host works; `limit` is the share of a step that reading weights and cache from memory takes at least.
"""
_COLUMNS = ("prompt", "batch", "first token, ms", "token, ms", "95 %", "tokens/s", "idle, us", "host, us", "limit")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--prompt-tokens", type=_numbers, default=[64, 512], metavar="N,N", help="default: 64,512")
    parser.add_argument("--new-tokens", type=int, default=128, metavar="N", help="to generate (default: 128)")
    parser.add_argument("--batch", type=_numbers, default=[1, 4, 16], metavar="N,N", help="at once (default: 1,4,16)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of each (default: 3)")
    parser.add_argument(
        "--no-load", action="store_true", help="do not measure cold and warm starts, which take longest"
    )
    parser.add_argument("--plot", metavar="FILE", help="draw it: .png, .svg or .pdf (takes matplotlib)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    add_model_options(parser, positional=True)
    parser.set_defaults(enable_prefix_caching=False)  # no prompt begins like another, and memory shall be their own


def run(options: argparse.Namespace) -> int:
    """Measure, print a table or JSON, and draw."""
    from ovgen.benchmark import benchmark, load_times  # brings the engine with it

    if options.plot is not None:
        from ovgen.benchmark_plot import check_picture

        check_picture(Path(options.plot))

    def progress(text: str) -> None:
        print(f"measuring {text} ...", file=sys.stderr, flush=True)

    llm = load_model(options)  # first: it refuses what cannot be, and is alone in this process
    report = benchmark(
        llm,
        prompt_tokens=options.prompt_tokens,
        new_tokens=options.new_tokens,
        batch=options.batch,
        runs=options.runs,
        curve=options.plot is not None,
        loads=None if options.no_load else partial(load_times, model_path(options), model_options(options)),
        progress=progress,
    )
    print(to_json(report.record()) if options.json else "\n".join(_text(report)))
    if options.plot is not None:
        from ovgen.benchmark_plot import draw

        draw(report, Path(options.plot))
        print(f"written to {options.plot}", file=sys.stderr)
    return 0


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"takes whole numbers with commas between them, got {text!r}") from None


def _text(report: Report) -> Iterator[str]:
    """The report for people, line by line."""
    facts = {**report.model, "machine": ", ".join(f"{name} {text}" for name, text in report.machine.items())}
    for name, text in facts.items():
        yield f"{name:<13} {text}"
    yield ""
    for name, load in (("cold start", report.cold), ("warm start", report.warm)):
        if load is not None:
            yield f"{name:<13} {_load(load)}"
    peak = "" if report.peak_bytes is None else f"; {megabytes(report.peak_bytes)} at most for the whole process"
    yield f"{'memory':<13} {megabytes(report.cache_bytes)} for the KV cache{peak}"
    if report.limits is not None:
        found = report.limits
        yield (
            f"{'limits':<13} {found.bandwidth / 1e9:.1f} GB/s read by numpy, "
            f"{megabytes(found.weight_bytes)} of weights a step: {1000 * found.seconds(0):.2f} ms a token at least"
        )
    yield ""
    rows = [_COLUMNS] + [
        (
            str(p.prompt_tokens),
            str(p.batch),
            _spread(p.time_to_first_token, 1000, 1),
            number(p.time_per_token, 1000, 2),
            number(p.time_per_token_95, 1000, 2),
            _spread(p.tokens_per_second, 1, 1),
            number(p.idle, 1e6, 0),
            number(p.host, 1e6, 0),
            "-" if p.limit is None else f"{100 * p.limit:.0f} %",
        )
        for p in report.points
    ]
    yield from table(rows, ">")


def _load(load: Load) -> str:
    return (
        f"{load.total:.2f} s from the start of the process to a token: {load.load:.2f} s to load the model, "
        f"{load.first_token:.2f} s for the token"
    )


def _spread(values: Spread, factor: float, digits: int) -> str:
    low, high = (f"{factor * value:.{digits}f}" for value in (values.least, values.most))
    return f"{factor * values.median:.{digits}f} ({low} - {high})"
