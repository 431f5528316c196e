"""Models for benchmarks in the formats that ovgen and its tests can write; made with random weights, or given."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openvino as ov
from gguf import GGUFReader, GGUFValueType

from ovgen.conversion import convert
from ovgen.loader import digest
from ovgen.machine import multiplied
from ovgen.weights import Compression
from tests.tiny_gguf import ARCHITECTURES, write
from tests.tiny_models import make

__all__ = ["MODELS", "PRECISIONS", "Source", "is_stored"]

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
    "f16": Compression(weights="f16"),
    "bf16": None,
    "int8": Compression(weights="int8"),
    "int4": Compression(weights="int4", embeddings="int4"),
    "mixed": Compression(weights="int4"),  # embeddings and head in INT8
}
"""What the matrices of an IR are stored in."""

_GGUF_TYPES = {"f32": "F32", "int8": "Q8_0", "int4": "Q4_0"}


class Source:
    """A model in one precision, in the formats that ovgen's own tools write.

    Args:
        work: folder to keep what is written.
        model: one of `MODELS`, which is made; or the path of a Hugging Face folder, an IR folder, or a GGUF file.
        precision: one of `PRECISIONS`; for an IR folder and a GGUF file, which are as they are, any name.

    Attributes:
        name: for people.
        stem: what names of written files begin with; of a model that is given, it changes with the model.
    """

    def __init__(self, work: Path, model: str, precision: str) -> None:
        self._work, self._model, self._precision = work, model, precision
        self._given = None if model in MODELS else Path(model).absolute()
        self.name = self.stem = model
        if self._given is not None:
            self.name = self._given.stem if is_stored(model) and self._given.is_file() else self._given.name
            self.stem = f"{self.name}-{digest(self._given, times=True)[:8]}"

    def path(self, form: str) -> Path | None:
        """The model as ``"hf"``, ``"ir"`` or ``"gguf"``; None where it cannot be had. It is written once."""
        if self._given is not None and _form(self._given) != "hf":
            return self._given if form == _form(self._given) else None
        return {"hf": self._hf, "ir": self._ir, "gguf": self._gguf}[form]() if form in ("hf", "ir", "gguf") else None

    def vocabulary(self) -> int:
        """How many tokens the model has."""
        folder = self.path("hf") or self.path("ir")
        if folder is not None:
            return _vocabulary(folder)
        tensors = {tensor.name: tensor for tensor in GGUFReader(str(self._given)).tensors}
        return int(tensors["token_embd.weight"].shape[1])

    def weight_bytes(self) -> int:
        """Bytes that a step reads of the weights of the IR: all that is multiplied, not what is looked up."""
        model = ov.Core().read_model(self._ir() / "openvino_model.xml")
        return multiplied(model, self.vocabulary())[0]

    def _hf(self) -> Path:
        """The folder that a model of this precision is made from: float32 and bfloat16 for those, else float16."""
        if self._given is not None:
            return self._given
        variant, name = {"f32": ("", "-hf32"), "bf16": ("-bf16", "-hfbf16")}.get(self._precision, ("-f16", ""))
        folder = self._work / f"{self._model}{name}"
        return _whole(folder, lambda folder: make(_VARIANTS[self._model] + variant, folder, **MODELS[self._model]))

    def _ir(self) -> Path:
        if self._given is not None and _form(self._given) == "ir":
            return self._given
        folder = self._work / f"{self.stem}-{self._precision}"
        if not folder.exists():
            convert(self._hf(), folder, PRECISIONS[self._precision])
        return folder

    def _gguf(self) -> Path | None:
        """In GGUF's nearest type; None where there is none near, or llama.cpp does not know the model."""
        stored, source = _GGUF_TYPES.get(self._precision), self._hf()
        kind = json.loads((source / "config.json").read_text())["model_type"]
        if stored is None or kind not in ARCHITECTURES:
            return None
        no_tokenizer: dict[str, tuple[int, Any]] = {"tokenizer.ggml.model": (GGUFValueType.STRING, "none")}
        if kind == "gpt2":  # says nowhere else how many tokens it has
            no_tokenizer["gpt2.vocab_size"] = (GGUFValueType.UINT32, _vocabulary(source))
        target = self._work / f"{self.stem}-{stored}.gguf"
        return _whole(target, lambda path: write(source, path, stored, no_tokenizer))


def is_stored(model: str) -> bool:
    """Whether a model is given in a format with a precision of its own: an IR folder or a GGUF file."""
    return model not in MODELS and _form(Path(model)) != "hf"


def _form(path: Path) -> str:
    """What is there."""
    if path.suffix == ".gguf":
        return "gguf"
    return "ir" if (path / "openvino_model.xml").exists() else "hf"


def _vocabulary(folder: Path) -> int:
    """How many tokens the model of a folder has."""
    return int(json.loads((folder / "config.json").read_text())["vocab_size"])


def _whole(path: Path, write: Callable[[Path], object]) -> Path:
    """What ``write`` writes to ``path``, if it is not there yet; whole or not at all."""
    if not path.exists():
        part = path.with_name(f"part-{path.name}")
        shutil.rmtree(part, ignore_errors=True)
        write(part)
        part.rename(path)
    return path
