"""Phi-3, Phi-3.5 (arXiv:2404.14219), Phi-4 and Phi-4-mini (arXiv:2503.01743).

Llamas with one matrix for queries, keys and values and one for the MLP's gate and input; long contexts by LongRoPE,
and in Phi-4-mini positions that turn only a part of each head.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ovgen.graph.arch.options import DecoderOptions, read_common, read_windows
from ovgen.graph.fields import Fields
from ovgen.graph.rope import read_rope

__all__ = ["read_phi3"]


def read_phi3(fields: Fields) -> DecoderOptions:
    """``model_type`` phi3."""
    common = read_common(fields, epsilon=1e-5, rope=partial(read_rope, fraction=1.0))
    sliding = "sliding_window" in fields
    return replace(common, fused=True, windows=read_windows(fields, [sliding] * common.layers))
