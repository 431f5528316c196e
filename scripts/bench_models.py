"""Models of random weights for benchmarks, in every format that the engines beside ours read; nothing is downloaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openvino as ov
from gguf import GGUFValueType

from ovgen.conversion import convert
from ovgen.graph.linears import compressed_uses
from ovgen.weights import Compression
from tests.tiny_gguf import write
from tests.tiny_models import make

__all__ = ["MODELS", "PRECISIONS", "gguf_file", "ir_folder", "vocabulary", "weight_bytes"]

MODELS = {
    "gpt2": {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12},
    "llama": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 2048,
    },
}
"""By name, which is also their variant of ``tests.tiny_models``: GPT-2 of 124 million parameters, and SmolLM of 135."""

PRECISIONS = {
    "int8": Compression(weights="int8"),
    "int4": Compression(weights="int4", embeddings="int4"),
    "mixed": Compression(weights="int4"),  # embeddings and head in INT8
}
"""What the matrices of an IR are stored in."""

_GGUF_TYPES = {"int8": "Q8_0", "int4": "Q4_0"}


def ir_folder(work: Path, model: str, precision: str) -> Path:
    """The IR of a model, made if it is not in ``work`` yet."""
    folder = work / f"{model}-{precision}"
    if not folder.exists():
        convert(_source(work, model), folder, PRECISIONS[precision])
    return folder


def gguf_file(work: Path, model: str, precision: str) -> Path | None:
    """The same model with GGUF's nearest type, all matrices alike; None where there is none near."""
    stored = _GGUF_TYPES.get(precision)
    if stored is None:
        return None
    source = _source(work, model)
    no_tokenizer: dict[str, tuple[int, Any]] = {"tokenizer.ggml.model": (GGUFValueType.STRING, "none")}
    if model == "gpt2":  # says nowhere else how many tokens it has
        no_tokenizer["gpt2.vocab_size"] = (GGUFValueType.UINT32, vocabulary(source))
    return _whole(work / f"{model}-{stored}.gguf", lambda path: write(source, path, stored, no_tokenizer))


def vocabulary(folder: Path) -> int:
    """How many tokens a model has."""
    return int(json.loads((folder / "config.json").read_text())["vocab_size"])


def weight_bytes(folder: Path) -> int:
    """Bytes that a step reads of the compressed matrices of an IR: all that is multiplied, not what is looked up."""
    model = ov.Core().read_model(folder / "openvino_model.xml")
    return sum(linear.weight.nbytes for linear in compressed_uses(model).linears)


def _source(work: Path, model: str) -> Path:
    return _whole(work / model, lambda folder: make(f"{model}-f16", folder, **MODELS[model]))


def _whole(path: Path, write: Callable[[Path], object]) -> Path:
    """What ``write`` writes to ``path``, if it is not there yet; whole or not at all."""
    if not path.exists():
        part = path.with_name(f"part-{path.name}")
        shutil.rmtree(part, ignore_errors=True)
        write(part)
        part.rename(path)
    return path
