"""Granite 3 (IBM 2024, "Granite 3.0 Language Models"): a Llama with multipliers, as of muP (arXiv:2203.03466)."""

from __future__ import annotations

from dataclasses import replace

from ovgen.graph.arch.llama import read_llama
from ovgen.graph.arch.options import DecoderOptions
from ovgen.graph.fields import Fields

__all__ = ["read_granite"]


def read_granite(fields: Fields) -> DecoderOptions:
    """``model_type`` granite; ``attention_multiplier`` stands in place of ``head_dim ** -0.5``."""
    return replace(
        read_llama(fields),
        attention_scale=fields.number("attention_multiplier", 1.0),
        embedding_scale=fields.number("embedding_multiplier", 1.0),
        residual_scale=fields.number("residual_multiplier", 1.0),
        logits_divisor=fields.number("logits_scaling", 1.0),
    )
