"""Where sequences' keys and values lie while a device works on a fixed number of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rows", "Slots"]

Rows: TypeAlias = "list[NDArray[Any]]"
"""Keys and values of one sequence, layer by layer: ``(kv_heads, tokens, d)`` each."""


class Slots:
    """The cache of the static form: rows of a few sequences in their slots, of all others aside.

    What lies in a slot behind the rows of its sequence is zero: attention multiplies it by zero, and of infinity that
    makes NaN.

    Attributes:
        arrays: keys and values, layer by layer, ``(slots, kv_heads, context, d)``: memory of whoever called `move`.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.arrays: list[NDArray[Any]] = []
        self._resident: dict[int, int] = {}  # sequence -> slot; used longest ago first
        self._aside: dict[int, Rows] = {}
        self._lengths: dict[int, int] = {}  # by sequence: how many of its rows are filled

    @property
    def resident(self) -> Set[int]:
        """The sequences that are in slots."""
        return self._resident.keys()

    @property
    def nbytes(self) -> int:
        """Bytes of all slots, and of what lies aside."""
        return sum(array.nbytes for rows in (self.arrays, *self._aside.values()) for array in rows)

    def move(self, arrays: list[NDArray[Any]]) -> None:
        """Go on in other memory, all zeros, whose context is no shorter than what is in the slots; that stays."""
        for number, slot in self._resident.items():
            length = self._lengths[number]
            for old, new in zip(self.arrays, arrays, strict=True):
                new[slot, :, :length] = old[slot, :, :length]
        self.arrays = arrays

    def admit(self, sequence: int, past: int, beside: Collection[int]) -> int:
        """The slot of a sequence with ``past`` rows; one that is not ``beside`` it in the step may have to leave."""
        assert past <= self._lengths.setdefault(sequence, 0), "the sequence has fewer rows than its past"
        self.trim(sequence, past)
        if sequence in self._resident:
            self._resident[sequence] = self._resident.pop(sequence)  # used last
            return self._resident[sequence]
        free = set(range(self._count)) - set(self._resident.values())
        if not free:
            leaving = next(number for number in self._resident if number not in beside)
            free.add(self.put_aside(leaving))
        slot = self._resident[sequence] = min(free)
        for array, rows in zip(self.arrays, self._aside.pop(sequence, ()), strict=False):
            array[slot, :, :past] = rows[:, :past]
        return slot

    def put_aside(self, sequence: int) -> int:
        """Keep the rows of a sequence elsewhere; the slot that is free then."""
        self._aside[sequence] = self.read(sequence)
        self._clear(sequence, 0)
        return self._resident.pop(sequence)

    def append(self, sequence: int, rows: Rows, count: int) -> None:
        """Write the first ``count`` new rows behind those of a sequence, unless it has been released meanwhile."""
        slot = self._resident.get(sequence)
        if slot is None:
            return
        past = self._lengths[sequence]
        for array, new in zip(self.arrays, rows, strict=True):
            array[slot, :, past : past + count] = new[:, :count]
        self._lengths[sequence] = past + count

    def read(self, sequence: int) -> Rows:
        """A copy of a sequence's rows."""
        length = self._lengths[sequence]
        if sequence in self._resident:
            slot = self._resident[sequence]
            return [array[slot, :, :length].copy() for array in self.arrays]
        return [rows[:, :length].copy() for rows in self._aside[sequence]]

    def put(self, sequence: int, rows: Rows) -> None:
        """Give a new sequence its rows, which become the cache's own; a slot follows when it is computed."""
        self._aside[sequence] = rows
        self._lengths[sequence] = rows[0].shape[1]

    def fork(self, source: int, target: int) -> None:
        """Copy all rows to a new sequence."""
        if source in self._lengths:
            self.put(target, self.read(source))

    def trim(self, sequence: int, length: int) -> None:
        """Keep the first ``length`` rows."""
        if length < self._lengths.get(sequence, 0):
            self._clear(sequence, length)
            self._lengths[sequence] = length

    def release(self, sequence: int) -> None:
        """Forget a sequence; unknown ones are ignored."""
        self._clear(sequence, 0)
        for held in (self._resident, self._aside, self._lengths):
            held.pop(sequence, None)

    def put_bytes(self, sequence: int, data: Sequence[NDArray[np.uint8]], length: int) -> None:
        """`put` rows that come as bytes.

        Raises:
            ValueError: they are not ``length`` rows of finite numbers.
        """
        rows = []
        for array, raw in zip(self.arrays, data, strict=True):
            _, heads, _, dim = array.shape
            if raw.dtype != np.uint8:
                raise ValueError(f"bytes are needed, not {raw.dtype}")
            rows.append(raw.view(array.dtype).reshape(heads, length, dim))
            if not np.isfinite(rows[-1]).all():
                raise ValueError("the cache holds numbers that are not finite")
        self.put(sequence, rows)

    def _clear(self, sequence: int, begin: int) -> None:
        """Zero the rows of a sequence from ``begin`` on, if it is in a slot."""
        slot = self._resident.get(sequence)
        if slot is not None:
            for array in self.arrays:
                array[slot, :, begin : self._lengths[sequence]] = 0
