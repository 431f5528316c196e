"""The header of a GGUF file: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.

A file is the magic ``GGUF``, a version, two counts, so many metadata (key, type, value), so many tensor descriptions
(name, dimensions, type, offset), padding, and the tensors' data, each aligned. Counts, lengths and dimensions have 64
bits, in version 1 they had 32. Every one of them is compared with the bytes that are left before it is used.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from math import prod
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovgen.errors import CorruptFileError, UnsupportedModelError
from ovgen.weights.gguf.blocks import KINDS, OTHER_KINDS, Kind

__all__ = ["Entry", "Header", "read_header"]

_MAGIC = b"GGUF"
_VERSIONS = (1, 2, 3)
_MAX_DIMS = 4  # ggml's own limit
_MAX_STRINGS = 1 << 24  # far more than any vocabulary has; an empty string takes more memory than file
_STRING, _ARRAY, _BOOL = 8, 9, 7
_NUMBERS = {
    0: Struct("<B"),
    1: Struct("<b"),
    2: Struct("<H"),
    3: Struct("<h"),
    4: Struct("<I"),
    5: Struct("<i"),
    6: Struct("<f"),
    _BOOL: Struct("<B"),
    10: Struct("<Q"),
    11: Struct("<q"),
    12: Struct("<d"),
}
_U32, _U64 = _NUMBERS[4], _NUMBERS[10]


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file.

    Attributes:
        name: as ggml calls it: ``blk.0.attn_q.weight``.
        shape: as numpy counts, ``(rows, columns)``: ggml's dimensions in reverse.
        kind: how its numbers are stored.
        begin: where its first byte lies in the file.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    begin: int

    @property
    def nbytes(self) -> int:
        """How many bytes it takes in the file."""
        return prod(self.shape) // self.kind.values * self.kind.layout.itemsize


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the data of a file.

    Attributes:
        metadata: by key: str, int, float, bool; arrays are lists of str, or views of the file for numbers.
        entries: the tensors, in the order of the file.
    """

    metadata: dict[str, Any]
    entries: list[Entry]


