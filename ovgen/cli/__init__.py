"""The ``ovgen`` command."""

from __future__ import annotations

import argparse
import io
import logging
import sys
from collections.abc import Sequence

from ovgen import env
from ovgen.cli import chat, convert, devices, generate
from ovgen.errors import OvgenError

__all__ = ["main"]

_COMMANDS = {"generate": generate, "chat": chat, "convert": convert, "devices": devices}
_EXAMPLE = """examples:
  ovgen generate "Once upon a time"
  ovgen chat --model path/to/model
  ovgen devices
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status: 0, 1 for an error that was reported, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="ovgen",
        description="Text generation straight on OpenVINO Runtime.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog=module.EXAMPLE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # Windows writes files in a code page that lacks most characters
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        logging.basicConfig(format="%(levelname)s: %(message)s", level=env.log_level())
        return int(_COMMANDS[options.command].run(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output, `head` for one, has gone
        sys.stderr.close()
        return 1
    except (OvgenError, OSError, UnicodeError) as error:
        print(f"ovgen: error: {error}", file=sys.stderr)
        return 1
