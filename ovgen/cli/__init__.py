"""The ``ovgen`` command."""

from __future__ import annotations

import argparse
import io
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from ovgen import env
from ovgen.errors import OvgenError

__all__ = ["main"]

_COMMANDS = ("generate", "chat", "bench", "perplexity", "convert", "config", "devices", "doctor", "kernels")
_EXAMPLE = """examples:
  ovgen generate "Once upon a time"
  ovgen chat --model path/to/model
  ovgen devices
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status: 0, 1 for an error that was reported, 130 for Ctrl-C."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):  # Windows reads and writes in a code page that lacks much
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="strict" if stream is sys.stdin else "replace")
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output, `head` for one, has gone
        sys.stderr.close()
        return 1
    except (OvgenError, OSError, UnicodeError) as error:
        print(f"ovgen: error: {error}", file=sys.stderr)
        return 1


def _run(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="ovgen",
        description="Text generation straight on OpenVINO Runtime.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ovgen {version('ovgen')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in _COMMANDS:
        # Imported here, not above: it takes half a second, in which Ctrl-C shall end the program quietly too.
        module = import_module(f"ovgen.cli.{name}")
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog=module.EXAMPLE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=env.log_level())
    if getattr(options, "verbose", False):
        logger = logging.getLogger("ovgen")
        logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))
    return int(options.run(options))
