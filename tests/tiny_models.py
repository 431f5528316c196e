"""Small random Hugging Face folders: every architecture and option that the graph builders know, without torch.

Weights come from numpy's legacy generator, whose stream is frozen, seeded by the tensor's name: the files are the same
on every machine, and the logits recorded in ``tests/golden/logits`` belong to them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

__all__ = ["VARIANTS", "make"]

_Tensors: TypeAlias = dict[str, NDArray[np.float32]]
_Shape: TypeAlias = tuple[str, tuple[int, ...]]

_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "vocab_size": 300,
    "n_positions": 128,
    "n_embd": 64,
    "n_layer": 3,
    "n_head": 4,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


@dataclass(frozen=True)
class _Variant:
    base: dict[str, Any]
    changes: dict[str, Any] = field(default_factory=dict)
    dtype: str = "F32"
    shards: int = 1
    prefix: str = "transformer."  # of GPT-2's tensor names

    @property
    def config(self) -> dict[str, Any]:
        """The object of ``config.json``; a change to None removes a key."""
        return {key: value for key, value in (self.base | self.changes).items() if value is not None}


VARIANTS: dict[str, _Variant] = {
    "llama": _Variant(_LLAMA),
    "llama-bias-untied": _Variant(
        _LLAMA, {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False, "hidden_act": "gelu"}
    ),
    "llama-head-dim": _Variant(_LLAMA, {"head_dim": 32, "rope_theta": 500.0}),
    "llama-linear": _Variant(_LLAMA, {"rope_scaling": {"type": "linear", "factor": 4.0}}),
    "llama-llama3": _Variant(_LLAMA, {"rope_parameters": _LLAMA3, "rope_theta": None}),
    "llama-mha": _Variant(_LLAMA, {"num_key_value_heads": 4}),
    "llama-f16": _Variant(_LLAMA, dtype="F16"),
    "llama-bf16": _Variant(_LLAMA, dtype="BF16", shards=2),
    "llama-sharded": _Variant(_LLAMA, {"tie_word_embeddings": False}, shards=3),
    "gpt2": _Variant(_GPT2),
    "gpt2-inverse-layer": _Variant(
        _GPT2, {"scale_attn_by_inverse_layer_idx": True, "n_inner": 96, "activation_function": "relu"}, prefix=""
    ),
    "gpt2-unscaled": _Variant(_GPT2, {"scale_attn_weights": False, "tie_word_embeddings": False}),
    "gpt2-f16": _Variant(_GPT2, dtype="F16"),
    "gpt2-bf16": _Variant(_GPT2, dtype="BF16"),
}
"""What ``make`` can make, by name."""


def make(variant: str, folder: Path, **changes: Any) -> Path:
    """Write a variant's ``config.json``, with further ``changes``, and weights into ``folder``, and return it."""
    spec = VARIANTS[variant]
    config = replace(spec, changes=spec.changes | changes).config
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    shapes = _SHAPES[config["model_type"]](config, spec.prefix)
    tensors = {name: _random(name, shape) for name, shape in shapes}
    _write(folder, tensors, spec)
    return folder


def _random(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Weights that make logits of the order of 1 and let every head look somewhere in particular."""
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) == 1:
        gain = "norm" in name or "ln_" in name
        return (values * 0.2 + (1.0 if gain and name.endswith("weight") else 0.0)).astype(np.float32)
    spread = 0.3 if "proj" in name or "c_" in name else 0.2
    return (values * spread).astype(np.float32)


def _llama_shapes(c: dict[str, Any], prefix: str) -> Iterable[_Shape]:
    hidden, inner, vocab = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    dim = c.get("head_dim", hidden // c["num_attention_heads"])
    q, kv = c["num_attention_heads"] * dim, c["num_key_value_heads"] * dim
    linears = {"self_attn.q_proj": (q, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden)}
    linears |= {"self_attn.o_proj": (hidden, q), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden)}
    linears |= {"mlp.down_proj": (hidden, inner)}
    yield "model.embed_tokens.weight", (vocab, hidden)
    for layer in range(c["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        for part, shape in linears.items():
            yield f"{name}.{part}.weight", shape
            if c.get("attention_bias" if "attn" in part else "mlp_bias"):
                yield f"{name}.{part}.bias", shape[:1]
        yield f"{name}.input_layernorm.weight", (hidden,)
        yield f"{name}.post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    if not c["tie_word_embeddings"]:
        yield "lm_head.weight", (vocab, hidden)


def _gpt2_shapes(c: dict[str, Any], prefix: str) -> Iterable[_Shape]:
    size = c["n_embd"]
    inner = c.get("n_inner", 4 * size)
    linears = {"attn.c_attn": (size, 3 * size), "attn.c_proj": (size, size)}  # Conv1D: (inputs, outputs)
    linears |= {"mlp.c_fc": (size, inner), "mlp.c_proj": (inner, size)}
    yield f"{prefix}wte.weight", (c["vocab_size"], size)
    yield f"{prefix}wpe.weight", (c["n_positions"], size)
    for layer in range(c["n_layer"]):
        for part, shape in linears.items():
            yield f"{prefix}h.{layer}.{part}.weight", shape
            yield f"{prefix}h.{layer}.{part}.bias", shape[1:]
        for norm in ("ln_1", "ln_2"):
            yield f"{prefix}h.{layer}.{norm}.weight", (size,)
            yield f"{prefix}h.{layer}.{norm}.bias", (size,)
    yield f"{prefix}ln_f.weight", (size,)
    yield f"{prefix}ln_f.bias", (size,)
    if not c.get("tie_word_embeddings", True):
        yield "lm_head.weight", (c["vocab_size"], size)


_SHAPES: dict[str, Callable[[dict[str, Any], str], Iterable[_Shape]]] = {
    "llama": _llama_shapes,
    "gpt2": _gpt2_shapes,
}


def _write(folder: Path, tensors: _Tensors, spec: _Variant) -> None:
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
