"""Small models of the families that descend from Llama."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.tiny_variant import Shape, Shapes, Variant

__all__ = ["DECODER_SHAPES", "DECODER_VARIANTS"]

_COMMON = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def _base(kind: str, architecture: str, **options: Any) -> dict[str, Any]:
    return {**_COMMON, "architectures": [f"{architecture}ForCausalLM"], "model_type": kind, **options}


_LLAMA = _base("llama", "Llama", hidden_act="silu", rms_norm_eps=1e-5, pad_token_id=None)
_MISTRAL = _base("mistral", "Mistral", sliding_window=8, tie_word_embeddings=False)
_QWEN2 = _base("qwen2", "Qwen2", num_key_value_heads=1)
_QWEN3 = _base("qwen3", "Qwen3", head_dim=32)
_PHI3 = _base("phi3", "Phi3", tie_word_embeddings=False)
_SMOLLM3 = _base("smollm3", "SmolLM3", no_rope_layer_interval=2)
_GRANITE = _base(
    "granite",
    "Granite",
    attention_multiplier=0.1,
    embedding_multiplier=3.0,
    residual_multiplier=0.3,
    logits_scaling=0.5,
)
_OLMO2 = _base("olmo2", "Olmo2", attention_bias=True)
_STABLELM = _base("stablelm", "StableLm", use_qkv_bias=True)
_GEMMA2 = _base(
    "gemma2",
    "Gemma2",
    hidden_size=48,
    head_dim=32,
    query_pre_attn_scalar=24,
    attn_logit_softcapping=3.0,
    final_logit_softcapping=4.0,
    sliding_window=8,
)
_GEMMA3 = _base("gemma3_text", "Gemma3", head_dim=32, query_pre_attn_scalar=24, sliding_window=8, rope_theta=None)

_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
_YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 4.0}
_AS_IN_GGUF = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.0, 1.5, 2.0, 3.0, 4.0, 4.0, 4.0],
    "long_factor": [1.0, 1.0, 1.5, 2.0, 3.0, 4.0, 4.0, 4.0],
    "attention_factor": 1.2,
    "original_max_position_embeddings": 16,
}
_LONGROPE = {
    "type": "longrope",
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
    "long_factor": [1.5, 2.0, 3.0, 5.0, 8.0, 12.0],
}
_PHI3_LONGROPE = _PHI3 | {"rope_scaling": _LONGROPE, "partial_rotary_factor": 0.75, "tie_word_embeddings": True}
_BY_LAYER_KIND = {
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
}
_FULL, _SLIDING = "full_attention", "sliding_attention"

DECODER_VARIANTS: dict[str, Variant] = {
    "llama": Variant(_LLAMA),
    "llama-bias-untied": Variant(
        _LLAMA, {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False, "hidden_act": "gelu"}
    ),
    "llama-head-dim": Variant(_LLAMA, {"head_dim": 32, "rope_theta": 500.0}),
    "llama-linear": Variant(_LLAMA, {"rope_scaling": {"type": "linear", "factor": 4.0}}),
    "llama-llama3": Variant(_LLAMA, {"rope_parameters": _LLAMA3, "rope_theta": None}),
    "llama-yarn": Variant(_LLAMA, {"rope_scaling": _YARN}),
    "llama-longrope": Variant(_LLAMA, {"rope_scaling": _AS_IN_GGUF}),
    "llama-mha": Variant(_LLAMA, {"num_key_value_heads": 4}),
    "llama-f16": Variant(_LLAMA, dtype="F16"),
    "llama-bf16": Variant(_LLAMA, dtype="BF16", shards=2),
    "llama-sharded": Variant(_LLAMA, {"tie_word_embeddings": False}, shards=3),
    "mistral": Variant(_MISTRAL),
    "qwen2": Variant(_QWEN2),
    "qwen2-windows": Variant(
        _QWEN2, {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1, "tie_word_embeddings": False}
    ),
    "qwen3": Variant(_QWEN3),
    "qwen3-windows": Variant(
        _QWEN3,
        {
            "use_sliding_window": True,
            "sliding_window": 8,
            "layer_types": [_SLIDING, _FULL, _SLIDING],
            "attention_bias": True,
        },
    ),
    "phi3": Variant(_PHI3, {"sliding_window": 8}),
    "phi3-longrope": Variant(_PHI3_LONGROPE, {"original_max_position_embeddings": 16}),
    "phi3-longrope-short": Variant(_PHI3_LONGROPE, {"original_max_position_embeddings": 32}),  # of recorded length
    "smollm3": Variant(_SMOLLM3),
    "smollm3-windows": Variant(
        _SMOLLM3,
        {
            "no_rope_layers": [0, 1, 1],
            "use_sliding_window": True,
            "sliding_window": 8,
            "attention_bias": True,
            "mlp_bias": True,
        },
    ),
    "granite": Variant(_GRANITE),
    "olmo2": Variant(_OLMO2),
    "stablelm": Variant(_STABLELM),
    "stablelm-parallel": Variant(
        _STABLELM,
        {
            "use_parallel_residual": True,
            "qk_layernorm": True,
            "use_qkv_bias": False,
            "partial_rotary_factor": 0.5,
            "tie_word_embeddings": False,
        },
    ),
    "gemma2": Variant(_GEMMA2),
    "gemma2-layer-types": Variant(
        _GEMMA2,
        {"layer_types": [_FULL, _SLIDING, _SLIDING], "attention_bias": True, "tie_word_embeddings": False},
        dtype="BF16",
    ),
    "gemma3": Variant(_GEMMA3, {"rope_parameters": _BY_LAYER_KIND, "layer_types": [_SLIDING, _FULL, _SLIDING]}),
    "gemma3-pattern": Variant(
        _GEMMA3,
        {
            "rope_theta": 5000.0,
            "rope_local_base_freq": 100.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "sliding_window_pattern": 2,
            "final_logit_softcapping": 4.0,
        },
    ),
}
"""Variants by name, to be merged into ``tests.tiny_models.VARIANTS``."""


def _shapes(c: dict[str, Any], prefix: str) -> Iterable[Shape]:
    hidden, vocab, kind = c["hidden_size"], c["vocab_size"], c["model_type"]
    yield "model.embed_tokens.weight", (vocab, hidden)
    for layer in range(c["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        for part, shape in _linears(c).items():
            yield f"{name}.{part}.weight", shape
            if _has_bias(c, part):
                yield f"{name}.{part}.bias", shape[:1]
        for norm, size in _norms(c).items():
            yield f"{name}.{norm}.weight", (size,)
            if kind == "stablelm" and ".norms." not in norm:
                yield f"{name}.{norm}.bias", (size,)
    yield "model.norm.weight", (hidden,)
    if kind == "stablelm":
        yield "model.norm.bias", (hidden,)
    if not c["tie_word_embeddings"]:
        yield "lm_head.weight", (vocab, hidden)


def _linears(c: dict[str, Any]) -> dict[str, tuple[int, int]]:
    hidden, inner = c["hidden_size"], c["intermediate_size"]
    q, kv = (c[key] * _head_dim(c) for key in ("num_attention_heads", "num_key_value_heads"))
    if c["model_type"] == "phi3":
        inputs = {"self_attn.qkv_proj": (q + 2 * kv, hidden), "mlp.gate_up_proj": (2 * inner, hidden)}
    else:
        inputs = {"self_attn.q_proj": (q, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden)}
        inputs |= {"mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden)}
    return inputs | {"self_attn.o_proj": (hidden, q), "mlp.down_proj": (hidden, inner)}


def _norms(c: dict[str, Any]) -> dict[str, int]:
    hidden, dim, kind = c["hidden_size"], _head_dim(c), c["model_type"]
    heads = {"q": c["num_attention_heads"], "k": c["num_key_value_heads"]}
    norms = {"input_layernorm": hidden, "post_attention_layernorm": hidden}
    if kind.startswith("gemma"):
        norms |= {"pre_feedforward_layernorm": hidden, "post_feedforward_layernorm": hidden}
    if kind in ("qwen3", "gemma3_text"):
        norms |= {"self_attn.q_norm": dim, "self_attn.k_norm": dim}
    if kind == "olmo2":
        norms |= {f"self_attn.{part}_norm": count * dim for part, count in heads.items()}
        norms["post_feedforward_layernorm"] = norms.pop("input_layernorm")
    if c.get("qk_layernorm"):
        each = ((part, head) for part, count in heads.items() for head in range(count))
        norms |= {f"self_attn.{part}_layernorm.norms.{head}": dim for part, head in each}
    if c.get("use_parallel_residual"):
        del norms["post_attention_layernorm"]
    return norms


def _has_bias(c: dict[str, Any], part: str) -> bool:
    if part.startswith("mlp"):
        return bool(c.get("mlp_bias"))
    of_inputs = c["model_type"] == "qwen2" or c.get("use_qkv_bias")
    return bool(c.get("attention_bias") or (of_inputs and "o_proj" not in part))


def _head_dim(c: dict[str, Any]) -> int:
    return int(c.get("head_dim", c["hidden_size"] // c["num_attention_heads"]))


DECODER_SHAPES: dict[str, Shapes] = dict.fromkeys((v.base["model_type"] for v in DECODER_VARIANTS.values()), _shapes)
"""The tensors of each family by its ``model_type``."""
