"""Slots and what is kept aside, without a model: every row is a number that says where it belongs."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from numpy.typing import NDArray

from ovgen.runtime.slots import Rows, Slots

HEADS, DIM = 2, 3


def memory(count: int, context: int) -> list[NDArray[np.float16]]:
    """Keys and values of one layer, ``(slots, heads, context, d)``."""
    return [np.full((count, HEADS, context, dim), -1, np.float16) for dim in (DIM, DIM + 1)]


def rows(first: int, count: int) -> Rows:
    """New rows ``first``, ``first + 1``, ...: each of its number."""
    numbers = np.arange(first, first + count, dtype=np.float16)[None, :, None]
    return [np.broadcast_to(numbers, (HEADS, count, dim)).copy() for dim in (DIM, DIM + 1)]


def content(slots: Slots, sequence: int) -> list[int]:
    """The numbers in a sequence's rows, all heads and layers agreeing."""
    read = slots.read(sequence)
    for array in read:
        assert (array == array[:1, :, :1]).all()
    assert (read[0][0, :, 0] == read[1][0, :, 0]).all()
    return [int(number) for number in read[0][0, :, 0]]


def compute(slots: Slots, sequence: int, past: int, count: int, first: int, beside: set[int] | None = None) -> int:
    """One step of a sequence, and the slot that it took."""
    slot = slots.admit(sequence, past, beside or {sequence})
    slots.append(sequence, rows(first, count), count)
    return slot


@pytest.fixture
def slots() -> Slots:
    made = Slots(2)
    made.move(memory(2, 8))
    return made


def test_the_sequence_used_longest_ago_leaves_first(slots: Slots) -> None:
    assert compute(slots, 0, 0, 2, 10) == 0
    assert compute(slots, 1, 0, 2, 20) == 1
    assert compute(slots, 0, 2, 1, 12) == 0  # now 1 was used longest ago
    assert compute(slots, 2, 0, 1, 30) == 1
    assert [content(slots, number) for number in range(3)] == [[10, 11, 12], [20, 21], [30]]
    assert compute(slots, 1, 2, 1, 22) == 0
    assert [content(slots, number) for number in range(3)] == [[10, 11, 12], [20, 21, 22], [30]]


def test_one_that_is_beside_it_in_the_step_stays(slots: Slots) -> None:
    compute(slots, 0, 0, 1, 10)
    compute(slots, 1, 0, 1, 20)
    assert compute(slots, 2, 0, 1, 30, beside={0, 2}) == 1
    assert slots.admit(0, 1, {0, 2}) == 0


def test_a_sequence_that_returns_finds_its_rows_in_the_memory(slots: Slots) -> None:
    for number in range(3):
        compute(slots, number, 0, 3, 10 * number)
    slot = slots.admit(0, 2, {0})  # only two of its three are its past
    for array in slots.arrays:
        assert array[slot, 0, :2, 0].tolist() == [0, 1]
    assert content(slots, 0) == [0, 1]


def test_only_the_wanted_of_new_rows_are_kept(slots: Slots) -> None:
    slots.admit(0, 0, {0})
    slots.append(0, rows(1, 4), 2)
    assert content(slots, 0) == [1, 2]
    assert (slots.arrays[0][0, :, 2:] == -1).all()
    assert (slots.arrays[0][1] == -1).all()


def test_what_is_read_or_forked_is_a_copy(slots: Slots) -> None:
    compute(slots, 0, 0, 3, 1)
    before = slots.read(0)
    slots.fork(0, 1)
    slots.admit(0, 1, {0})
    slots.append(0, rows(50, 2), 2)
    assert before[0][0, :, 0].tolist() == [1, 2, 3]
    assert [content(slots, 0), content(slots, 1)] == [[1, 50, 51], [1, 2, 3]]
    slots.fork(1, 2)  # of one that has no slot
    slots.trim(1, 1)
    assert [content(slots, 1), content(slots, 2)] == [[1], [1, 2, 3]]
    slots.fork(99, 3)  # of one that has nothing
    with pytest.raises(AssertionError):
        slots.admit(3, 1, {3})


def test_trimming_never_lengthens(slots: Slots) -> None:
    compute(slots, 0, 0, 3, 1)
    slots.trim(0, 2)
    slots.trim(0, 5)
    assert content(slots, 0) == [1, 2]
    slots.trim(99, 0)
    with pytest.raises(AssertionError, match="fewer rows than its past"):
        slots.admit(0, 3, {0})


def test_a_released_sequence_leaves_slot_and_rows(slots: Slots) -> None:
    for number in range(3):
        compute(slots, number, 0, 2, 10 * number)
    slots.release(0)  # aside
    slots.release(1)
    slots.release(99)
    assert slots.resident
    slots.append(1, rows(7, 1), 1)  # what was in the air is dropped
    assert compute(slots, 0, 0, 1, 5) == 1  # anew, in the slot of 1
    assert content(slots, 0) == [5]
    slots.release(0)
    slots.release(2)
    assert not slots.resident


def test_releasing_frees_what_is_aside(slots: Slots) -> None:
    kept = rows(1, 3)
    first = weakref.ref(kept[0])
    slots.put(0, kept)
    del kept
    assert first() is not None
    slots.release(0)
    assert first() is None


def test_the_rows_move_to_longer_memory(slots: Slots) -> None:
    compute(slots, 0, 0, 3, 1)
    compute(slots, 1, 0, 8, 10)
    longer = memory(2, 16)
    slots.move(longer)
    assert [content(slots, 0), content(slots, 1)] == [[1, 2, 3], list(range(10, 18))]
    assert slots.arrays is longer
    assert (longer[0][0, :, 3:] == -1).all()
    compute(slots, 1, 8, 4, 18)
    assert content(slots, 1) == list(range(10, 22))


def test_bytes_become_rows_again(slots: Slots) -> None:
    compute(slots, 0, 0, 3, 1)
    data = [array.view(np.uint8).reshape(-1) for array in slots.read(0)]
    other = Slots(1)
    other.move(memory(1, 32))
    other.put_bytes(4, data, 3)
    assert content(other, 4) == [1, 2, 3]
    compute(other, 4, 3, 1, 4)
    assert content(other, 4) == [1, 2, 3, 4]
