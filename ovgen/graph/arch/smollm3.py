"""SmolLM3 (Hugging Face 2025): a Llama some of whose layers know no positions (NoPE, arXiv:2501.18795)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ovgen.graph.arch.options import DecoderOptions, read_common, read_sliding, read_windows
from ovgen.graph.fields import Fields
from ovgen.graph.rope import read_rope

__all__ = ["read_smollm3"]


def read_smollm3(fields: Fields) -> DecoderOptions:
    """``model_type`` smollm3; ``no_rope_layers`` has a 0 for each layer without positions, 1 for the others."""
    common = read_common(fields, rope=partial(read_rope, theta=2000000.0), tied=True)
    interval, numbers = fields.size("no_rope_layer_interval", 4), range(1, common.layers + 1)
    turning = fields.per_layer("no_rope_layers", [int(number % interval != 0) for number in numbers], (0, 1))
    sliding = fields.flag("use_sliding_window", False) and "sliding_window" in fields
    bias = fields.flag("attention_bias", False)
    return replace(
        common,
        ropes=tuple(rope if turns else None for rope, turns in zip(common.ropes, turning, strict=True)),
        windows=read_windows(fields, read_sliding(fields, [sliding and not turns for turns in turning])),
        qkv_bias=bias,
        output_bias=bias,
        mlp_bias=fields.flag("mlp_bias", False),
    )
