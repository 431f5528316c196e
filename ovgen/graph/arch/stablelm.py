"""StableLM 3B 4E1T and StableLM 2 (Bellagente et al. 2024, arXiv:2402.17834).

A Llama with LayerNorm in place of RMSNorm, positions that turn only the first part of each head, and options of its
own: a bias, normalised queries and keys, attention and MLP side by side.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ovgen.graph.arch.options import DecoderOptions, read_common
from ovgen.graph.blocks import layer_norm
from ovgen.graph.fields import Fields
from ovgen.graph.rope import read_rope

__all__ = ["read_stablelm"]


def read_stablelm(fields: Fields) -> DecoderOptions:
    """``model_type`` stablelm."""
    common = read_common(fields, epsilon_key="layer_norm_eps", epsilon=1e-5, rope=partial(read_rope, fraction=0.25))
    if common.head_dim * common.heads != common.hidden_size:
        raise fields.unsupported("head_dim", "only hidden_size / num_attention_heads")
    return replace(
        common,
        norm=layer_norm,
        qkv_bias=fields.flag("use_qkv_bias", False),
        qk_norm="each_head" if fields.flag("qk_layernorm", False) else None,
        parallel=fields.flag("use_parallel_residual", False),
    )
