"""The small random Hugging Face models as GGUF files, written by the `gguf` package as llama.cpp's converter does."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Stored
from gguf import quants
from numpy.typing import NDArray

from ovgen.weights import open_checkpoint

__all__ = ["ARCHITECTURES", "VARIANTS", "write"]

VARIANTS = (
    "llama",
    "llama-head-dim",
    "llama-linear",
    "llama-llama3",
    "llama-longrope",
    "llama-mha",
    "llama-f16",
    "llama-bf16",
    "llama-sharded",
    "qwen2",
    "qwen3",
    "phi3",
    "phi3-longrope",
    "phi3-longrope-short",
    "gpt2",
    "gpt2-f16",
    "gpt2-bf16",
    "gemma2",
    "gemma3",
    "gemma3-pattern",
)
"""Those of ``tests.tiny_models`` that GGUF can express."""

ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "phi3": gguf.MODEL_ARCH.PHI3,
    "gpt2": gguf.MODEL_ARCH.GPT2,
    "gemma2": gguf.MODEL_ARCH.GEMMA2,
    "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
}
"""GGUF's, by the model type of Hugging Face."""


def write(
    folder: Path,
    path: Path,
    stored: str | None = None,
    metadata: Mapping[str, tuple[int, Any]] = MappingProxyType({}),
    tensors_a_file: int = 0,
    more: Collection[str] = (),
) -> Path:
    """The model of a Hugging Face folder as a GGUF file, or as several, whose first is returned.

    Args:
        folder: the model.
        path: the file.
        stored: ggml's type of the matrices; None: they keep theirs. Vectors are always F32, as in llama.cpp.
        metadata: more of them, as `tests.weights.gguf_bytes.encode` takes them.
        tensors_a_file: how many a file holds at most; 0 for no limit.
        more: names of tensors to add, of 64 zeros each.
    """
    config = json.loads((folder / "config.json").read_text())
    architecture = ARCHITECTURES[config["model_type"]]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture], split_max_tensors=tensors_a_file)
    (_write_gpt2 if architecture is gguf.MODEL_ARCH.GPT2 else _write_decoder)(writer, config)
    for key, (kind, value) in metadata.items():
        if kind == gguf.GGUFValueType.ARRAY:
            writer.add_key_value(key, value[1], gguf.GGUFValueType.ARRAY, gguf.GGUFValueType(value[0]))
        else:
            writer.add_key_value(key, value, gguf.GGUFValueType(kind))
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    names = gguf.get_tensor_name_map(architecture, layers)
    for name, weight in open_checkpoint(folder).items():
        array = _as_in_ggml(name, weight.to_f32(), config)
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert target is not None, name
        _add(writer, target, array, "F32" if array.ndim == 1 else stored or str(weight.dtype))
    for name in more:
        writer.add_tensor(name, np.zeros(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return min(path.parent.glob(f"{path.stem}-00001-of-*.gguf"), default=path)


def _add(writer: gguf.GGUFWriter, name: str, array: NDArray[np.float32], dtype: str) -> None:
    kind = Stored[dtype]
    if kind in (Stored.F32, Stored.F16):
        writer.add_tensor(name, np.ascontiguousarray(array.astype(np.float32 if dtype == "F32" else np.float16)))
    else:
        writer.add_tensor(name, quants.quantize(np.ascontiguousarray(array), kind), raw_dtype=kind)


def _as_in_ggml(name: str, array: NDArray[np.float32], config: dict[str, Any]) -> NDArray[np.float32]:
    kind = config["model_type"]
    if kind == "llama" and ("q_proj" in name or "k_proj" in name):
        heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
        halves = array.reshape(heads, 2, len(array) // heads // 2, *array.shape[1:])
        return halves.swapaxes(1, 2).reshape(array.shape)
    if kind == "gpt2" and array.ndim == 2 and (".c_" in name):
        return array.T
    if kind.startswith("gemma") and name.endswith("norm.weight"):
        return array + np.float32(1)
    return array


def _write_gpt2(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])


def _write_decoder(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    heads = config["num_attention_heads"]
    dim = config.get("head_dim", config["hidden_size"] // heads)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config.get("rms_norm_eps", 1e-5 if config["model_type"] == "phi3" else 1e-6))
    writer.add_rope_dimension_count(int(dim * config.get("partial_rotary_factor", 1)))
    if "head_dim" in config:
        writer.add_key_length(dim)
        writer.add_value_length(dim)
    if "sliding_window" in config:
        writer.add_sliding_window(config["sliding_window"])
    if config["model_type"].startswith("gemma"):
        _write_gemma(writer, config)
    else:
        _write_rope(writer, config, dim)


def _write_gemma(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_attention_scale(config["query_pre_attn_scalar"] ** -0.5)
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if key in config:
            writer.add_float32(f"{writer.arch}.{key}", config[key])
    if config["model_type"] == "gemma2":
        return
    both = config.get("rope_parameters", {})
    whole, local = both.get("full_attention", config.get("rope_scaling")), both.get("sliding_attention", {})
    writer.add_rope_freq_base(whole.get("rope_theta", config.get("rope_theta")))
    writer.add_rope_freq_base_swa(local.get("rope_theta", config.get("rope_local_base_freq")))
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(whole["factor"])
    if "layer_types" in config:
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config["layer_types"]])
    else:
        writer.add_sliding_window_pattern(config["sliding_window_pattern"])


def _write_rope(writer: gguf.GGUFWriter, config: dict[str, Any], dim: int) -> None:
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type"))
    base = float(rope.get("rope_theta") or config["rope_theta"])
    writer.add_rope_freq_base(base)
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "llama3":
        writer.add_tensor("rope_freqs.weight", _llama3_factors(rope, base, dim))
    elif kind == "longrope" and config["model_type"] == "llama":
        writer.add_rope_scaling_attn_factors(rope["attention_factor"])
        writer.add_tensor("rope_freqs.weight", np.array(rope["short_factor"], np.float32))
    elif kind == "longrope":
        context = config["original_max_position_embeddings"]
        stretch = config["max_position_embeddings"] / context
        writer.add_rope_scaling_orig_ctx_len(context)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(stretch) / math.log(context)))
        for name in ("short", "long"):
            writer.add_tensor(f"rope_factors_{name}.weight", np.array(rope[f"{name}_factor"], np.float32))


def _llama3_factors(rope: dict[str, Any], base: float, dim: int) -> NDArray[np.float32]:
    """By what Llama 3.1 divides each frequency, case by case as llama.cpp's converter has it."""
    factors = []
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    context = rope["original_max_position_embeddings"]
    for frequency in 1.0 / base ** (np.arange(0, dim, 2) / dim):
        length = 2 * math.pi / frequency
        if length < context / high:
            factors.append(1.0)
        elif length > context / low:
            factors.append(rope["factor"])
        else:
            smooth = (context / length - low) / (high - low)
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, np.float32)
