"""Qwen2 and Qwen2.5 (arXiv:2407.10671, arXiv:2412.15115), and Qwen3 (arXiv:2505.09388).

Llamas with a bias for queries, keys and values, or, from Qwen3 on, with normalised queries and keys; upper layers may
have a sliding window.
"""

from __future__ import annotations

from dataclasses import replace

from ovgen.graph.arch.options import DecoderOptions, read_common, read_sliding, read_windows
from ovgen.graph.fields import Fields

__all__ = ["read_qwen2", "read_qwen3"]


def read_qwen2(fields: Fields) -> DecoderOptions:
    """``model_type`` qwen2."""
    common = read_common(fields)
    return replace(common, qkv_bias=True, windows=_windows(fields, common.layers))


def read_qwen3(fields: Fields) -> DecoderOptions:
    """``model_type`` qwen3."""
    common = read_common(fields, head_dim=128)
    bias = fields.flag("attention_bias", False)
    return replace(common, qk_norm="head", qkv_bias=bias, output_bias=bias, windows=_windows(fields, common.layers))


def _windows(fields: Fields, layers: int) -> tuple[int | None, ...]:
    """The first ``max_window_layers`` layers see everything, the others a window, if windows are used at all."""
    sliding = [False] * layers
    if fields.flag("use_sliding_window", False) and not fields.is_null("sliding_window"):
        first = fields.size("max_window_layers", 28, least=0)
        sliding = read_sliding(fields, [layer >= first for layer in range(layers)])
    return read_windows(fields, sliding, 4096)
