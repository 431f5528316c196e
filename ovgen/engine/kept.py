"""Sequences that stay cached when their requests have ended, where no block serves two. Numbers only: no device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ovgen.engine.block_pool import BlockPool, blocks_for
from ovgen.engine.sequence import KVSequence

__all__ = ["Fork", "KeptSequences", "common_prefix"]

_MOST = 16  # the stateful form holds an infer request for each


class Fork(NamedTuple):
    """Sequence ``target`` begins with the first ``length`` tokens of ``source``; of itself, it is only cut there."""

    source: int
    target: int
    length: int


class KeptSequences:
    """What new requests can begin with; the longest unused goes when its blocks or its place are needed.

    For runners that keep the cache by sequence: a copy takes blocks of its own, as the rows are really copied.

    Attributes:
        forgotten: numbers of sequences that the runner is to release, once the forks that were asked for are done.
    """

    def __init__(self, pool: BlockPool, block_size: int) -> None:
        self._pool = pool
        self._block_size = block_size
        self._kept: list[KVSequence] = []  # used longest ago first
        self.forgotten: list[int] = []

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, sequence: KVSequence) -> None:
        """Take over a sequence whose request has ended; one that is too short to be worth it is forgotten."""
        if sequence.computed < self._block_size:
            self._forget(sequence)
            return
        sequence.trim(self._pool, self._block_size, sequence.computed)
        self._kept.append(sequence)
        if len(self._kept) > _MOST:
            self._forget(self._kept.pop(0))

    def begin(self, sequence: KVSequence, running: Iterable[KVSequence] = ()) -> Fork | None:
        """Let a sequence without blocks begin with the longest beginning that is cached, if that fills a block.

        A kept sequence that is used up whole, or that there is no room to copy, is taken over, number and all.
        At least one token is left to compute, for its logits.

        Args:
            sequence: gets blocks, ``computed``, and perhaps another number.
            running: sequences that can be copied as well; no step in flight writes to them.
        """
        assert not sequence.blocks
        length, source = self._longest(sequence, running)
        if source is None:
            return None
        kept = source in self._kept
        if kept:
            self._kept.remove(source)
        if (kept and length == source.computed) or not self.make_room(blocks_for(length, self._block_size)):
            if not kept:
                return None
            before = source.computed
            source.trim(self._pool, self._block_size, length)
            sequence.number, sequence.blocks, sequence.computed = source.number, source.blocks, length
            return Fork(source.number, source.number, length) if length < before else None
        if kept:
            self._kept.append(source)  # used last
        sequence.reserve(self._pool, self._block_size, length)
        sequence.computed = length
        return Fork(source.number, sequence.number, length)

    def make_room(self, blocks: int) -> bool:
        """Forget kept sequences until so many blocks are free; False: there are too few without any of them."""
        while self._pool.free < blocks and self._kept:
            self._forget(self._kept.pop(0))
        return self._pool.free >= blocks

    def clear(self) -> None:
        """Forget all of them."""
        while self._kept:
            self._forget(self._kept.pop())

    def _longest(self, sequence: KVSequence, running: Iterable[KVSequence]) -> tuple[int, KVSequence | None]:
        """What shares most with a sequence and how much; a kept one if it shares as much, the one used last."""
        best: tuple[int, KVSequence | None] = self._block_size - 1, None
        for other in (*reversed(self._kept), *running):
            most = min(other.computed, len(sequence.tokens) - 1)
            if other.adapter == sequence.adapter and most > best[0]:
                length = common_prefix(other.tokens, sequence.tokens, most)
                if length > best[0]:
                    best = length, other
        return best

    def _forget(self, sequence: KVSequence) -> None:
        sequence.release(self._pool)
        self.forgotten.append(sequence.number)


def common_prefix(first: Sequence[int], second: Sequence[int], most: int) -> int:
    """How many of the first ``most`` tokens are the same in both, which have as many at least; compares slices."""
    same, differ = 0, most + 1  # so many are the same, so many are not
    while differ - same > 1:
        middle = (same + differ) // 2
        if first[same:middle] == second[same:middle]:
            same = middle
        else:
            differ = middle
    return same
