"""Where the blocks of the KV cache lie: in ovgen's own memory, or in the device's.

A GPU's plugin copies inputs that lie in foreign memory to the device before each inference, and never back: what paged
attention writes into the cache would be lost without a word. So there the cache is in tensors of the device's context:
in its own memory, or, if it refuses, in host memory that the driver shares with it. From the plugin's source and what
openvino.genai does with it; **not tried on a GPU**.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ovgen.errors import UnsupportedModelError
from ovgen.runtime.device import core

__all__ = ["BlockMemory", "BlockShape", "HostBlocks", "RemoteBlocks", "block_memories", "in_context", "on_gpu"]

_ALIGN = 64  # bytes: a cache line, and the widest vector registers
_log = logging.getLogger("ovgen")


@dataclass(frozen=True, slots=True)
class BlockShape:
    """One block of one cached tensor: ``tail`` elements of a type, which may be smaller than a byte."""

    kind: ov.Type
    tail: tuple[int, int, int]

    @property
    def bytes(self) -> int:
        """What it takes."""
        return math.prod(self.tail) * int(self.kind.bitwidth) // 8

    def of(self, count: int) -> ov.Shape:
        """The shape of a tensor of ``count`` blocks."""
        return ov.Shape([count, *self.tail])


class BlockMemory(Protocol):
    """The blocks of one cached tensor. Fresh ones are zero: noise could be NaN, which attention's zero weights keep."""

    tensor: Any
    """What the infer requests read and write, ``(blocks, *tail)``: `ov.Tensor` or `ov.RemoteTensor`."""

    def resize(self, count: int) -> None:
        """Grow to ``count`` blocks; the blocks there are keep their contents. Raises what the allocation raises."""

    def copy(self, source: int, target: int) -> None:
        """Copy one block."""

    def read(self, blocks: Sequence[int]) -> NDArray[np.uint8]:
        """A copy of some blocks ``(len(blocks), bytes of a block)``."""

    def write(self, blocks: Sequence[int], data: NDArray[np.uint8]) -> None:
        """Put back what `read` gave."""


class HostBlocks:
    """Blocks that numpy reaches. A `BlockMemory`.

    Args:
        shape: of one block.
        context: makes host tensors that its device works on in place; None: memory of our own does.
    """

    def __init__(self, shape: BlockShape, context: ov.RemoteContext | None = None) -> None:
        self._shape = shape
        self._context = context
        self._bytes = np.zeros((0, shape.bytes), np.uint8)  # (blocks, bytes of a block)
        self.tensor: ov.Tensor | None = None  # has the same memory

    def resize(self, count: int) -> None:
        """Grow to ``count`` blocks. Fresh pages of our own memory cost nothing until they are used."""
        if self._context is None:
            grown = _aligned_zeros(count, self._shape.bytes)
            tensor = ov.Tensor(grown, self._shape.of(count), self._shape.kind)  # which does not keep the memory alive
        else:
            tensor = self._context.create_host_tensor(self._shape.kind, self._shape.of(count))
            grown = tensor.data.reshape(count, -1).view(np.uint8)
            grown[len(self._bytes) :] = 0
        grown[: len(self._bytes)] = self._bytes
        self.tensor = tensor
        self._bytes = grown

    def copy(self, source: int, target: int) -> None:
        """Copy one block."""
        self._bytes[target] = self._bytes[source]

    def read(self, blocks: Sequence[int]) -> NDArray[np.uint8]:
        """A copy of some blocks."""
        return self._bytes[list(blocks)]

    def write(self, blocks: Sequence[int], data: NDArray[np.uint8]) -> None:
        """Put back what `read` gave."""
        self._bytes[list(blocks)] = data


