"""Mistral 7B (Jiang et al. 2023, arXiv:2310.06825): a Llama whose tokens see a sliding window."""

from __future__ import annotations

from dataclasses import replace

from ovgen.graph.arch.options import DecoderOptions, read_common, read_windows
from ovgen.graph.fields import Fields

__all__ = ["read_mistral"]


def read_mistral(fields: Fields) -> DecoderOptions:
    """``model_type`` mistral; ``sliding_window`` null, as from version 0.2 on, means none."""
    common = read_common(fields)
    sliding = not fields.is_null("sliding_window")
    return replace(common, windows=read_windows(fields, [sliding] * common.layers, 4096))
