"""Gemma 2 (arXiv:2408.00118) and the text half of Gemma 3 (arXiv:2503.19786).

Embeddings scaled by ``sqrt(hidden)``, norms before and after attention and MLP whose stored weight is the gain less
one, layers with a sliding window among layers without. Gemma 2 caps attention scores and logits; Gemma 3 normalises
queries and keys and has a rotary base for each kind of layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ovgen.graph.arch.options import DecoderOptions, read_common, read_sliding, read_windows
from ovgen.graph.blocks import rms_norm
from ovgen.graph.fields import Fields
from ovgen.graph.rope import Rope, read_rope, stretched_rope

__all__ = ["read_gemma2", "read_gemma3"]


def read_gemma2(fields: Fields) -> DecoderOptions:
    """``model_type`` gemma2: every other layer, beginning with the first, has a window."""
    common = _read_gemma(fields, read_rope)
    sliding = read_sliding(fields, [layer % 2 == 0 for layer in range(common.layers)])
    return replace(
        common,
        windows=read_windows(fields, sliding, 4096),
        softcap=_softcap(fields, "attn_logit_softcapping", 50.0),
        logits_softcap=_softcap(fields, "final_logit_softcapping", 30.0),
    )


def read_gemma3(fields: Fields) -> DecoderOptions:
    """``model_type`` gemma3_text: every sixth layer has no window, and positions of its own."""
    common = _read_gemma(fields, _global_rope)
    every = fields.size("sliding_window_pattern", 6)
    sliding = read_sliding(fields, [number % every != 0 for number in range(1, common.layers + 1)])
    local = _local_rope(fields, common.head_dim)
    return replace(
        common,
        ropes=tuple(local if each else rope for each, rope in zip(sliding, common.ropes, strict=True)),
        windows=read_windows(fields, sliding, 4096),
        qk_norm="head",
        logits_softcap=_softcap(fields, "final_logit_softcapping", None),
    )


def _read_gemma(fields: Fields, rope: Callable[[Fields, int], Rope]) -> DecoderOptions:
    common = read_common(
        fields,
        activation_key="hidden_activation",
        activation="gelu_pytorch_tanh",
        head_dim=256,
        tied=True,
        rope=rope,
    )
    bias = fields.flag("attention_bias", False)
    return replace(
        common,
        norm=partial(rms_norm, offset=1.0),
        after_attention="post_attention_layernorm",
        before_mlp="pre_feedforward_layernorm",
        after_mlp="post_feedforward_layernorm",
        # Hugging Face rounds the root to the type it computes in, which here is float32 whatever weights are stored in.
        embedding_scale=common.hidden_size**0.5,
        attention_scale=fields.number("query_pre_attn_scalar", 256.0) ** -0.5,
        qkv_bias=bias,
        output_bias=bias,
    )


def _global_rope(fields: Fields, head_dim: int) -> Rope:
    """Of layers without a window: ``rope_theta`` and ``rope_scaling``, or a part of ``rope_parameters``."""
    section = fields.section("rope_scaling")
    if "rope_parameters" in fields:
        if "rope_scaling" in fields:
            raise fields.unsupported("rope_scaling", "not beside rope_parameters")
        if "full_attention" not in fields.section("rope_parameters"):
            raise fields.unsupported("rope_parameters", "only an object for each kind of layer")
        section = fields.section("rope_parameters").section("full_attention")
    return stretched_rope(fields, section, head_dim, fields.number("rope_theta", 1000000.0))


def _local_rope(fields: Fields, head_dim: int) -> Rope:
    """Of layers with a window: ``rope_local_base_freq``, or a part of ``rope_parameters``."""
    section = fields.section("rope_parameters").section("sliding_attention")
    return stretched_rope(fields, section, head_dim, fields.number("rope_local_base_freq", 10000.0))


def _softcap(fields: Fields, key: str, default: float | None) -> float | None:
    """Null means none."""
    if fields.is_null(key) or (default is None and key not in fields):
        return None
    return fields.number(key, default)
