"""``ovgen convert``: write a model as an OpenVINO IR folder."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ovgen.cli.options import add_compression_options, compression, to_json
from ovgen.cli.tables import megabytes
from ovgen.conversion import Conversion
from ovgen.errors import ConfigError

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "write a model as an OpenVINO IR folder, as openvino.genai and optimum-intel read it"
EXAMPLE = """examples:
  ovgen convert path/to/hf-folder path/to/ir-folder
  ovgen convert path/to/hf-folder path/to/int4-folder --weights int4 --group-size 64
  ovgen convert model.gguf path/to/ir-folder --force
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("source", help="model: a Hugging Face folder with safetensors, an IR folder, or a .gguf file")
    parser.add_argument("destination", help="folder to write: a new or an empty one")
    parser.add_argument("--force", action="store_true", help="replace the destination if it is an IR folder")
    parser.add_argument("--json", action="store_true", help="tell folder, sizes and time as a JSON object")
    add_compression_options(parser)
    parser.add_argument("--adapter", metavar="FOLDER", help="LoRA adapter, as PEFT saves it, to add to the weights")
    parser.add_argument("--calibration", metavar="FILE", help="text of the kind the model will see, for int4")


def run(options: argparse.Namespace) -> int:
    """Convert, and say where the result is."""
    begin = time.perf_counter()
    text = None if options.calibration is None else _read(options.calibration)
    conversion = Conversion(
        options.source,
        options.destination,
        compression(options),
        calibration=text,
        adapter=options.adapter,
        force=options.force,
    )
    estimate = conversion.estimated_bytes
    if not options.json:
        print(f"{options.source} -> {options.destination}: about {megabytes(estimate)}", file=sys.stderr)
        if text is not None:  # there may be no terminal for a progress bar
            print(f"calibrating with {options.calibration}, which takes a while", file=sys.stderr, flush=True)
    try:
        with _ended_by_signals():
            folder = conversion.run(progress=sys.stderr.isatty())
    except (KeyboardInterrupt, SystemExit):
        print("ovgen: interrupted; nothing was written", file=sys.stderr)
        raise
    size = sum(file.stat().st_size for file in folder.iterdir())
    seconds = time.perf_counter() - begin
    if options.json:
        print(to_json({"folder": str(folder), "bytes": size, "estimated_bytes": estimate, "seconds": seconds}))
    else:
        print(f"{folder}: {megabytes(size)} in {seconds:.1f} s")
    return 0


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the program by an exception, as Ctrl-C does, so that nothing half-written is left."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)  # what a shell reports of a program that a signal has ended

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours = [number for number in map(signal.Signals.__getitem__, names) if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:  # not those that are ignored, by nohup for one
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the calibration text {file}: {error}") from error
