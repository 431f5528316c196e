"""The KV cache of the paged form: blocks of tokens, one tensor for each layer's keys and one for its values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ovgen.errors import CacheFullError, UnsupportedModelError
from ovgen.runtime.block_memory import BlockShape, block_memories

__all__ = ["KVBlocks"]


class KVBlocks:
    """All layers' key and value blocks, handled as bytes, so that any precision and layout is served alike.

    Args:
        compiled: the paged form; what it asks for decides shapes, precision, and where the blocks lie.
        device: what it was compiled for.
        requests: read and write the blocks; all of them the same ones.

    Attributes:
        most: blocks that there may be; None: any number.

    Raises:
        UnsupportedModelError: the device leaves open what a block looks like, or has no memory for them.
    """

    def __init__(self, compiled: ov.CompiledModel, device: str, requests: Sequence[ov.InferRequest]) -> None:
        self._requests = list(requests)
        ports = [port for port in compiled.inputs if "_cache." in port.get_any_name()]
        self._names = [port.get_any_name() for port in ports]
        shapes = [_block_shape(port) for port in ports]
        self._memories, self.most = block_memories(compiled, device, shapes)
        # The plugin may keep its scales with the keys, along either axis: only the values' third axis is the tokens'.
        values = next(i for i, name in enumerate(self._names) if name.startswith("value_cache."))
        self.block_size = shapes[values].tail[1]
        self._sizes = [shape.bytes for shape in shapes]
        self.bytes_per_block = sum(self._sizes)
        self.blocks = 0
        self.layout = " ".join(f"{shape.kind.get_type_name()}{list(shape.tail)}" for shape in shapes)

    def resize(self, num_blocks: int) -> None:
        """Grow to ``num_blocks``; the blocks there are keep their contents. The requests are idle.

        If it fails or is interrupted between two layers, it can be called again.

        Raises:
            CacheFullError: there is not that much memory.
        """
        for name, memory in zip(self._names, self._memories, strict=True):
            try:
                memory.resize(num_blocks)
            except (MemoryError, RuntimeError) as error:
                size = num_blocks * self.bytes_per_block / 2**30
                raise CacheFullError(f"no memory for a KV cache of {size:.2f} GiB: lower cache_size") from error
            for request in self._requests:
                request.set_tensor(name, memory.tensor)  # remote ones are taken by name only
        self.blocks = num_blocks

    def share(self, request: ov.InferRequest) -> None:
        """Let one more request read and write the blocks."""
        self._requests.append(request)
        if self.blocks:
            for name, memory in zip(self._names, self._memories, strict=True):
                request.set_tensor(name, memory.tensor)

    def copy(self, source: int, target: int) -> None:
        """Copy one block over all layers."""
        for memory in self._memories:
            memory.copy(source, target)

    def read(self, blocks: Sequence[int]) -> list[NDArray[np.uint8]]:
        """A copy of some blocks: per cached tensor ``(len(blocks), bytes of a block)``."""
        return [memory.read(blocks) for memory in self._memories]

    def write(self, blocks: Sequence[int], data: list[NDArray[np.uint8]]) -> None:
        """Put back what `read` gave; raises ValueError if it is of another shape."""
        for memory, size, source in zip(self._memories, self._sizes, data, strict=True):
            if source.dtype != np.uint8 or source.shape != (len(blocks), size):  # numpy would stretch a single row
                raise ValueError(f"{source.shape} of {source.dtype} for {len(blocks)} blocks of {size} bytes")
            memory.write(blocks, source)


def _block_shape(port: ov.ConstOutput) -> BlockShape:
    shape = port.partial_shape  # (blocks, heads, tokens, d) and the like
    if any(shape[axis].is_dynamic for axis in (1, 2, 3)):
        raise UnsupportedModelError(f"the device leaves open what {port.get_any_name()} looks like: {shape}")
    heads, rows, columns = (shape[axis].get_length() for axis in (1, 2, 3))
    return BlockShape(port.element_type, (heads, rows, columns))
