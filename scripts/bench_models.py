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

__all__ = ["MODELS", "PRECISIONS", "gguf_file", "hf_folder", "ir_folder", "vocabulary", "weight_bytes"]

MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12},
    "distilgpt2": {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 6, "n_head": 12},
    "gpt-neo": {
        "vocab_size": 50257,
        "hidden_size": 768,
        "num_layers": 12,
        "num_heads": 12,
        "max_position_embeddings": 2048,
        "window_size": 256,
        "attention_types": [[["global", "local"], 6]],
        "intermediate_size": 3072,
    },
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
"""GPT-2 of 124 million parameters, DistilGPT2 of 82, GPT-Neo of 125, and a Llama of 135 as SmolLM is one."""

_VARIANTS = {"gpt2": "gpt2", "distilgpt2": "gpt2", "gpt-neo": "gpt-neo", "llama": "llama"}  # of tests.tiny_models

PRECISIONS: dict[str, Compression | None] = {
    "f32": None,
    "int8": Compression(weights="int8"),
    "int4": Compression(weights="int4", embeddings="int4"),
    "mixed": Compression(weights="int4"),  # embeddings and head in INT8
}
"""What the matrices of an IR are stored in."""

_GGUF_TYPES = {"f32": "F32", "int8": "Q8_0", "int4": "Q4_0"}


def hf_folder(work: Path, model: str, precision: str) -> Path:
    """The Hugging Face folder that a model of this precision is made from: float32 for that, else float16."""
    variant = _VARIANTS[model] + ("" if precision == "f32" else "-f16")
    name = f"{model}-hf32" if precision == "f32" else model
    return _whole(work / name, lambda folder: make(variant, folder, **MODELS[model]))


def ir_folder(work: Path, model: str, precision: str) -> Path:
    """The IR of a model, made if it is not in ``work`` yet."""
    folder = work / f"{model}-{precision}"
    if not folder.exists():
        convert(hf_folder(work, model, precision), folder, PRECISIONS[precision])
    return folder


def gguf_file(work: Path, model: str, precision: str) -> Path | None:
    """The same model with GGUF's nearest type, all matrices alike; None where there is none near."""
    stored = _GGUF_TYPES.get(precision)
    if stored is None:
        return None
    if model == "gpt-neo":  # llama.cpp does not know it
        return None
    source = hf_folder(work, model, precision)
    no_tokenizer: dict[str, tuple[int, Any]] = {"tokenizer.ggml.model": (GGUFValueType.STRING, "none")}
    if _VARIANTS[model] == "gpt2":  # says nowhere else how many tokens it has
        no_tokenizer["gpt2.vocab_size"] = (GGUFValueType.UINT32, vocabulary(source))
    return _whole(work / f"{model}-{stored}.gguf", lambda path: write(source, path, stored, no_tokenizer))


def vocabulary(folder: Path) -> int:
    """How many tokens a model has."""
    return int(json.loads((folder / "config.json").read_text())["vocab_size"])


def weight_bytes(folder: Path) -> int:
    """Bytes that a step reads of the compressed matrices of an IR: all that is multiplied, not what is looked up."""
    model = ov.Core().read_model(folder / "openvino_model.xml")
    return sum(linear.weight.nbytes for linear in compressed_uses(model).linears)


def _whole(path: Path, write: Callable[[Path], object]) -> Path:
    """What ``write`` writes to ``path``, if it is not there yet; whole or not at all."""
    if not path.exists():
        part = path.with_name(f"part-{path.name}")
        shutil.rmtree(part, ignore_errors=True)
        write(part)
        part.rename(path)
    return path
