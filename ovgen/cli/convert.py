"""``ovgen convert``: write a model as an OpenVINO IR folder."""

from __future__ import annotations

import argparse

from ovgen.cli.options import to_json
from ovgen.cli.terminal import status
from ovgen.conversion import convert

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "write a model as an OpenVINO IR folder, as openvino.genai and optimum-intel read it"
EXAMPLE = """example:
  ovgen convert path/to/hf-folder path/to/ir-folder
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("source", help="model folder: safetensors or IR")
    parser.add_argument("destination", help="folder to write: a new or an empty one")
    parser.add_argument("--json", action="store_true", help="tell folder and size as a JSON object")


def run(options: argparse.Namespace) -> int:
    """Convert, and say where the result is."""
    with status(f"Converting {options.source}"):
        folder = convert(options.source, options.destination)
    size = sum(file.stat().st_size for file in folder.iterdir())
    if options.json:
        print(to_json({"folder": str(folder), "bytes": size}))
    else:
        print(f"{folder}: {size / 1e6:.1f} MB")
    return 0
