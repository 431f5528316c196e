"""The safetensors format: https://github.com/huggingface/safetensors#format.

A file is 8 bytes N (little-endian), N bytes of JSON, and a buffer that the tensors fill without gaps:

    {"__metadata__": {str: str}, NAME: {"dtype": "F16", "shape": [2, 3], "data_offsets": [BEGIN, END]}, ...}

Nothing in the header is trusted before all of it has been checked against the file's size.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ovgen.errors import CorruptFileError, ModelNotFoundError, UnsupportedModelError
from ovgen.weights.json_file import parse_object
from ovgen.weights.weight import DTYPES, Weight

__all__ = ["read_safetensors"]

_MAX_HEADER = 100_000_000  # bytes; the limit of the reference implementation
_MAX_DIMS = 16  # more than any model has; numpy would stop at 64, or at 32 before 2.0
_MAX_ELEMENTS = 1 << 40  # of the dimensions that are not 0: an empty tensor's others could be anything


@dataclass(frozen=True, slots=True)
class _Entry:
    """One checked line of the header; ``begin`` and ``end`` count from the start of the buffer."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_safetensors(path: Path) -> dict[str, Weight]:
    """The tensors of one file, each a view into a private memory mapping that lives as long as any of them.

    Only pages that are touched are read. The file must not be shortened while it is mapped.

    Raises:
        ModelNotFoundError: there is no such file.
        CorruptFileError: the file is not sound; the message names it and the field.
        UnsupportedModelError: a tensor has an element type that is not in ``DTYPES``.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            header, start = _read_header(path, file, size)
            entries = _check_header(path, header, size - start)
            # ACCESS_COPY: pages are shared with the file until someone writes to them. OpenVINO takes only
            # writable arrays for constants that share memory.
            data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
    except FileNotFoundError:
        raise ModelNotFoundError(f"{path} does not exist") from None
    except OSError as error:
        raise CorruptFileError(f"{path} cannot be read: {error}") from error
    weights = {}
    for entry in entries:
        raw = data[start + entry.begin : start + entry.end]  # (bytes,) uint8
        array = raw.view(DTYPES[entry.dtype]).reshape(entry.shape)
        weights[entry.name] = Weight(array, entry.dtype, path, start + entry.begin)
    return weights


def _read_header(path: Path, file: Any, size: int) -> tuple[dict[str, Any], int]:
    """The header, unchecked, and where the buffer starts."""
    if size < 8:
        raise CorruptFileError(f"{path}: {size} bytes is too short for a safetensors file; download it again")
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, _MAX_HEADER):
        raise CorruptFileError(
            f"{path}: the header claims {length} bytes, but the file has {size}: "
            "it is truncated, or not of the safetensors format"
        )
    return parse_object(file.read(length), f"{path}: the header"), 8 + length


def _check_header(path: Path, header: Mapping[str, Any], buffer: int) -> list[_Entry]:
    """The header's tensors, by position, once they are known to fill a buffer of ``buffer`` bytes exactly."""
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CorruptFileError(f"{path}: __metadata__ must map strings to strings")
    entries = [_check_entry(path, name, raw) for name, raw in header.items() if name != "__metadata__"]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    position = 0
    for entry in entries:
        if entry.begin != position:
            fault = "overlaps the tensor before it" if entry.begin < position else "leaves a gap before it"
            raise CorruptFileError(f"{path}: data_offsets of {entry.name!r:.120}: [{entry.begin}, …] {fault}")
        position = entry.end
    if position != buffer:
        raise CorruptFileError(
            f"{path}: the tensors take {position} bytes, but the file holds {buffer}: download it again"
        )
    return entries


def _check_entry(path: Path, name: str, raw: Any) -> _Entry:
    where = f"{path}: tensor {name!r:.120}"
    if not isinstance(raw, dict) or raw.keys() != {"dtype", "shape", "data_offsets"}:
        raise CorruptFileError(f"{where}: must have dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = raw["dtype"], raw["shape"], raw["data_offsets"]
    if not isinstance(dtype, str):
        raise CorruptFileError(f"{where}: dtype must be a string, got {dtype!r:.80}")
    if dtype not in DTYPES:
        raise UnsupportedModelError(f"{where}: dtype {dtype!r:.80} is not supported; there are: {', '.join(DTYPES)}")
    if not _are_sizes(shape) or len(shape) > _MAX_DIMS:
        raise CorruptFileError(f"{where}: shape must be a list of at most {_MAX_DIMS} sizes, got {shape!r:.80}")
    if prod(n for n in shape if n) > _MAX_ELEMENTS:
        raise CorruptFileError(f"{where}: shape {shape!r:.80} is beyond any model")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CorruptFileError(f"{where}: data_offsets must be [begin, end], got {offsets!r:.80}")
    begin, end = offsets
    expected = prod(shape) * DTYPES[dtype].itemsize
    if end - begin != expected:
        raise CorruptFileError(f"{where}: data_offsets span {end - begin} bytes, but {dtype} {shape} takes {expected}")
    return _Entry(name, dtype, tuple(shape), begin, end)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)  # bool is an int: not here
