"""Small random Hugging Face folders: every architecture and option that the graph builders know, without torch.

Weights come from numpy's legacy generator, whose stream is frozen, seeded by the tensor's name: the files are the same
on every machine, and the logits recorded in ``tests/golden/logits`` belong to them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from tests.tiny_decoders import DECODER_SHAPES, DECODER_VARIANTS
from tests.tiny_gpt import GPT_SHAPES, GPT_VARIANTS
from tests.tiny_variant import Shapes, Variant

__all__ = ["VARIANTS", "make"]

_Tensors: TypeAlias = dict[str, NDArray[np.float32]]

VARIANTS: dict[str, Variant] = DECODER_VARIANTS | GPT_VARIANTS
"""What ``make`` can make, by name."""

_SHAPES: dict[str, Shapes] = DECODER_SHAPES | GPT_SHAPES


def make(variant: str, folder: Path, **changes: Any) -> Path:
    """Write a variant's ``config.json``, with further ``changes``, and weights into ``folder``, and return it."""
    spec = VARIANTS[variant]
    config = replace(spec, changes=spec.changes | changes).config
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    shapes = _SHAPES[config["model_type"]](config, spec.prefix)
    gain = 0.0 if config["model_type"].startswith("gemma") else 1.0  # Gemma stores what gains differ from 1 by
    tensors = {name: _random(name, shape, gain) for name, shape in shapes}
    _write(folder, tensors, spec)
    return folder


def _random(name: str, shape: tuple[int, ...], gain: float) -> NDArray[np.float32]:
    """Weights that make logits of the order of 1 and let every head look somewhere in particular."""
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) == 1:
        is_gain = ("norm" in name or "ln_" in name) and name.endswith("weight")
        return (values * 0.2 + (gain if is_gain else 0.0)).astype(np.float32)
    spread = 0.3 if "proj" in name or "c_" in name else 0.2
    return (values * spread).astype(np.float32)


def _write(folder: Path, tensors: _Tensors, spec: Variant) -> None:
    names = list(tensors)
    if spec.shards == 1:
        _save({name: tensors[name] for name in names}, folder / "model.safetensors", spec.dtype)
        return
    weight_map: dict[str, str] = {}
    for number in range(spec.shards):
        shard = f"model-{number + 1:05}-of-{spec.shards:05}.safetensors"
        mine = names[number :: spec.shards]
        _save({name: tensors[name] for name in mine}, folder / shard, spec.dtype)
        weight_map |= dict.fromkeys(mine, shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _save(tensors: _Tensors, path: Path, dtype: str) -> None:
    """Written by the format's reference implementation; it takes no bfloat16 from numpy, so that is relabelled."""
    raw = save({name: _ENCODE[dtype](array) for name, array in tensors.items()}, {"format": "pt"})
    path.write_bytes(_labelled_bf16(raw) if dtype == "BF16" else raw)


def _bf16_bits(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Rounded to nearest, ties to even."""
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


_ENCODE: dict[str, Callable[[NDArray[np.float32]], NDArray[Any]]] = {
    "F32": lambda array: array,
    "F16": lambda array: array.astype(np.float16),
    "BF16": _bf16_bits,
}


def _labelled_bf16(raw: bytes) -> bytes:
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    for name in header.keys() - {"__metadata__"}:
        header[name]["dtype"] = "BF16"
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + raw[start:]
