"""GGUF files: mapped, checked, and put together where a model is split over several."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovgen.errors import CorruptFileError, ModelNotFoundError
from ovgen.weights.compressed import Compressed
from ovgen.weights.gguf.blocks import load
from ovgen.weights.gguf.header import Entry, read_header
from ovgen.weights.weight import Weight

__all__ = ["GGUF", "gguf_files", "read_gguf"]

_SPLIT_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


@dataclass(frozen=True, slots=True)
class GGUF:
    """A model in GGUF, of which nothing but the header has been read.

    Attributes:
        path: its file; the first one of several.
        metadata: by key: str, int, float, bool; arrays are lists of str, or numpy arrays of numbers.
        tensors: what each tensor is, by ggml's name.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Entry]
    _places: Mapping[str, tuple[Path, NDArray[np.uint8]]]  # by tensor: its file, and all bytes of that
    # Starts threads when they are needed, and ends them with itself. New ones for each tensor take half of the time.
    _pool: Executor = field(default_factory=lambda: ThreadPoolExecutor(os.cpu_count()))

    def load(self, name: str) -> Weight | Compressed:
        """A tensor: numbers as a view of the mapped file, a matrix in blocks repacked into new memory."""
        entry = self.tensors[name]
        file, data = self._places[name]
        raw = Weight(data[entry.begin : entry.begin + entry.nbytes], "U8", file, entry.begin)
        loaded = load(raw.array, entry.kind, entry.shape, self._pool)
        if entry.kind.unpack is None and isinstance(loaded, Weight):
            return replace(loaded, file=file, offset=entry.begin)
        raw.release()  # what was made of the file's pages is in memory
        return loaded


def gguf_files(path: Path) -> list[Path]:
    """The files of the model that ``path`` belongs to, in order: ``a-00001-of-00002.gguf`` does not stand alone."""
    found = _SPLIT_NAME.fullmatch(path.name)
    if found is None or not 1 <= int(found["number"]) <= int(found["count"]):
        return [path]
    count = int(found["count"])
    return [path.with_name(f"{found['stem']}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]


def read_gguf(path: Path) -> GGUF:
    """Read a model's header; of a model in several files, any one names them all.

    The files are mapped: only pages that are touched are read, and they must not be shortened meanwhile.

    Raises:
        ModelNotFoundError: there is no such file, or one of several is missing.
        CorruptFileError: a file is not sound, or does not belong with the others; the message names file and field.
        UnsupportedModelError: it is of a kind that cannot be read.
    """
    files = gguf_files(path)
    metadata: Mapping[str, Any] = {}
    tensors: dict[str, Entry] = {}
    places: dict[str, tuple[Path, NDArray[np.uint8]]] = {}
    for number, file in enumerate(files):
        own, entries, data = _open(file, of=path)
        _check_part(file, own, number, len(files))
        metadata = metadata or own  # those after the first repeat nothing but split.*
        for entry in entries:
            if entry.name in tensors:
                raise CorruptFileError(f"{file}: tensor {entry.name!r:.80} is in {places[entry.name][0].name} too")
            tensors[entry.name] = entry
            places[entry.name] = file, data
    expected = metadata.get("split.tensors.count", len(tensors))
    if type(expected) is not int or expected != len(tensors):
        raise CorruptFileError(
            f"{files[0]}: split.tensors.count={expected!r:.80}, "
            f"but there are {len(tensors)} tensors in {len(files)} files"
        )
    return GGUF(files[0], metadata, tensors, places)


def _open(path: Path, of: Path) -> tuple[dict[str, Any], list[Entry], NDArray[np.uint8]]:
    try:
        with path.open("rb") as file:
            if not file.seek(0, 2):
                raise CorruptFileError(f"{path} is empty: download it again")
            # ACCESS_COPY, as for safetensors: OpenVINO shares only memory that may be written to.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except FileNotFoundError:
        part = "" if path == of else f", which {of.name} goes with: put all files of the model in one folder"
        raise ModelNotFoundError(f"there is no file {path}{part}") from None
    except OSError as error:
        raise CorruptFileError(f"{path} cannot be read: {error}") from error
    header = read_header(path, data)
    return header.metadata, header.entries, np.frombuffer(data, np.uint8)


def _check_part(file: Path, metadata: Mapping[str, Any], number: int, count: int) -> None:
    """A file must be the part that its name says; one that was put together of parts may have a count of 0."""
    for key, allowed in {"split.no": (number,), "split.count": (1, 0) if count == 1 else (count,)}.items():
        value = metadata.get(key, allowed[0] if count == 1 else None)
        if type(value) is not int or value not in allowed:
            raise CorruptFileError(
                f"{file}: {key}={value!r:.80} does not fit the file's name: "
                f"part {number + 1} of {count} has {allowed[0]}; parts are called NAME-00001-of-00003.gguf"
            )
