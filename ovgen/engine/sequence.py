"""A sequence of tokens and the blocks that hold its keys and values."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from ovgen.engine.block_pool import BlockPool, blocks_for
from ovgen.errors import CacheFullError

__all__ = ["Copy", "KVSequence"]

_numbers = itertools.count()

Copy = tuple[int, int]
"""Block ``source`` is to be copied to block ``target`` before the next step."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class KVSequence:
    """Tokens, how many of them are computed, and the blocks they lie in.

    There is no prefill phase nor decode phase: what is not computed yet is to be computed.

    Attributes:
        tokens: all token ids known so far.
        computed: the first ``computed`` tokens have their keys and values in ``blocks``.
        blocks: block ids in order; ``blocks[i]`` holds tokens ``[i * block_size, (i + 1) * block_size)``.
        prefixes: numbers of the prefixes that the first blocks end, as far as their contents are kept.
        adapter: the LoRA adapter that it goes through; 0: none.
        number: unique in the process; runners that keep a cache of their own know the sequence by it.
    """

    tokens: list[int]
    computed: int = 0
    blocks: list[int] = field(default_factory=list)
    prefixes: list[int] = field(default_factory=list)
    adapter: int = 0
    number: int = field(default_factory=lambda: next(_numbers))

    def reserve(self, pool: BlockPool, block_size: int, length: int) -> list[Copy]:
        """Make sure that tokens ``[computed, length)`` have blocks of their own to be written to.

        Returns the copies that this takes: a shared block is replaced before anything is written into it.

        Raises:
            CacheFullError: too few blocks are free; nothing has changed then.
        """
        first = self.computed // block_size
        if length <= len(self.blocks) * block_size and pool.are_private(self.blocks[first:]):
            return []  # as almost always when a token is added
        shared = [i for i in range(first, len(self.blocks)) if pool.is_shared(self.blocks[i])]
        missing = blocks_for(length, block_size) - len(self.blocks)
        if len(shared) + max(missing, 0) > pool.free:
            raise CacheFullError(
                f"{len(shared) + missing} more blocks of the KV cache are needed and {pool.free} of {pool.limit} are "
                "free: raise cache_size, or close sessions"
            )
        copies = []
        for i in shared:
            copies.append((self.blocks[i], pool.allocate()))
            pool.release([self.blocks[i]])
            self.blocks[i] = copies[-1][1]
        for block in self.blocks[first:]:
            pool.forget(block)
        del self.prefixes[first:]
        self.blocks += [pool.allocate() for _ in range(missing)]
        return copies

    def reuse(self, pool: BlockPool, block_size: int) -> None:
        """Begin with blocks that hold the first tokens already. Nothing is computed yet; the last token will be."""
        assert not self.blocks
        before = self._root
        for i in range(len(self.tokens) // block_size):
            prefix = pool.find(before, self._tokens(i, block_size))
            if prefix is None:
                break
            pool.share([prefix.block])
            self.blocks.append(prefix.block)
            self.prefixes.append(before := prefix.number)
        self.computed = min(len(self.blocks) * block_size, len(self.tokens) - 1)

    def keep(self, pool: BlockPool, block_size: int) -> None:
        """Let others begin with the blocks of this sequence that are full."""
        for i in range(len(self.prefixes), self.computed // block_size):
            before = self.prefixes[-1] if self.prefixes else self._root
            self.prefixes.append(pool.keep(self.blocks[i], before, self._tokens(i, block_size)))

    @property
    def _root(self) -> int:
        """Stands for the empty prefix; what an adapter has computed serves none but its own sequences."""
        return -self.adapter

    def _tokens(self, index: int, block_size: int) -> tuple[int, ...]:
        """Those of a full block."""
        return tuple(self.tokens[index * block_size : (index + 1) * block_size])

    def trim(self, pool: BlockPool, block_size: int, length: int) -> None:
        """Keep the first ``length`` tokens; blocks without a computed token are released."""
        del self.tokens[length:]
        self.computed = min(self.computed, length)
        keep = blocks_for(self.computed, block_size)
        pool.release(self.blocks[keep:])
        del self.blocks[keep:]
        del self.prefixes[self.computed // block_size :]

    def fork(self, pool: BlockPool) -> KVSequence:
        """A twin that shares all blocks until one of the two writes."""
        pool.share(self.blocks)
        return KVSequence(list(self.tokens), self.computed, list(self.blocks), list(self.prefixes), self.adapter)

    def release(self, pool: BlockPool) -> None:
        """Give all blocks back: the tokens stay, to be computed again if need be."""
        pool.release(self.blocks)
        self.lose()

    def lose(self) -> None:
        """Whatever was computed is gone, and the blocks with it."""
        self.blocks, self.prefixes, self.computed = [], [], 0
