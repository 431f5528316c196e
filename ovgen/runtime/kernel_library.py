"""The native CPU kernels as a library: packing matrices, and making the operations that compute with them.

The C++ is in ``kernels/cpu``; ``packed.h`` there describes the format, ``api.h`` the functions.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as op
from numpy.typing import NDArray
from openvino.utils.node_factory import NodeFactory

from ovgen.graph.passes.native import Projection
from ovgen.runtime.device import core

__all__ = ["KernelLibrary", "PackedMatrix", "Packer"]

_MOST_PROJECTIONS = 4
_DTYPES = {"u8": 0, "i8": 1, "u4": 2, "i4": 3}
_FORMATS = ("int4", "int8", "f16", "bf16", "f32")
_HUGE = 2 << 20  # bytes of a huge page
_CHUNK = 32 << 20  # bytes of memory for packed matrices that is taken at once
_READ = 32 << 20  # bytes of weights that have been packed, whose memory is given back at once


class _Shape(ctypes.Structure):
    """``OvgenShape`` of ``packed.h``."""

    _fields_ = (
        ("columns", ctypes.c_int64),
        ("group", ctypes.c_int64),
        ("rows", ctypes.c_int64 * _MOST_PROJECTIONS),
        ("format", ctypes.c_int32),
        ("zero_points", ctypes.c_int32),
        ("bias", ctypes.c_int32),
        ("gated", ctypes.c_int32),
        ("activation", ctypes.c_int32),
    )


@dataclass(frozen=True, slots=True, eq=False)
class PackedMatrix:
    """A matrix in the order of the kernels, of one or more projections.

    Attributes:
        constant: the packed bytes, u8; it keeps their memory.
        attributes: what the operations are told about it.
    """

    constant: ov.Node
    attributes: dict[str, Any]

    @property
    def nbytes(self) -> int:
        """What it takes."""
        return int(self.constant.get_byte_size())


class KernelLibrary:
    """The library at ``path``.

    Attributes:
        version: stands for its sources: the name of its folder.

    Raises:
        OSError: it cannot be loaded.
    """

    def __init__(self, path: Path) -> None:
        self.version = path.parent.name
        self._library = ctypes.CDLL(str(path))
        self._library.ovgen_packed_bytes.restype = ctypes.c_int64
        self._library.ovgen_instruction_set_name.restype = ctypes.c_char_p
        core().add_extension(str(path))  # for models that come back from CACHE_DIR
        self._nodes = NodeFactory("opset15")
        self._nodes.add_extension(str(path))

    @property
    def instruction_set(self) -> str:
        """The one in use, such as ``avx2``."""
        return self._name(self._library.ovgen_instruction_set())

    @property
    def instruction_sets(self) -> list[str]:
        """Those that were compiled in and that this CPU has, the plainest first."""
        present: int = self._library.ovgen_instruction_sets()
        return [self._name(number) for number in range(present.bit_length()) if present >> number & 1]

    def _name(self, number: int) -> str:
        name: bytes = self._library.ovgen_instruction_set_name(number)
        return name.decode()

    def packed_bytes(self, shape: _Shape) -> int:
        """What a packed matrix takes."""
        size: int = self._library.ovgen_packed_bytes(ctypes.byref(shape))
        return size

    def pack(self, shape: _Shape, number: int, projection: Projection, packed: NDArray[np.uint8]) -> None:
        """Put a projection into its place in zeroed memory."""
        weight = projection.compressed
        bias = None if projection.bias is None else np.ascontiguousarray(projection.bias, np.float32)
        if weight is None:
            floats = projection.stored
            strides = map(ctypes.c_int64, floats.strides)
            self._library.ovgen_pack_floats(
                ctypes.byref(shape), number, _pointer(floats), *strides, _pointer(bias), _pointer(packed)
            )
            return
        zeros = weight.zero_point
        halves = zeros is not None and zeros.dtype == np.float16
        arrays = [  # kept until the call is over
            weight.codes,
            weight.scale,
            None if halves else zeros,
            zeros if halves else None,
            bias,
        ]
        arrays = [None if array is None else np.ascontiguousarray(array) for array in arrays]
        codes, *numbers = map(_pointer, arrays)
        self._library.ovgen_pack(ctypes.byref(shape), number, codes, _DTYPES[weight.dtype], *numbers, _pointer(packed))

    def node(self, kind: str, inputs: list[ov.Output], attributes: dict[str, Any]) -> ov.Node:
        """One of the operations."""
        return self._nodes.create(kind, inputs, attributes)


class Packer:
    """Packs the matrices of one model, and makes the operations. It implements `ovgen.graph.passes.native.NativeOps`.

    Args:
        library: does the work.
    """

    def __init__(self, library: KernelLibrary) -> None:
        self._library = library
        self._chunk = np.empty(0, np.uint8)  # of memory that is not used yet; the matrices keep theirs alive
        self._read: list[NDArray[Any]] = []  # what has been packed, and is in memory still

    def pack(self, projections: Sequence[Projection], *, gated: bool = False) -> PackedMatrix:
        """Matrices of the same input, of as many bits and equal groups, or of floats of one type, in one.

        Args:
            projections: one to four. Missing biases are zeros if others have one.
            gated: of two, the first is activated and multiplied by the second.
        """
        first = projections[0]
        rows = [projection.weight.shape[0] for projection in projections]
        columns = first.weight.shape[1]
        attributes = {
            "format": first.format,
            "columns": columns,
            "group": columns if first.compressed is None else columns // first.compressed.scale.shape[1],
            "rows": rows,
            "zero_points": not all(map(_has_no_zeros, projections)),
            "bias": any(projection.bias is not None for projection in projections),
            "gated": gated,
        }
        shape = _Shape(
            **{
                **attributes,
                "format": _FORMATS.index(attributes["format"]),
                "rows": (ctypes.c_int64 * _MOST_PROJECTIONS)(*rows),
            }
        )
        packed = self._take(self._library.packed_bytes(shape))
        for number, projection in enumerate(projections):
            self._library.pack(shape, number, projection, packed)
            self._read.append(projection.stored)
        if sum(array.nbytes for array in self._read) >= _READ:
            self.release()
        return PackedMatrix(op.constant(packed, shared_memory=True), attributes)

    def linear(self, x: ov.Output, packed: PackedMatrix, activation: str = "none") -> list[ov.Output]:
        """``(..., columns)`` f32 -> ``(..., rows)`` f32 for each projection, or one result if it is gated."""
        node = self._library.node(
            "PackedLinear", [x, packed.constant.output(0)], {**packed.attributes, "activation": activation}
        )
        outputs: list[ov.Output] = node.outputs()
        return outputs

    def embedding(self, ids: ov.Output, packed: PackedMatrix) -> ov.Output:
        """Rows of the matrix: ``(...)`` int -> ``(..., columns)`` f32."""
        return self._library.node("PackedEmbedding", [ids, packed.constant.output(0)], packed.attributes).output(0)

    def release(self) -> None:
        """Give back the memory of what has been packed; to be called once more at the end.

        It is done for many matrices at a time: looking up where files are mapped takes as long as packing a small one.
        """
        mapped = list(_mapped_files())
        for array in self._read:
            _release(array, mapped)
        self._read.clear()

    def _take(self, size: int) -> NDArray[np.uint8]:
        """Zeroed memory, in huge pages where the system gives them: decoding reads all of it for every token."""
        if size > self._chunk.size:
            private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # shared memory has no huge pages on most systems
            memory = mmap.mmap(-1, max(size, _CHUNK) + _HUGE, flags=private)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                memory.madvise(mmap.MADV_HUGEPAGE)
            self._chunk = np.frombuffer(memory, np.uint8)
            self._chunk = self._chunk[-self._chunk.ctypes.data % _HUGE :]
        taken, self._chunk = self._chunk[:size], self._chunk[size:]
        return taken


def _has_no_zeros(projection: Projection) -> bool:
    """Whether the kernels need no zero points: for floats, and for signed codes without."""
    weight = projection.compressed
    return weight is None or (weight.zero_point is None and weight.dtype in ("i4", "i8"))


def _pointer(array: NDArray[Any] | None) -> ctypes.c_void_p | None:
    return None if array is None else ctypes.c_void_p(array.ctypes.data)


def _release(array: NDArray[Any], mapped: Sequence[tuple[int, int]]) -> None:
    """Give back the memory of what is mapped from a file: it is not read again, and the file still has it."""
    begin, strides = array.ctypes.data, zip(array.shape, array.strides, strict=True)
    end = begin + sum((size - 1) * stride for size, stride in strides) + array.itemsize
    first, last = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if any(begin <= first < last <= end for begin, end in mapped):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)


def _mapped_files() -> Iterator[tuple[int, int]]:
    """Where files are mapped into memory that nothing was written to: elsewhere there may be no other copy.

    Of a private mapping, what was written to is anonymous, or swapped out; see ``proc_pid_smaps(5)``. There are none
    where the system does not tell.
    """
    begin = end = 0
    with suppress(FileNotFoundError), open("/proc/self/smaps", encoding="utf-8", errors="replace") as file:
        for line in file:
            name, *values = line.split(maxsplit=5)
            if not name.endswith(":"):  # the place, permissions, offset, device, inode
                begin, end = (int(part, 16) if values[3] != "0" else 0 for part in name.split("-"))
            elif name in ("Anonymous:", "Swap:") and values[0] != "0":
                begin = end = 0
            elif name == "VmFlags:" and end:  # the last line
                yield begin, end
