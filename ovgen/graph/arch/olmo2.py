"""OLMo 2 (arXiv:2501.00656): normalises what attention and MLP give, not what they take, and queries and keys."""

from __future__ import annotations

from dataclasses import replace

from ovgen.graph.arch.options import DecoderOptions, read_common
from ovgen.graph.fields import Fields

__all__ = ["read_olmo2"]


def read_olmo2(fields: Fields) -> DecoderOptions:
    """``model_type`` olmo2."""
    bias = fields.flag("attention_bias", False)
    return replace(
        read_common(fields, epsilon=1e-5),
        before_attention=None,
        after_attention="post_attention_layernorm",
        before_mlp=None,
        after_mlp="post_feedforward_layernorm",
        qk_norm="projection",
        qkv_bias=bias,
        output_bias=bias,
    )
