"""Llama (Touvron et al. 2023, arXiv:2302.13971) and its successors up to Llama 3 (arXiv:2407.21783).

RMSNorm, rotary positions, gated MLP, and, from Llama 2 on, queries in groups that share keys and values. SmolLM2 and
many others have this architecture and its ``model_type``.
"""

from __future__ import annotations

from dataclasses import replace

from ovgen.graph.arch.options import DecoderOptions, read_common
from ovgen.graph.fields import Fields

__all__ = ["read_llama"]


def read_llama(fields: Fields) -> DecoderOptions:
    """``model_type`` llama."""
    bias = fields.flag("attention_bias", False)
    common = read_common(fields)
    return replace(common, qkv_bias=bias, output_bias=bias, mlp_bias=fields.flag("mlp_bias", False))
