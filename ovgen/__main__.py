"""The ``ovgen`` command, also as ``python -m ovgen``."""

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line; returns the exit status. Ctrl-C is quiet from here on, while modules are imported, too."""
    try:
        from ovgen.cli import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