class RemoteBlocks:
    """Blocks in a device's own memory. A `BlockMemory`, tried with a context of CPU tensors only.

    Args:
        shape: of one block, in elements of a byte or more: OpenVINO copies no parts of others.
        context: of the device that the model is compiled for.

    Raises:
        UnsupportedModelError: the elements are smaller.
    """

    def __init__(self, shape: BlockShape, context: ov.RemoteContext) -> None:
        if shape.kind.bitwidth < 8:
            raise UnsupportedModelError(f"OpenVINO copies no parts of {shape.kind.get_type_name()} tensors on a device")
        self._shape = shape
        self._context = context
        self.tensor: ov.RemoteTensor | None = None

    def resize(self, count: int) -> None:
        """Grow to ``count`` blocks, for a moment beside the old ones."""
        old = 0 if self.tensor is None else self.tensor.get_shape()[0]
        if old == count:
            return
        grown = self._context.create_tensor(self._shape.kind, self._shape.of(count), {})
        if old:
            self._part(grown, 0, old).copy_from(self.tensor)
        fresh = np.zeros((count - old, self._shape.bytes), np.uint8)
        self._part(grown, old, count).copy_from(self._host(fresh))
        self.tensor = grown

    def copy(self, source: int, target: int) -> None:
        """Copy one block on the device."""
        self._block(source).copy_to(self._block(target))

    def read(self, blocks: Sequence[int]) -> NDArray[np.uint8]:
        """A copy of some blocks on the host."""
        data = np.empty((len(blocks), self._shape.bytes), np.uint8)
        for i, block in enumerate(blocks):
            self._block(block).copy_to(self._host(data[i : i + 1]))
        return data

    def write(self, blocks: Sequence[int], data: NDArray[np.uint8]) -> None:
        """Put back what `read` gave."""
        data = np.ascontiguousarray(data)
        for i, block in enumerate(blocks):
            self._block(block).copy_from(self._host(data[i : i + 1]))

    def _block(self, block: int) -> Any:
        return self._part(self.tensor, block, block + 1)

    def _part(self, tensor: Any, begin: int, end: int) -> Any:
        """Blocks ``[begin, end)`` of a remote tensor, in the same memory."""
        return type(tensor)(tensor, ov.Coordinate([begin, 0, 0, 0]), ov.Coordinate([end, *self._shape.tail]))

    def _host(self, data: NDArray[np.uint8]) -> ov.Tensor:
        """A host tensor in the memory of ``data`` ``(blocks, bytes of a block)``, which the caller keeps."""
        return ov.Tensor(data, self._shape.of(len(data)), self._shape.kind)


def on_gpu(compiled: ov.CompiledModel) -> bool:
    """Whether a GPU computes a model, or a part of it."""
    return any("GPU" in name for name in compiled.get_property("EXECUTION_DEVICES"))


def block_memories(
    compiled: ov.CompiledModel, device: str, shapes: Sequence[BlockShape]
) -> tuple[list[BlockMemory], int | None]:
    """The blocks of each cached tensor of a compiled model, and how many a tensor may have; None: any number.

    A GPU bounds the size of one allocation, and with it the number of blocks: the pool is a tensor for each layer's
    keys and for its values, and attention takes each of them whole. ``GPU_ENABLE_LARGE_ALLOCATIONS`` lifts the bound.

    Raises:
        UnsupportedModelError: a GPU is one of several devices, or gives no memory that it works on in place.
    """
    if not on_gpu(compiled):
        return [HostBlocks(shape) for shape in shapes], None
    executing = compiled.get_property("EXECUTION_DEVICES")
    if len(executing) > 1:
        raise UnsupportedModelError(f"the blocks of a KV cache cannot lie on several devices: {', '.join(executing)}")
    try:
        context = core().get_default_context(device)
    except RuntimeError as error:
        raise UnsupportedModelError(f"{device} shares no memory for the blocks of a KV cache: {error}") from error
    memories = in_context(context, shapes)
    if _is_lifted(compiled):
        return memories, None
    largest = int(core().get_property(device, "GPU_DEVICE_MAX_ALLOC_MEM_SIZE"))
    return memories, largest // max(shape.bytes for shape in shapes)


def in_context(context: ov.RemoteContext, shapes: Sequence[BlockShape]) -> list[BlockMemory]:
    """Blocks in the memory of a context's device if it gives some, else in host memory that the device shares."""
    try:
        remote = [RemoteBlocks(shape, context) for shape in shapes]
        for memory in remote:
            memory.resize(1)
    except (RuntimeError, UnsupportedModelError) as error:
        _log.warning("the KV cache lies in host memory that the device shares, which may be slow: %s", error)
        return [HostBlocks(shape, context) for shape in shapes]
    return list(remote)


def _is_lifted(compiled: ov.CompiledModel) -> bool:
    """Whether the device was told to make allocations of any size."""
    try:
        return bool(compiled.get_property("GPU_ENABLE_LARGE_ALLOCATIONS"))
    except RuntimeError:  # a plugin that does not know
        return False


def _aligned_zeros(rows: int, columns: int) -> NDArray[np.uint8]:
    raw = np.zeros(rows * columns + _ALIGN, np.uint8)
    offset = -raw.ctypes.data % _ALIGN
    return raw[offset : offset + rows * columns].reshape(rows, columns)
