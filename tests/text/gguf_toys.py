"""The toy tokenizers as llama.cpp's converter writes them into metadata."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ovgen.text.spm_file import PieceType, read_pieces
from tests.text import toys

__all__ = ["as_read", "byte_level", "sentencepiece"]

_I32, _STRING, _ARRAY, _U32, _F32 = 5, 8, 9, 4, 6  # GGUF's types of values


def byte_level() -> dict[str, tuple[int, Any]]:
    """`toys.byte_level`: key -> type and value, as ``gguf_bytes.encode`` takes them."""
    model = json.loads(toys.byte_level_json())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    types = [PieceType.CONTROL if token.startswith("<|") else PieceType.NORMAL for token in tokens]
    return {
        "general.architecture": (_STRING, "gpt2"),
        "tokenizer.ggml.model": (_STRING, "gpt2"),
        "tokenizer.ggml.pre": (_STRING, "gpt-2"),
        "tokenizer.ggml.tokens": (_ARRAY, (_STRING, tokens)),
        "tokenizer.ggml.token_type": (_ARRAY, (_I32, [int(its) for its in types])),
        "tokenizer.ggml.merges": (_ARRAY, (_STRING, [" ".join(pair) for pair in model["merges"]])),
        "tokenizer.ggml.bos_token_id": (_U32, tokens.index("<|bos|>")),
        "tokenizer.ggml.eos_token_id": (_U32, tokens.index("<|eos|>")),
        "tokenizer.ggml.add_bos_token": (7, True),
    }


def sentencepiece() -> dict[str, tuple[int, Any]]:
    """`toys.sentencepiece`, likewise."""
    with tempfile.TemporaryDirectory() as folder:
        model = read_pieces(toys.spm_file(Path(folder)))
    return {
        "general.architecture": (_STRING, "llama"),
        "tokenizer.ggml.model": (_STRING, "llama"),
        "tokenizer.ggml.tokens": (_ARRAY, (_STRING, model.pieces)),
        "tokenizer.ggml.scores": (_ARRAY, (_F32, model.scores)),
        "tokenizer.ggml.token_type": (_ARRAY, (_I32, model.types)),
        "tokenizer.ggml.bos_token_id": (_U32, model.bos_id),
        "tokenizer.ggml.eos_token_id": (_U32, model.eos_id),
    }


def as_read(metadata: Mapping[str, tuple[int, Any]], **changes: Any) -> dict[str, Any]:
    """What reading a file with these metadata gives; ``changes`` to ``tokenizer.ggml.…``, None to leave a key out."""
    values = {key: _plain(kind, value) for key, (kind, value) in metadata.items()}
    values |= {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    return {key: value for key, value in values.items() if value is not None}


def _plain(kind: int, value: Any) -> Any:
    if kind != _ARRAY:
        return value
    inner, items = value
    return list(items) if inner == _STRING else np.array(items, {_I32: np.int32, _F32: np.float32}[inner])
