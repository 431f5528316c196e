"""The kernels' C functions (`kernels/cpu/api.h`) by ctypes, with guards around everything that they write."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ovgen.weights import Compressed, Weight
from tests.kernels.twin import ACTIVATIONS, Shape

__all__ = ["Kernels", "Library"]

_GUARD = 0xA5
_GUARD_BYTES = 64


class _Shape(ctypes.Structure):
    """``OvgenShape`` of ``packed.h``."""

    _fields_ = (
        ("columns", ctypes.c_int64),
        ("group", ctypes.c_int64),
        ("rows", ctypes.c_int64 * 4),
        ("format", ctypes.c_int32),
        ("zero_points", ctypes.c_int32),
        ("bias", ctypes.c_int32),
        ("gated", ctypes.c_int32),
        ("activation", ctypes.c_int32),
    )


class Library:
    """A built library, and the instruction sets in it that run on this CPU."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._functions = ctypes.CDLL(str(path))
        self._functions.ovgen_packed_bytes.restype = ctypes.c_int64
        self._functions.ovgen_instruction_set_name.restype = ctypes.c_char_p

    def sets(self) -> dict[str, int]:
        """Numbers of instruction sets by their names."""
        here = self._functions.ovgen_instruction_sets()
        names: dict[str, int] = {}
        while name := self._functions.ovgen_instruction_set_name(number := len(names)):
            names[name.decode()] = number
        return {name: number for name, number in names.items() if here >> number & 1}

    def choose(self, number: int) -> bool:
        """Use an instruction set; False if it is not there."""
        return bool(self._functions.ovgen_choose(number))

    def chosen(self) -> int:
        """The instruction set in use."""
        return int(self._functions.ovgen_instruction_set())

    def pack(
        self, shape: Shape, weights: Sequence[Compressed | Weight], biases: Sequence[NDArray[np.float32]] = ()
    ) -> NDArray[np.uint8]:
        """The packed bytes."""
        structure = _structure(shape)
        size = self._functions.ovgen_packed_bytes(ctypes.byref(structure))
        memory = _Guarded(size, align=64)
        memory.bytes[:] = 0
        for number, weight in enumerate(weights):
            if isinstance(weight, Weight):
                self._functions.ovgen_pack_floats(
                    ctypes.byref(structure),
                    number,
                    ctypes.c_void_p(weight.array.ctypes.data),
                    *map(ctypes.c_int64, weight.array.strides),
                    _pointer(biases[number]) if shape.bias else None,
                    _pointer(memory.bytes),
                )
                continue
            zeros = weight.zero_point
            halves = zeros is not None and zeros.dtype == np.float16
            self._functions.ovgen_pack(
                ctypes.byref(structure),
                number,
                _pointer(weight.codes),
                ("u8", "i8", "u4", "i4").index(weight.dtype),
                _pointer(weight.scale),
                None if halves else _pointer(zeros),
                _pointer(zeros) if halves else None,
                _pointer(biases[number]) if shape.bias else None,
                _pointer(memory.bytes),
            )
        memory.check()
        return memory.bytes

    def linear(
        self, number: int, shape: Shape, packed: NDArray[np.uint8], x: NDArray[np.float32], threads: int
    ) -> list[NDArray[np.float32]]:
        """``(tokens, columns)`` -> ``(tokens, rows)`` for each output. No array lies at a multiple of 8 bytes."""
        source = _Guarded(x.nbytes)
        source.bytes[:] = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
        memories = [_Guarded(len(x) * rows * 4) for rows in shape.outputs]
        outputs = [
            memory.bytes.view(np.float32).reshape(len(x), rows)
            for memory, rows in zip(memories, shape.outputs, strict=True)
        ]
        self.multiply(number, shape, packed, source.bytes.view(np.float32).reshape(x.shape), outputs, threads)
        for memory in memories:
            memory.check()
        return outputs

    def multiply(
        self,
        number: int,
        shape: Shape,
        packed: NDArray[np.uint8],
        x: NDArray[np.float32],
        outputs: Sequence[NDArray[np.float32]],
        threads: int,
    ) -> None:
        """`linear` into memory of the caller's."""
        self._functions.ovgen_linear(
            number,
            ctypes.byref(_structure(shape)),
            _pointer(packed),
            _pointer(x),
            ctypes.c_int64(len(x)),
            (ctypes.c_void_p * 4)(*(y.ctypes.data for y in outputs)),
            threads,
        )

    def embedding(self, shape: Shape, packed: NDArray[np.uint8], ids: Sequence[int]) -> NDArray[np.float32]:
        """Rows of the first projection, ``(count, columns)``."""
        memory = _Guarded(len(ids) * shape.columns * 4)
        numbers = np.array(ids, np.int64)
        self._functions.ovgen_embedding(
            ctypes.byref(_structure(shape)),
            _pointer(packed),
            _pointer(numbers),
            ctypes.c_int64(len(ids)),
            _pointer(memory.bytes),
        )
        memory.check()
        return memory.bytes.view(np.float32).reshape(len(ids), shape.columns)


class Kernels(NamedTuple):
    """An instruction set to be tested."""

    name: str
    library: Library
    number: int

    def linear(
        self, shape: Shape, packed: NDArray[np.uint8], x: NDArray[np.float32], threads: int = 1
    ) -> list[NDArray[np.float32]]:
        return self.library.linear(self.number, shape, packed, x, threads)


class _Guarded:
    """Memory between bytes that nobody may touch, at an address of ``4 (mod 64)``, or a multiple of ``align``."""

    def __init__(self, size: int, align: int | None = None) -> None:
        self._whole = np.full(size + 2 * _GUARD_BYTES + 64, _GUARD, np.uint8)
        start = _GUARD_BYTES + -self._whole.ctypes.data % 64 + (0 if align else 4)
        self._range = start, start + size
        self.bytes = self._whole[start : start + size]

    def check(self) -> None:
        start, end = self._range
        assert (self._whole[:start] == _GUARD).all(), "written before the memory"
        assert (self._whole[end:] == _GUARD).all(), "written behind the memory"


def _structure(shape: Shape) -> _Shape:
    return _Shape(
        shape.columns,
        shape.group,
        (ctypes.c_int64 * 4)(*shape.rows),
        ("int4", "int8", "f16", "bf16", "f32").index(shape.format),
        shape.zero_points,
        shape.bias,
        shape.gated,
        ACTIVATIONS.index(shape.activation),
    )


def _pointer(array: NDArray[Any] | None) -> ctypes.c_void_p | None:
    if array is None:
        return None
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)
