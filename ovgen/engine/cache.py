"""The KV cache: the pool that hands out block ids and the runner that has their memory, kept in step."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ovgen.engine.block_pool import BlockPool
from ovgen.engine.limits import block_limit
from ovgen.engine.sequence import Copy, KVSequence
from ovgen.runtime.runner import Runner

__all__ = ["KVCache"]


class KVCache:
    """What sequences hold, in blocks that are counted here and in memory that is the runner's.

    Args:
        runner: its cache is empty.
        cache_size: GiB that it may take; it grows by need.
    """

    def __init__(self, runner: Runner, cache_size: float) -> None:
        self.runner = runner
        self.pool = BlockPool(block_limit(cache_size, runner.bytes_per_block, runner.max_blocks))
        self._room = 0  # blocks that the runner has memory for

    @property
    def tokens(self) -> int:
        """How many it holds at most."""
        return self.pool.limit * self.runner.block_size

    def __str__(self) -> str:
        size = self.pool.limit * self.runner.bytes_per_block / (1 << 30)
        layers = dict.fromkeys(re.findall(r"\w+\[[^]]*\]", self.runner.cache_layout))  # most are alike
        return (
            f"{', '.join(layers)}; ".lstrip("; ") + f"at most {size:.3g} GiB, for {self.tokens} tokens, taken by need"
        )

    def prepare(self, copies: Sequence[Copy]) -> None:
        """Give the runner memory for all blocks handed out, then copy those that are written to."""
        if self.pool.size > self._room:
            self.runner.resize(self.pool.size)
            self._room = self.pool.size
        for source, target in copies:
            self.runner.copy_block(source, target)

    def trim(self, sequence: KVSequence, length: int) -> None:
        """Keep the first ``length`` tokens of a sequence."""
        sequence.trim(self.pool, self.runner.block_size, length)
        self.runner.trim(sequence.number, length)

    def fork(self, sequence: KVSequence) -> KVSequence:
        """A twin of a sequence; blocks are shared until one of the two writes."""
        twin = sequence.fork(self.pool)
        try:
            self.runner.fork(sequence.number, twin.number)
        except BaseException:
            twin.release(self.pool)
            raise
        return twin

    def copy(self, source: int, target: int, length: int) -> None:
        """Where the runner keeps the cache by sequence: let one begin with tokens of another, or cut it there."""
        if source != target:
            self.runner.fork(source, target)
        self.runner.trim(target, length)

    def release(self, sequence: KVSequence) -> None:
        """Free everything that a sequence holds."""
        self.runner.release(sequence.number)
        sequence.release(self.pool)

    def read(self, sequence: KVSequence) -> list[NDArray[np.uint8]]:
        """The bytes of a sequence, for `write`."""
        return self.runner.export_cache(sequence.number, sequence.blocks) if sequence.tokens else []

    def write(self, sequence: KVSequence, data: list[NDArray[np.uint8]]) -> None:
        """Fill a sequence that has blocks with what `read` gave.

        Raises:
            ValueError: the data are not those of so many tokens.
        """
        sequence.computed = len(sequence.tokens)
        self.runner.import_cache(sequence.number, sequence.blocks, data, sequence.computed)
