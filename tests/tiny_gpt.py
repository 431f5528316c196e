"""Small models of GPT-2 and its relatives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.tiny_variant import Shape, Shapes, Variant

__all__ = ["GPT_SHAPES", "GPT_VARIANTS"]

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
_GPT_NEO = {
    "architectures": ["GPTNeoForCausalLM"],
    "model_type": "gpt_neo",
    "vocab_size": 300,
    "max_position_embeddings": 128,
    "hidden_size": 32,
    "num_layers": 3,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 1], [["local"], 1]],
    "window_size": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GPT_NEOX = {
    "architectures": ["GPTNeoXForCausalLM"],
    "model_type": "gpt_neox",
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "hidden_act": "gelu",
    "max_position_embeddings": 256,
    "rotary_pct": 0.25,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

GPT_VARIANTS: dict[str, Variant] = {
    "gpt2": Variant(_GPT2),
    "gpt2-inverse-layer": Variant(
        _GPT2, {"scale_attn_by_inverse_layer_idx": True, "n_inner": 96, "activation_function": "relu"}, prefix=""
    ),
    "gpt2-unscaled": Variant(_GPT2, {"scale_attn_weights": False, "tie_word_embeddings": False}),
    "gpt2-f16": Variant(_GPT2, dtype="F16"),
    "gpt2-bf16": Variant(_GPT2, dtype="BF16"),
    "distilgpt2": Variant(_GPT2, {"n_ctx": 128, "embd_pdrop": 0.1, "summary_type": "cls_index"}),
    "gpt-neo": Variant(_GPT_NEO),
    "gpt-neo-untied": Variant(
        _GPT_NEO,
        {
            "attention_types": [[["local", "global"], 1], [["global"], 1]],
            "attention_layers": ["local", "global", "global"],
            "window_size": 5,
            "intermediate_size": 96,
            "activation_function": "relu",
            "tie_word_embeddings": False,
        },
    ),
    "gpt-neo-f16": Variant(_GPT_NEO, dtype="F16"),
    "gpt-neox": Variant(_GPT_NEOX),
    "gpt-neox-sequential": Variant(
        _GPT_NEOX,
        {
            "use_parallel_residual": False,
            "rotary_pct": 0.5,
            "rotary_emb_base": 500,
            "attention_bias": False,
            "hidden_act": "gelu_new",
            "tie_word_embeddings": True,
        },
    ),
    "gpt-neox-linear": Variant(
        _GPT_NEOX,
        {
            "hidden_act": "gelu_fast",
            "rotary_pct": None,
            "rope_parameters": {
                "rope_type": "linear",
                "factor": 4.0,
                "rope_theta": 500.0,
                "partial_rotary_factor": 1.0,
            },
        },
    ),
    "gpt-neox-f16": Variant(_GPT_NEOX, dtype="F16"),
}
"""Variants by name, to be merged into ``tests.tiny_models.VARIANTS``."""


def _gpt2_shapes(c: dict[str, Any], prefix: str) -> Iterable[Shape]:
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


def _gpt_neo_shapes(c: dict[str, Any], prefix: str) -> Iterable[Shape]:
    size = c["hidden_size"]
    inner = c.get("intermediate_size", 4 * size)
    yield f"{prefix}wte.weight", (c["vocab_size"], size)
    yield f"{prefix}wpe.weight", (c["max_position_embeddings"], size)
    for layer in range(c["num_layers"]):
        name = f"{prefix}h.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"{name}.attn.attention.{part}.weight", (size, size)
        yield f"{name}.attn.attention.out_proj.bias", (size,)
        yield from _with_bias(f"{name}.mlp.c_fc", (inner, size))
        yield from _with_bias(f"{name}.mlp.c_proj", (size, inner))
        yield from _with_bias(f"{name}.ln_1", (size,))
        yield from _with_bias(f"{name}.ln_2", (size,))
    yield from _with_bias(f"{prefix}ln_f", (size,))
    if not c.get("tie_word_embeddings", True):
        yield "lm_head.weight", (c["vocab_size"], size)


def _gpt_neox_shapes(c: dict[str, Any], prefix: str) -> Iterable[Shape]:
    size, inner = c["hidden_size"], c["intermediate_size"]
    linears = {"attention.query_key_value": (3 * size, size), "attention.dense": (size, size)}
    linears |= {"mlp.dense_h_to_4h": (inner, size), "mlp.dense_4h_to_h": (size, inner)}
    yield "gpt_neox.embed_in.weight", (c["vocab_size"], size)
    for layer in range(c["num_hidden_layers"]):
        name = f"gpt_neox.layers.{layer}"
        for part, shape in linears.items():
            yield f"{name}.{part}.weight", shape
            if "mlp" in part or c.get("attention_bias", True):
                yield f"{name}.{part}.bias", shape[:1]
        yield from _with_bias(f"{name}.input_layernorm", (size,))
        yield from _with_bias(f"{name}.post_attention_layernorm", (size,))
    yield from _with_bias("gpt_neox.final_layer_norm", (size,))
    if not c.get("tie_word_embeddings", False):
        yield "embed_out.weight", (c["vocab_size"], size)


def _with_bias(name: str, shape: tuple[int, ...]) -> Iterable[Shape]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


GPT_SHAPES: dict[str, Shapes] = {"gpt2": _gpt2_shapes, "gpt_neo": _gpt_neo_shapes, "gpt_neox": _gpt_neox_shapes}
"""The tensors of each family by its ``model_type``."""
