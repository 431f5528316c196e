"""What a step is, and what every form of a model can do with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["PLUGIN", "Chunk", "Runner"]

PLUGIN = "plugin"
"""The name of OpenVINO's own kernels."""


class Chunk(NamedTuple):
    """Consecutive tokens of one sequence, computed in one step.

    Attributes:
        sequence: which sequence; a number that its owner chose and never reuses.
        token_ids: the tokens to compute.
        past: how many tokens of the sequence are in the cache before them.
        blocks: ids of the sequence's blocks in order; they hold at least ``past + len(token_ids)`` tokens.
        rows: logits are wanted for this many of the last tokens.
        adapter: which LoRA adapter the sequence goes through; 0: none.
    """

    sequence: int
    token_ids: Sequence[int]
    past: int
    blocks: Sequence[int]
    rows: int
    adapter: int = 0


class Runner(Protocol):
    """A compiled form of a model with its KV cache. Not thread-safe: the engine holds its lock around every call.

    The engine hands out blocks; a form whose plugin keeps the cache by itself uses them for accounting only.
    """

    form: str
    device: str
    kernels: str
    """What computes linear layers: ``plugin``, or ``native`` with the instruction set."""
    slots: int | None
    """Most chunks in a step; None: any number."""
    depth: int
    """Most steps in flight; those that are at the same time write to different blocks."""
    shares_blocks: bool
    """What a block holds serves every sequence that it is given to; else sequences keep their cache themselves."""
    block_size: int
    """Tokens per block."""
    bytes_per_block: int
    """Bytes that one block takes over all layers."""
    max_blocks: int | None
    """Blocks that the device has room for, whatever the memory; None: any number."""
    vocab_size: int
    cache_layout: str
    """Describes precision and shapes of the cache: equal texts can exchange saved caches."""

    @property
    def cache_bytes(self) -> int:
        """Bytes that the cache takes now."""

    def start(self, chunks: Sequence[Chunk]) -> None:
        """Begin to compute a step and return while the device works; fewer than `depth` are in flight."""

    def wait(self) -> NDArray[np.float32]:
        """Finish the oldest step in flight, if there is one: logits ``(sum of rows, vocab)``, chunk by chunk.

        They are valid until the next `start`.
        """

    def resize(self, num_blocks: int) -> None:
        """Make room for this many blocks; what is cached stays, and steps in flight go on."""

    def copy_block(self, source: int, target: int) -> None:
        """Copy one block over all layers."""

    def fork(self, source: int, target: int) -> None:
        """Sequence ``target`` begins with the cache of sequence ``source``, whose blocks it shares."""

    def trim(self, sequence: int, length: int) -> None:
        """Only the first ``length`` tokens of the sequence stay cached."""

    def release(self, sequence: int) -> None:
        """Forget a sequence; unknown ones are ignored."""

    def export_cache(self, sequence: int, blocks: Sequence[int]) -> list[NDArray[np.uint8]]:
        """The bytes of a sequence's cache, one array per cached tensor, for `import_cache`."""

    def import_cache(self, sequence: int, blocks: Sequence[int], data: list[NDArray[np.uint8]], length: int) -> None:
        """Put bytes from `export_cache` of the same `cache_layout` into the blocks of a new sequence.

        Raises:
            ValueError: they are not the cache of ``length`` tokens.
        """
