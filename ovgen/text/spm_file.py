"""Reading tokenizer.model, the file of a sentencepiece model."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from ovgen.errors import TokenizerError

__all__ = ["PieceType", "SentencePieces", "read_pieces"]


class PieceType(IntEnum):
    """What a piece is for, numbered as in sentencepiece's files."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(slots=True)
class SentencePieces:
    """What a sentencepiece model holds; the defaults are those of its file format.

    Attributes:
        pieces: text of each token, spaces written as ``▁``.
        scores: log-probability, or minus the rank, of each.
        types: a `PieceType` of each.
        model_type: 1 is Unigram, 2 is BPE.
        charsmap: a compiled Unicode normalisation; empty for none.
        add_dummy_prefix: put a space before a text.
        remove_extra_whitespaces: drop the spaces at both ends of a text, and all but one of several in a row.
        bos_id: the piece that begins a text; negative for none.
        eos_id: the piece that ends a text; negative for none.
    """

    pieces: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    model_type: int = 1
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    bos_id: int = 1
    eos_id: int = 2


def read_pieces(path: Path) -> SentencePieces:
    """Read a tokenizer.model: a protocol buffer with so few fields of interest that they are picked out here.

    Raises:
        TokenizerError: the file is damaged or not a sentencepiece model.
    """
    try:
        model = _parse_model(path.read_bytes())
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise TokenizerError(f"{path} is not a sentencepiece model ({error}): fetch it again") from error
    if not model.pieces:
        raise TokenizerError(f"{path} holds no sentencepiece model: fetch it again")
    return model


def _parse_model(data: bytes) -> SentencePieces:
    model = SentencePieces()
    for number, value in _fields(data):
        if number == 1:
            _parse_piece(_as_bytes(value), model)
        elif number == 2:
            trainer = dict(_fields(_as_bytes(value)))
            model.model_type = _as_int(trainer.get(3, model.model_type))
            model.bos_id = _as_int(trainer.get(41, model.bos_id))
            model.eos_id = _as_int(trainer.get(42, model.eos_id))
        elif number == 3:
            normalizer = dict(_fields(_as_bytes(value)))
            model.charsmap = _as_bytes(normalizer.get(2, b""))
            model.add_dummy_prefix = bool(normalizer.get(3, True))
            model.remove_extra_whitespaces = bool(normalizer.get(4, True))
    return model


def _parse_piece(data: bytes, model: SentencePieces) -> None:
    piece = dict(_fields(data))
    model.pieces.append(_as_bytes(piece[1]).decode("utf-8") if 1 in piece else "")
    model.scores.append(struct.unpack("<f", _as_bytes(piece[2]))[0] if 2 in piece else 0.0)
    model.types.append(_as_int(piece.get(3, PieceType.NORMAL)))


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of a protocol buffer message: integers, or the bytes of anything else."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value - (1 << 64) if value >> 63 else value  # negative numbers take 64 bits
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"no field of a protocol buffer at byte {at}")
        if at + size > len(data):
            raise ValueError("it ends too early")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _as_int(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("a number is not written as one")
    return value


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a field is a number that should not be")
    return value
