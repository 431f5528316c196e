"""``ovgen perplexity``: how well a model predicts a text, and how far from another model it is."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovgen.cli.options import add_model_options, load_model, to_json
from ovgen.errors import RequestError

if TYPE_CHECKING:
    from ovgen.llm import LLM
    from ovgen.quality import Comparison, Perplexity

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "measure how well a model predicts a text, and how far from another model it is"
EXAMPLE = """examples:
  ovgen perplexity path/to/model --text held-out.txt
  ovgen perplexity path/to/model --text held-out.txt --window 512 --stride 256 --json
  ovgen perplexity path/to/model --text held-out.txt --weights int4 --against "--weights int4 --kernels off"
  ovgen perplexity path/to/model-int4 --text held-out.txt --against path/to/model

The text is read in windows that overlap; each token but the first is predicted once, from window - stride tokens at
least, unless the text has just begun. --against takes the other model and its options as one argument; without a model
there, it is the same one. Its options begin with their defaults: --weights, say, has to be given for both.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--text", required=True, metavar="FILE", help="text in UTF-8, or - for stdin")
    parser.add_argument("--window", type=int, metavar="N", help="tokens at a time (default: the context, at most 1024)")
    parser.add_argument("--stride", type=int, metavar="N", help="from a window to the next (default: half a window)")
    parser.add_argument(
        "--against", metavar="'MODEL OPTIONS'", help="compare with this one, or the same in another way"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    add_model_options(parser, positional=True)


def run(options: argparse.Namespace) -> int:
    """Measure, and print a table or JSON."""
    text = _read(options.text)
    against = None if options.against is None else _other(options)
    llm = load_model(options)
    from ovgen.quality import compare, perplexity  # brings the engine with it

    how: dict[str, Any] = {"window": options.window, "stride": options.stride, "progress": sys.stderr.isatty()}
    begin = time.perf_counter()
    if against is None:
        result = perplexity(llm, text, **how)
        seconds = time.perf_counter() - begin
        if options.json:
            print(to_json({**_record(result), "seconds": seconds, **_place(llm)}))
        else:
            print(*_lines(result, llm, seconds), sep="\n")
        return 0
    other = load_model(against)
    begin = time.perf_counter()
    comparison = compare(llm, other, text, **how)
    seconds = time.perf_counter() - begin
    if options.json:
        print(to_json(_comparison_record(comparison, llm, other) | {"seconds": seconds}))
    else:
        print(*_lines(comparison.this, llm, seconds), *_comparison_lines(comparison, other), sep="\n")
    return 0


def _other(options: argparse.Namespace) -> argparse.Namespace:
    """The other model's options, by the same parser."""
    parser = argparse.ArgumentParser(prog="ovgen perplexity --against", add_help=False)
    add_model_options(parser, positional=True)
    other = parser.parse_args(shlex.split(options.against, posix=sys.platform != "win32"))
    if other.model is None:
        other.model = options.model
    return other


def _read(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read the text {file}: {error}") from error


def _lines(result: Perplexity, llm: LLM, seconds: float) -> list[str]:
    lines = [
        f"{llm.path.name}: {result.tokens} tokens predicted in windows of {result.window} by {result.stride}, "
        f"{result.tokens / seconds:.0f} tokens/s",
        f"  perplexity          {result.perplexity:.4f}{_plus_minus(result.perplexity_error)}",
        f"  nats per token      {result.nats:.4f}{_plus_minus(result.nats_error)}",
    ]
    if result.bits_per_byte is not None:
        lines.append(f"  bits per byte       {result.bits_per_byte:.4f}")
    return lines


def _comparison_lines(comparison: Comparison, other: LLM) -> list[str]:
    c = comparison
    return [
        f"against {other.path.name} ({other.form} on {other.device}, kernels {other.kernels.name})",
        f"  its perplexity      {c.other.perplexity:.4f}{_plus_minus(c.other.perplexity_error)}",
        f"  this / its          {c.ratio:.5f}{_plus_minus(c.ratio_error, 5)}",
        f"  divergence, nats    mean {c.divergence:.6f}{_plus_minus(c.divergence_error, 6)}, "
        f"median {c.divergence_median:.6f}, 99 % {c.divergence_99:.6f}, largest {c.divergence_max:.6f}",
        f"  same likeliest      {100 * c.same_top:.2f} %{_plus_minus(100 * c.same_top_error, 2)}",
    ]


def _plus_minus(error: float, digits: int = 4) -> str:
    return "" if math.isnan(error) else f" +- {error:.{digits}f}"


def _record(result: Perplexity) -> dict[str, Any]:
    derived = {"perplexity": result.perplexity, "perplexity_error": result.perplexity_error}
    return _numbers(derived | {"bits_per_byte": result.bits_per_byte} | asdict(result))


def _comparison_record(comparison: Comparison, llm: LLM, other: LLM) -> dict[str, Any]:
    return {
        **_numbers({"ratio": comparison.ratio} | asdict(comparison)),
        "this": _record(comparison.this) | _place(llm),
        "other": _record(comparison.other) | _place(other),
    }


def _place(llm: LLM) -> dict[str, str]:
    return {"model": str(llm.path), "device": llm.device, "form": llm.form, "kernels": llm.kernels.name}


def _numbers(record: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what is not known is null."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in record.items()}
