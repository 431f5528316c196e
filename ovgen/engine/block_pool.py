"""Which blocks of the KV cache belong to whom. Numbers only: no device, no tensors."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from ovgen.errors import CacheFullError

__all__ = ["BlockPool", "Prefix", "blocks_for"]

_FIRST = 16  # blocks of a pool that grows from nothing


def blocks_for(tokens: int, block_size: int) -> int:
    """How many blocks hold this many tokens."""
    return -(-tokens // block_size)


_Key = tuple[int, tuple[int, ...]]  # the number of the prefix before a block, and the block's tokens


@dataclass(frozen=True, slots=True)
class Prefix:
    """The tokens of a sequence from its beginning to the end of a block whose contents are kept.

    Attributes:
        number: stands for all these tokens, not only for the block's.
        block: holds the last of them.
    """

    number: int
    block: int


class BlockPool:
    """Hands out block ids and counts their owners; grows by doubling up to ``limit``.

    Freed blocks are handed out again last in, first out, while their memory is still warm in the processor's caches.
    Those whose contents are kept come after them, and after what growing brings, the longest unused first: a sequence
    that begins with the same tokens can have them. Prefixes are told apart by the tokens themselves, so that no two
    can be taken for each other (vLLM compares hashes of the same: https://docs.vllm.ai/en/latest/design/prefix_caching).
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._owners: list[int] = []  # by block id: how many sequences use it
        self._free: OrderedDict[int, None] = OrderedDict()  # in the order in which they are handed out
        self._prefixes: dict[_Key, Prefix] = {}
        self._kept: dict[int, _Key] = {}  # by block id
        self._numbers = itertools.count(1)

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
        first = next(iter(self._free), None)
        if first is None or (first in self._kept and self.size < self.limit):
            self._grow()
        block, _ = self._free.popitem(last=False)
        self.forget(block)
        self._owners[block] = 1
        return block

    def share(self, blocks: Sequence[int]) -> None:
        """Each of ``blocks`` has one owner more; they have owners, or their contents are kept."""
        for block in blocks:
            assert self._owners[block] > 0 or block in self._kept, f"block {block} is free"
            self._free.pop(block, None)
            self._owners[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """Each of ``blocks`` has one owner less; those without any are free."""
        for block in reversed(blocks):
            assert self._owners[block] > 0, f"block {block} is free already"
            self._owners[block] -= 1
            if not self._owners[block]:
                self._free[block] = None
                if block not in self._kept:
                    self._free.move_to_end(block, last=False)

    def keep(self, block: int, before: int, tokens: tuple[int, ...]) -> int:
        """Keep the contents of a block that is full until its memory is needed; the number of the prefix it ends.

        Args:
            block: has an owner. Where another block holds the same already, this one is not kept.
            before: the number of the prefix that ends where the block begins; 0 or below where there is none.
            tokens: those of the block.
        """
        prefix = self._prefixes.get((before, tokens))
        if prefix is None:
            prefix = self._prefixes[before, tokens] = Prefix(next(self._numbers), block)
            self._kept[block] = before, tokens
        return prefix.number

    def find(self, before: int, tokens: tuple[int, ...]) -> Prefix | None:
        """The prefix that `keep` was told of in the same words, if its block still holds it."""
        return self._prefixes.get((before, tokens))

    def forget(self, block: int) -> None:
        """The block is to be written to: what it held is not kept any more."""
        key = self._kept.pop(block, None)
        if key is not None:
            del self._prefixes[key]

    def are_private(self, blocks: Sequence[int]) -> bool:
        """Whether the blocks can be written to as they are: each has one owner, and its contents are not kept."""
        for block in blocks:  # noqa: SIM110 -- asked for every token, and `all` takes twice as long
            if self._owners[block] > 1 or block in self._kept:
                return False
        return True

    def is_shared(self, block: int) -> bool:
        """Whether writing to the block would change somebody else's cache."""
        return self._owners[block] > 1

    def check(self) -> None:
        """Assert what must always hold: a block is free exactly when nobody owns it, and what is kept goes last."""
        assert sorted(self._free) == [block for block, owners in enumerate(self._owners) if not owners]
        kept = [block in self._kept for block in self._free]
        assert kept == sorted(kept)
        assert {prefix.block: key for key, prefix in self._prefixes.items()} == self._kept
        assert self.size <= self.limit

    def _grow(self) -> None:
        more = min(max(self.size, _FIRST), self.limit - self.size)
        if more <= 0:
            raise CacheFullError(
                f"all {self.limit} blocks of the KV cache are in use: raise cache_size, or close sessions"
            )
        for block in reversed(range(self.size, self.size + more)):  # the lowest id goes out first
            self._free[block] = None
            self._free.move_to_end(block, last=False)
        self._owners += [0] * more
