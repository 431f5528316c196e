"""The KV cache of the paged form: blocks of tokens in memory that ovgen owns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ovgen.errors import CacheFullError, UnsupportedModelError

__all__ = ["KVBlocks"]

_ALIGN = 64  # bytes: a cache line, and the widest vector registers


@dataclass(slots=True)
class _Cache:
    """One ``key_cache.N`` or ``value_cache.N``."""

    port: ov.ConstOutput
    tail: tuple[int, ...]  # shape of one block, as the compiled model asks for it
    data: NDArray[np.uint8]  # (blocks, bytes of a block): owns the memory
    tensor: ov.Tensor | None = None  # shares data's memory, and does not keep it alive


class KVBlocks:
    """All layers' key and value blocks, handled as bytes, so that any precision and layout is served alike."""

    def __init__(self, compiled: ov.CompiledModel, request: ov.InferRequest) -> None:
        self._request = request
        self._caches = [_describe(port) for port in compiled.inputs if "_cache." in port.get_any_name()]
        # The plugin may keep its scales with the keys, along either axis: only the values' third axis is the tokens'.
        values = next(c for c in self._caches if c.port.get_any_name().startswith("value_cache."))
        self.block_size = values.tail[1]
        self.bytes_per_block = sum(c.data.shape[1] for c in self._caches)
        self.layout = " ".join(f"{c.port.element_type.get_type_name()}{list(c.tail)}" for c in self._caches)

    def resize(self, num_blocks: int) -> None:
        """Grow to ``num_blocks``; the blocks there are keep their contents. Fresh pages cost nothing until used.

        If it fails or is interrupted between two layers, it can be called again.

        Raises:
            CacheFullError: the system has not that much memory.
        """
        for cache in self._caches:
            try:
                grown = _aligned_zeros(num_blocks, cache.data.shape[1])
            except MemoryError as error:
                size = num_blocks * self.bytes_per_block / 2**30
                raise CacheFullError(f"no memory for a KV cache of {size:.2f} GiB: lower cache_size") from error
            grown[: len(cache.data)] = cache.data
            cache.data = grown
            cache.tensor = ov.Tensor(grown, ov.Shape([num_blocks, *cache.tail]), cache.port.element_type)
            self._request.set_tensor(cache.port, cache.tensor)

    def copy(self, source: int, target: int) -> None:
        """Copy one block over all layers."""
        for cache in self._caches:
            cache.data[target] = cache.data[source]

    def read(self, blocks: Sequence[int]) -> list[NDArray[np.uint8]]:
        """A copy of some blocks: per cached tensor ``(len(blocks), bytes of a block)``."""
        return [cache.data[list(blocks)] for cache in self._caches]

    def write(self, blocks: Sequence[int], data: list[NDArray[np.uint8]]) -> None:
        """Put back what `read` gave; raises ValueError if it is of another shape."""
        for cache, source in zip(self._caches, data, strict=True):
            if source.shape != (len(blocks), cache.data.shape[1]):  # numpy would stretch a single row
                raise ValueError(f"{source.shape} bytes for {len(blocks)} blocks of {cache.data.shape[1]}")
            cache.data[list(blocks)] = source


def _describe(port: ov.ConstOutput) -> _Cache:
    if any(port.partial_shape[axis].is_dynamic for axis in (1, 2, 3)):
        raise UnsupportedModelError(
            f"the device leaves open what {port.get_any_name()} looks like: {port.partial_shape}"
        )
    tail = tuple(port.partial_shape[axis].get_length() for axis in (1, 2, 3))
    size = math.prod(tail) * port.element_type.bitwidth // 8
    return _Cache(port, tail, np.zeros((0, size), np.uint8))


def _aligned_zeros(rows: int, columns: int) -> NDArray[np.uint8]:
    """Zeroed and aligned: uninitialised floats could be NaN, which attention's zero weights would not silence."""
    raw = np.zeros(rows * columns + _ALIGN, np.uint8)
    offset = -raw.ctypes.data % _ALIGN
    return raw[offset : offset + rows * columns].reshape(rows, columns)
