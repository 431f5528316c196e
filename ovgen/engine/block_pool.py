"""Which blocks of the KV cache belong to whom. Numbers only: no device, no tensors."""

from __future__ import annotations

from collections.abc import Sequence

from ovgen.errors import CacheFullError

__all__ = ["BlockPool", "blocks_for"]

_FIRST = 16  # blocks of a pool that grows from nothing


def blocks_for(tokens: int, block_size: int) -> int:
    """How many blocks hold this many tokens."""
    return -(-tokens // block_size)


class BlockPool:
    """Hands out block ids and counts their owners; grows by doubling up to ``limit``.

    Freed blocks are handed out again last in, first out, while their memory is still warm in the processor's caches.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._owners: list[int] = []  # by block id: how many sequences use it
        self._free: list[int] = []

    @property
    def size(self) -> int:
        """Blocks that exist so far; the cache must have room for this many."""
        return len(self._owners)

    @property
    def free(self) -> int:
        """Blocks that can still be handed out, those that growing would bring included."""
        return len(self._free) + self.limit - self.size

    @property
    def used(self) -> int:
        """Blocks that have an owner."""
        return self.size - len(self._free)

    def allocate(self) -> int:
        """A block with one owner.

        Raises:
            CacheFullError: all ``limit`` blocks are in use.
        """
        if not self._free:
            self._grow()
        block = self._free.pop()
        self._owners[block] = 1
        return block

    def share(self, blocks: Sequence[int]) -> None:
        """Each of ``blocks`` has one owner more."""
        for block in blocks:
            assert self._owners[block] > 0, f"block {block} is free"
            self._owners[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """Each of ``blocks`` has one owner less; those without any are free."""
        for block in reversed(blocks):
            assert self._owners[block] > 0, f"block {block} is free already"
            self._owners[block] -= 1
            if not self._owners[block]:
                self._free.append(block)

    def is_shared(self, block: int) -> bool:
        """Whether writing to the block would change somebody else's cache."""
        return self._owners[block] > 1

    def check(self) -> None:
        """Assert what must always hold: a block is free exactly when nobody owns it."""
        assert sorted(self._free) == [block for block, owners in enumerate(self._owners) if not owners]
        assert self.size <= self.limit

    def _grow(self) -> None:
        more = min(max(self.size, _FIRST), self.limit - self.size)
        if more <= 0:
            raise CacheFullError(
                f"all {self.limit} blocks of the KV cache are in use: raise cache_size, or close sessions"
            )
        # descending, so that the lowest ids go out first
        self._free += range(self.size + more - 1, self.size - 1, -1)
        self._owners += [0] * more
