"""Sequences that stay cached when their requests have ended, where no block serves two. Numbers only: no device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ovgen.engine.block_pool import BlockPool, blocks_for
from ovgen.engine.sequence import KVSequence

__all__ = ["KeptSequences", "common_prefix"]

_MOST = 16  # the stateful form holds an infer request for each


class KeptSequences:
    """What new requests can begin with; the longest unused goes when its blocks or its place are needed.

    For runners that keep the cache by sequence: a copy takes blocks of its own, as the rows are really copied.

    Args:
        pool: has the blocks.
        block_size: tokens in each.
        copy: ``f(source, target, length)`` lets a sequence begin with the first ``length`` tokens of another; one that
            is its own source is only cut there.
        release: has the runner forget a sequence.
    """

    def __init__(
        self,
        pool: BlockPool,
        block_size: int,
        copy: Callable[[int, int, int], None],
        release: Callable[[int], None],
    ) -> None:
        self._pool = pool
        self._block_size = block_size
        self._copy = copy
        self._release = release
        self._kept: list[KVSequence] = []  # used longest ago first

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, sequence: KVSequence) -> None:
        """Take a sequence's blocks over when its request has ended; a short one is not worth it and forgotten.

        One without blocks is ignored, so that a request may end twice.
        """
        if not sequence.blocks:
            return
        cached = KVSequence(
            list(sequence.tokens), sequence.computed, sequence.blocks, adapter=sequence.adapter, number=sequence.number
        )
        sequence.lose()
        if cached.computed < self._block_size:
            self.drop(cached)
            return
        cached.trim(self._pool, self._block_size, cached.computed)
        self._kept.append(cached)
        if len(self._kept) > _MOST:
            self.drop(self._kept.pop(0))

    def begin(self, sequence: KVSequence) -> None:
        """Let a sequence without blocks begin with the longest beginning that is cached, if that fills a block.

        A kept sequence that is used up whole, or that there is no room to copy, is taken over, number and all.
        At least one token is left to compute, for its logits.

        Args:
            sequence: gets blocks, ``computed``, and perhaps another number.
        """
        assert not sequence.blocks
        length, source = self._longest(sequence)
        if source is None:
            return
        self._kept.remove(source)
        if length == source.computed or not self.make_room(blocks_for(length, self._block_size)):
            source.trim(self._pool, self._block_size, length)
            sequence.number, sequence.blocks = source.number, source.blocks
        else:
            self._kept.append(source)  # used last
            sequence.reserve(self._pool, self._block_size, length)
        sequence.computed = length
        try:
            self._copy(source.number, sequence.number, length)  # or cut: a step in flight may have added rows
        except BaseException:
            self.drop(sequence)
            raise

    def drop(self, sequence: KVSequence) -> None:
        """Forget a sequence: one that was kept, or one that found no room to go on from where it began."""
        sequence.release(self._pool)
        self._release(sequence.number)

    def make_room(self, blocks: int) -> bool:
        """Forget kept sequences until so many blocks are free; False: there are too few without any of them."""
        while self._pool.free < blocks and self._kept:
            self.drop(self._kept.pop(0))
        return self._pool.free >= blocks

    def clear(self) -> None:
        """Forget all of them."""
        while self._kept:
            self.drop(self._kept.pop())

    def _longest(self, sequence: KVSequence) -> tuple[int, KVSequence | None]:
        """What shares most with a sequence and how much; if several share as much, the one used last."""
        best: tuple[int, KVSequence | None] = self._block_size - 1, None
        for other in reversed(self._kept):
            most = min(other.computed, len(sequence.tokens) - 1)
            if other.adapter == sequence.adapter and most > best[0]:
                length = common_prefix(other.tokens, sequence.tokens, most)
                if length > best[0]:
                    best = length, other
        return best


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
