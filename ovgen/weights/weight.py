"""One tensor of a checkpoint, as it is stored."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DTYPES", "FLOATS", "Weight"]

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # numpy has no bfloat16: the bits, which are the upper half of a float32
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
"""Element types by their safetensors tag, and the numpy type that holds them."""

FLOATS = ("F32", "F16", "BF16")
"""Element types that weights of a model may have."""


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """A tensor and what its numbers mean.

    Attributes:
        array: the numbers, of ``DTYPES[dtype]``; row-major, but for the transpose of what lies in a file. A view
            into a memory-mapped file keeps the mapping alive by itself; it may be written to, and the file never
            changes (copy on write).
        dtype: the tag in ``DTYPES``, needed because bfloat16 is held as uint16.
        file: the file that ``array`` is a view of, if it is one.
        offset: where in ``file`` the first byte lies.
    """

    array: NDArray[Any]
    dtype: str
    file: Path | None = None
    offset: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.array.shape

    @property
    def nbytes(self) -> int:
        """What it takes, in memory or in its file."""
        return self.array.nbytes

    def to_f32(self) -> NDArray[np.float32]:
        """The values as float32: exact for F32, F16 and BF16; F32 is returned as it is, not copied."""
        if self.dtype == "BF16":
            return (self.array.astype(np.uint32) << 16).view(np.float32)
        return self.array.astype(np.float32, copy=False)

    def transposed(self) -> Weight:
        """The same numbers with the axes reversed, in row-major order: a copy, unless they lie so already."""
        turned = np.ascontiguousarray(self.array.T)
        if np.may_share_memory(turned, self.array):
            return replace(self, array=turned)
        self.release()  # the file's pages are not needed, too
        return Weight(turned, self.dtype)

    def release(self) -> None:
        """Let the system take back the memory of a mapped file's pages; whoever reads on gets them again.

        What was written to the array is lost.
        """
        base: Any = self.array
        while isinstance(base, np.ndarray | memoryview):
            base = base.base if isinstance(base, np.ndarray) else base.obj
        if self.file is None or not isinstance(base, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
            return
        first = -(-self.offset // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (self.offset + self.array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            base.madvise(mmap.MADV_DONTNEED, first, last - first)
