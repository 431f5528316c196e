"""GGUF files byte by byte, by the format's description: also old versions, which the `gguf` package does not write."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["encode"]

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_FORMS = dict(zip((U8, I8, U16, I16, U32, I32, F32, BOOL, U64, I64, F64), "BbHhIif?Qqd", strict=True))


def encode(
    metadata: Mapping[str, tuple[int, Any]],
    tensors: Sequence[tuple[str, Sequence[int], int, bytes]] = (),
    *,
    version: int = 3,
    offsets: Sequence[int] | None = None,
    alignment: int = 32,
) -> bytes:
    """A file.

    Args:
        metadata: key -> number of its type and value; of an array ``(type of its elements, values)``.
        tensors: name, dimensions as ggml counts them, number of the type, data.
        version: of the format.
        offsets: of the tensors; None for the right ones.
        alignment: of the tensors.
    """
    word = "<I" if version == 1 else "<Q"

    def text(value: str | bytes) -> bytes:
        raw = value.encode() if isinstance(value, str) else value
        return struct.pack(word, len(raw)) + raw

    def value(kind: int, content: Any) -> bytes:
        if kind == STRING:
            return text(content)
        if kind == ARRAY:
            inner, items = content
            return struct.pack("<I", inner) + struct.pack(word, len(items)) + b"".join(value(inner, i) for i in items)
        return struct.pack(f"<{_FORMS[kind]}", content) if kind in _FORMS else b""

    out = b"GGUF" + struct.pack("<I", version) + struct.pack(word, len(tensors)) + struct.pack(word, len(metadata))
    for key, (kind, content) in metadata.items():
        out += text(key) + struct.pack("<I", kind) + value(kind, content)
    data = b""
    for number, (name, dims, kind, raw) in enumerate(tensors):
        offset = len(data) if offsets is None else offsets[number]
        out += text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack(word, n) for n in dims)
        out += struct.pack("<IQ", kind, offset)
        data += raw + b"\0" * (-len(raw) % alignment)
    return out + b"\0" * (-len(out) % alignment) + data
