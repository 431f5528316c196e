"""``ovgen doctor``: whether a model runs on the devices of this machine as it does on the CPU."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ovgen.cli.options import parse_properties, to_json
from ovgen.cli.tables import number, table
from ovgen.errors import ConfigError
from ovgen.resources import bundled_model
from ovgen.runtime.device_list import device_order
from ovgen.runtime.forms import Form

if TYPE_CHECKING:
    from ovgen.doctor import Check, Report

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "check every device and form against the CPU, and write a report to attach to an issue"
EXAMPLE = """examples:
  ovgen doctor
  ovgen doctor --device NPU,GPU --model path/to/model --timeout 3600
  ovgen doctor --device NPU --form static --device-config NPU:NPU_COMPILER_TYPE=DRIVER

Each form runs on each device in a process of its own, so that a driver that aborts or hangs is a line of the report.
The exit status is 0 if everything ran and agreed with the CPU in float32, else 1. Nothing is sent anywhere.
"""

_COLUMNS = (
    "device",
    "form",
    "result",
    "load s",
    "first token ms",
    "ms a token",
    "tokens",
    "text",
    "logits",
    "allowed",
)
_LEGEND = """Reference: float32. tokens: how often the likeliest token is the reference's, each after the same past.
text: how many tokens, generated without help, are the same before the first that is not; rounding may part two texts
where two tokens are nearly as likely. logits: the largest difference; up to `allowed` it is taken for rounding."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--model", "-m", metavar="PATH", help="model folder or .gguf file (default: the bundled storyteller)"
    )
    parser.add_argument(
        "--device",
        action="append",
        default=[],
        help="OpenVINO device, or several as in NPU,GPU; repeatable (default: all that are found)",
    )
    parser.add_argument(
        "--form",
        action="append",
        default=[],
        choices=[form for form in get_args(Form) if form != "auto"],
        help="how the model runs; repeatable (default: all that make sense on the device)",
    )
    parser.add_argument(
        "--device-config",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="OpenVINO property for compiling, or for one device, as in NPU:NPU_TURBO=YES; may be given several times",
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=600, metavar="S", help="seconds that each may take (default: 600)"
    )
    parser.add_argument(
        "--output",
        default="ovgen-doctor",
        metavar="NAME",
        help="write the report to NAME.txt and NAME.json (default: ovgen-doctor)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the text")


def run(options: argparse.Namespace) -> int:
    """Examine, print the report, and write it to files."""
    from ovgen.doctor import examine  # brings the engine with it

    files = [Path(f"{options.output}.{kind}") for kind in ("txt", "json")]
    if not files[0].parent.is_dir():
        raise ConfigError(f"--output {options.output}: there is no folder {files[0].parent}")
    every = any(text.upper() == "AUTO" for text in options.device)
    devices = [] if every else list(dict.fromkeys(name for text in options.device for name in device_order(text)))
    report = examine(
        Path(options.model or bundled_model()),
        devices,
        options.form,
        parse_properties(options.device_config),
        timeout=options.timeout,
        progress=lambda text: print(text, file=sys.stderr, flush=True),
    )
    record, text = report.record(), "\n".join(_text(report)) + "\n"
    print(to_json(record) if options.json else text, end="\n" if options.json else "")
    files[0].write_text(text, encoding="utf-8")
    files[1].write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"written to {files[0]} and {files[1]}", file=sys.stderr)
    return 0 if report.healthy else 1


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError
    return seconds


def _text(report: Report) -> Iterator[str]:
    """The report for people, line by line."""
    amiss: dict[tuple[str, str | None], list[str]] = {}
    for check in (report.reference, *report.checks):
        if check.status != "agrees":
            amiss.setdefault((check.device, check.reason), []).append(check.form)
    yield "Everything ran and agreed with the CPU." if report.healthy else "Not everything is well: see below."
    yield "\nMachine"
    yield from _pairs(report.machine)
    for device, facts in report.devices.items():
        yield f"\n{device}"
        yield from _pairs(facts)
    if report.trouble:
        yield f"\nDevices cannot be listed: {report.trouble}"
    for kind, advice in report.missing.items():
        yield f"\nOpenVINO finds no {kind}, which does not matter if the machine has none. {advice}".rstrip()
    prompt = f", prompt of {report.reference.prompt_tokens} tokens" if report.reference.prompt_tokens else ""
    yield f"\nModel {report.model['name']} ({report.model['digest'][:16]}){prompt}"
    reference = _row(report.reference, "reference" if report.reference.status == "agrees" else "failed")
    yield from table([_COLUMNS, reference, *(_row(check, check.status) for check in report.checks)], "<")
    yield _LEGEND
    for (device, reason), forms in amiss.items():
        yield f"\n{device}, {', '.join(forms)}: {reason}"
    if report.findings:
        yield f"\nWhat NPUs may not take in the static form of this model: {report.findings}"


def _pairs(facts: Mapping[str, Any]) -> Iterator[str]:
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        yield f"  {name:<{width}}  {', '.join(map(str, value)) if isinstance(value, list) else value}"


def _row(check: Check, result: str) -> tuple[str, ...]:
    return (
        check.device,
        check.form,
        result,
        number(check.load_time, 1, 2),
        number(check.time_to_first_token, 1000, 1),
        number(check.time_per_token, 1000, 2),
        _share(check.tokens_equal, check.tokens),
        _share(check.text_equal, check.tokens),
        number(check.difference, 1, 4),
        number(check.allowed, 1, 4),
    )


def _share(part: int | None, whole: int | None) -> str:
    return "-" if whole is None else f"{part} of {whole}"
