"""How the tests of readers damage files, and how many cases they try."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

from ovgen.errors import ModelError

__all__ = ["CASES", "fuzz", "mutants", "reads_or_raises"]

_MEMORY = 64 << 20  # bytes that reading a file of some kilobytes may take at most

CASES = 10 * settings().max_examples
"""Cases a test of mutations tries; ``--hypothesis-profile fuzz`` makes it twenty times as many."""

fuzz = settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""For tests in which hypothesis invents the file."""

# What a reader may trip over: none, one, sign bits, the ends of 32 and 64 bits, more than any file has.
_NUMBERS = (0, 1, -1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 10**12)


def mutants(raw: bytes, cases: int, head: int | None = None) -> Iterator[bytes]:
    """Damaged copies of a file, the same on every run: bytes changed, removed, repeated, cut off, or made a number
    that lies.

    Args:
        raw: the file.
        cases: how many.
        head: damage is done to this many bytes at its beginning; None for anywhere.
    """
    rng = random.Random(0)
    for _ in range(cases):
        damaged = bytearray(raw)
        rng.choice(_DAMAGES)(damaged, rng, min(head or len(raw), len(raw)))
        yield bytes(damaged)


def reads_or_raises(read: Callable[[Path], object], path: Path) -> None:
    """Reading ends well or with one of our errors that names the file, and takes no memory to speak of."""
    message = path.name
    tracemalloc.start()
    try:
        read(path)
    except ModelError as error:
        message = str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert path.name in message
    assert peak < _MEMORY


def _change(data: bytearray, rng: random.Random, end: int) -> None:
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(end)] = rng.randrange(256)


def _remove(data: bytearray, rng: random.Random, end: int) -> None:
    begin = rng.randrange(end)
    del data[begin : begin + rng.randint(1, 200)]


def _repeat(data: bytearray, rng: random.Random, end: int) -> None:
    begin, to = rng.randrange(end), rng.randrange(end)
    data[to:to] = data[begin : begin + rng.randint(1, 200)]


def _cut(data: bytearray, rng: random.Random, end: int) -> None:
    del data[rng.randrange(end) :]


def _lie(data: bytearray, rng: random.Random, end: int) -> None:
    """A binary number in place of four or eight bytes."""
    size = rng.choice((4, 8))
    begin = rng.randrange(end)
    data[begin : begin + size] = (rng.choice(_NUMBERS) % 2 ** (8 * size)).to_bytes(size, "little")


def _lie_in_text(data: bytearray, rng: random.Random, end: int) -> None:
    """A decimal number in place of one."""
    begin = rng.randrange(end)
    while begin < end and not chr(data[begin]).isdigit():
        begin += 1
    stop = begin
    while stop < end and chr(data[stop]).isdigit():
        stop += 1
    data[begin:stop] = str(rng.choice(_NUMBERS)).encode()


_DAMAGES: tuple[Any, ...] = (_change, _remove, _repeat, _cut, _lie, _lie_in_text)