def read_header(path: Path, data: mmap.mmap) -> Header:
    """The header of the file ``path``, which is mapped at ``data``.

    Raises:
        CorruptFileError: it is not sound; the message names the file and the field.
        UnsupportedModelError: it is big-endian, of another version, or has tensors of an unknown type.
    """
    cursor = _Cursor(path, data)
    if data[:4] != _MAGIC:
        raise CorruptFileError(f"{path} is not a GGUF file: it begins with {data[:4]!r}")
    cursor.at = 4
    version = cursor.number(_U32, "version")
    if version not in _VERSIONS:
        raise _unknown_version(path, version)
    cursor.word = _U32 if version == 1 else _U64
    word = cursor.word.size
    tensors = cursor.count("tensor_count", word + 4 + word + 4 + 8)
    metadata = _read_metadata(cursor, cursor.count("metadata_kv_count", word + 4 + 1))
    alignment = _alignment(path, metadata)
    described = [_read_entry(cursor, number) for number in range(tensors)]
    start = -(-cursor.at // alignment) * alignment
    entries = [Entry(name, shape, kind, start + offset) for name, shape, kind, offset in described]
    _check_places(path, entries, alignment, len(data))
    return Header(metadata, entries)


class _Cursor:
    """A place in a mapped file, from which values are read one after the other.

    Attributes:
        at: the place.
        word: how counts and lengths are written.
    """

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.at = 0
        self.word = _U64
        self._data = data
        self._size = len(data)

    def number(self, form: Struct, field: str) -> Any:
        self._need(form.size, field)
        (value,) = form.unpack_from(self._data, self.at)
        self.at += form.size
        return value

    def count(self, field: str, smallest: int) -> int:
        """How many items follow, of which each takes at least ``smallest`` bytes."""
        count: int = self.number(self.word, field)
        if count > (self._size - self.at) // smallest:
            raise CorruptFileError(
                f"{self.path}: {field}={count}, but only {self._size - self.at} bytes follow: "
                "the file is damaged or cut off, download it again"
            )
        return count

    def string(self, field: str) -> str:
        return self.strings(1, field)[0]

    def strings(self, count: int, field: str) -> list[str]:
        """``count`` strings. A vocabulary has hundreds of thousands, hence the plain loop."""
        data, at, size = self._data, self.at, self._size
        width, unpack = self.word.size, self.word.unpack_from
        texts = []
        try:
            for _ in range(count):
                begin = at + width
                if begin > size:
                    raise self._ended(field)
                at = begin + unpack(data, at)[0]
                if at > size:
                    raise self._ended(field)
                texts.append(data[begin:at].decode())
        except UnicodeDecodeError as error:
            raise CorruptFileError(f"{self.path}: {field}: {error.object!r:.80} is not UTF-8") from None
        self.at = at
        return texts

    def array(self, form: Struct, count: int, field: str) -> NDArray[Any]:
        """``count`` numbers, as they lie in the file."""
        self._need(count * form.size, field)
        values = np.frombuffer(self._data, np.dtype(form.format), count, self.at)
        self.at += values.nbytes
        return values

    def _need(self, count: int, field: str) -> None:
        if count > self._size - self.at:
            raise self._ended(field)

    def _ended(self, field: str) -> CorruptFileError:
        return CorruptFileError(
            f"{self.path}: the file ends within {field}: it is damaged or cut off, download it again"
        )


def _unknown_version(path: Path, version: int) -> UnsupportedModelError:
    if version & 0xFFFF == 0:  # a small number, written the other way round
        return UnsupportedModelError(
            f"{path} is a big-endian GGUF file, which is not supported: convert it with gguf-convert-endian"
        )
    known = ", ".join(map(str, _VERSIONS))
    return UnsupportedModelError(f"{path} is GGUF version {version}; there are {known}")


def _read_metadata(cursor: _Cursor, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for number in range(count):
        key = cursor.string(f"the key of metadata {number}")
        field = f"metadata {key!r:.80}"
        if key in metadata:
            raise CorruptFileError(f"{cursor.path}: {field} occurs twice")
        metadata[key] = _read_value(cursor, cursor.number(_U32, field), field)
    return metadata


def _read_value(cursor: _Cursor, kind: int, field: str) -> Any:
    if kind == _STRING:
        return cursor.string(field)
    if kind == _ARRAY:
        return _read_array(cursor, field)
    if kind not in _NUMBERS:
        raise CorruptFileError(f"{cursor.path}: {field} has the unknown type {kind}")
    value = cursor.number(_NUMBERS[kind], field)
    if kind != _BOOL:
        return value
    if value > 1:
        raise CorruptFileError(f"{cursor.path}: {field} must be 0 or 1, got {value}")
    return bool(value)


def _read_array(cursor: _Cursor, field: str) -> list[str] | NDArray[Any]:
    kind = cursor.number(_U32, field)
    if kind == _STRING:
        count = cursor.count(field, cursor.word.size)
        if count > _MAX_STRINGS:
            raise CorruptFileError(f"{cursor.path}: {field} has {count} strings, beyond any model")
        return cursor.strings(count, field)
    if kind not in _NUMBERS:  # arrays of arrays among them, which no one writes and llama.cpp does not read
        raise CorruptFileError(f"{cursor.path}: {field} is an array of the unknown type {kind}")
    return cursor.array(_NUMBERS[kind], cursor.count(field, _NUMBERS[kind].size), field)


def _alignment(path: Path, metadata: dict[str, Any]) -> int:
    value = metadata.get("general.alignment", 32)
    if type(value) is not int or value < 8 or value & (value - 1):
        raise CorruptFileError(f"{path}: general.alignment must be a power of two of at least 8, got {value!r:.80}")
    return value


def _read_entry(cursor: _Cursor, number: int) -> tuple[str, tuple[int, ...], Kind, int]:
    """Name, shape, kind and offset of the next tensor; all but the offset is checked."""
    name = cursor.string(f"the name of tensor {number}")
    where = f"tensor {name!r:.80}"
    count = cursor.number(_U32, where)
    if not 1 <= count <= _MAX_DIMS:
        raise CorruptFileError(f"{cursor.path}: {where} must have 1 to {_MAX_DIMS} dimensions, got {count}")
    shape = tuple(cursor.number(cursor.word, where) for _ in range(count))[::-1]
    code, offset = cursor.number(_U32, where), cursor.number(_U64, where)
    if code not in KINDS:
        if code not in OTHER_KINDS:
            raise CorruptFileError(f"{cursor.path}: {where} has the unknown type {code}")
        known = ", ".join(kind.name for kind in KINDS.values())
        raise UnsupportedModelError(
            f"{cursor.path}: {where} is stored as {OTHER_KINDS[code]}, which is not supported; take a file with {known}"
        )
    kind = KINDS[code]
    if 0 in shape or shape[-1] % kind.values:
        rule = f"be multiples of {kind.values}" if kind.values > 1 else "not be empty"
        raise CorruptFileError(f"{cursor.path}: {where} has shape {shape}, but rows of {kind.name} must {rule}")
    return name, shape, kind, offset


def _check_places(path: Path, entries: list[Entry], alignment: int, size: int) -> None:
    """Tensors have names of their own and lie within the file, aligned, one after the other."""
    names: set[str] = set()
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.begin):
        where = f"{path}: tensor {entry.name!r:.80}"
        if entry.name in names:
            raise CorruptFileError(f"{where} occurs twice")
        names.add(entry.name)
        if entry.begin % alignment:
            raise CorruptFileError(f"{where}: its offset is not a multiple of general.alignment={alignment}")
        if entry.begin < end:
            raise CorruptFileError(f"{where}: its offset lies within another tensor")
        end = entry.begin + entry.nbytes
        if end > size:
            raise CorruptFileError(
                f"{where} of shape {entry.shape} takes {entry.nbytes} bytes from byte {entry.begin} on, "
                f"but the file has {size}: it is damaged or cut off, download it again"
            )
