"""What people see on the terminal and programs do not: stderr, and only if somebody sits there."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["status"]

_FIRST, _EVERY = 0.3, 0.1  # seconds: short work shows nothing; the clock then ticks in tenths


@contextmanager
def status(text: str) -> Iterator[None]:
    """Show that something long goes on, with the seconds so far; the line is gone afterwards.

    OpenVINO does not tell how far reading and compiling a model are, so there is nothing to draw a bar from.
    """
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    clock = threading.Thread(target=_tick, args=(text, done), daemon=True)
    clock.start()
    try:
        yield
    finally:
        done.set()
        clock.join()


def _tick(text: str, done: threading.Event) -> None:
    begin = time.monotonic()
    line = ""
    while not done.wait(_EVERY if line else _FIRST):
        line = f"{text} ... {time.monotonic() - begin:.1f} s"
        print(f"\r{line}", end="", file=sys.stderr, flush=True)
    if line:
        print(f"\r{' ' * len(line)}\r", end="", file=sys.stderr, flush=True)
