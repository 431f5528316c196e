"""GPT-NeoX (Black et al. 2022, arXiv:2204.06745), and Pythia (arXiv:2304.01373).

LayerNorm, rotary positions on the first part of each head, one matrix for queries, keys and values, and attention and
MLP side by side: both read the same residual stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import openvino as ov
import openvino.opset15 as op

from ovgen.graph.blocks import ACTIVATIONS, embedding, head, layer_norm, linear, named
from ovgen.graph.causal_lm import CausalLM, split_heads
from ovgen.graph.constants import Constants
from ovgen.graph.fields import Fields
from ovgen.graph.rope import Rope, Rotary, read_rope
from ovgen.weights import Checkpoint

__all__ = ["GPTNeoXConfig", "build"]


@dataclass(frozen=True, kw_only=True)
class GPTNeoXConfig:
    """What ``config.json`` says; fields have the names and defaults of Hugging Face's ``GPTNeoXConfig``.

    Attributes:
        rope: the rotation of positions.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: str
    layer_norm_eps: float
    tie_word_embeddings: bool
    use_parallel_residual: bool
    attention_bias: bool
    rope: Rope

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> GPTNeoXConfig:
        """The configuration, checked.

        Raises:
            CorruptFileError: a key is missing or has a value that no GPT-NeoX can have.
            UnsupportedModelError: a key asks for something that is not implemented.
        """
        with Fields(config, "gpt_neox") as fields:
            size, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
            if size % heads:
                raise fields.corrupt("hidden_size", f"a multiple of num_attention_heads={heads}", size)
            base = _by_either_name(fields, "rotary_emb_base", "rope_theta", 10000.0)
            fraction = _by_either_name(fields, "rotary_pct", "partial_rotary_factor", 0.25)
            return cls(
                vocab_size=fields.size("vocab_size"),
                hidden_size=size,
                num_hidden_layers=fields.size("num_hidden_layers"),
                num_attention_heads=heads,
                intermediate_size=fields.size("intermediate_size"),
                hidden_act=fields.choice("hidden_act", "gelu", ACTIVATIONS),
                layer_norm_eps=fields.number("layer_norm_eps", 1e-5),
                tie_word_embeddings=fields.flag("tie_word_embeddings", False),
                use_parallel_residual=fields.flag("use_parallel_residual", True),
                attention_bias=fields.flag("attention_bias", True),
                rope=read_rope(fields, size // heads, theta=base, fraction=fraction),
            )


def _by_either_name(fields: Fields, old: str, new: str, default: float) -> float:
    """A number that was renamed. Versions of Hugging Face differ in which name holds: both must say the same."""
    value = fields.number(new, fields.number(old, default))
    if old in fields and value != fields.number(old):
        raise fields.corrupt(new, f"equal to {old}={fields.number(old)}", value)
    return value


def build(config: Mapping[str, Any], checkpoint: Checkpoint) -> ov.Model:
    """The causal LM form of a GPT-NeoX.

    Raises:
        CorruptFileError: see ``GPTNeoXConfig.parse``.
        UnsupportedModelError: see ``GPTNeoXConfig.parse``.
        MissingTensorError: a weight is absent or of another shape.
    """
    c = GPTNeoXConfig.parse(config)
    w = Constants(checkpoint)
    lm = CausalLM()
    rotary = Rotary("gpt_neox.rotary_emb", lm.position_ids, c.rope)
    vocabulary = (c.vocab_size, c.hidden_size)
    x = embedding("gpt_neox.embed_in", lm.input_ids, w, vocabulary)
    for layer in range(c.num_hidden_layers):
        name = f"gpt_neox.layers.{layer}"
        h = layer_norm(f"{name}.input_layernorm", x, w, c.hidden_size, c.layer_norm_eps)
        after = named(op.add(x, _attention(name, layer, h, c, w, lm, rotary)), f"{name}/after_attention")
        seen = x if c.use_parallel_residual else after
        h = layer_norm(f"{name}.post_attention_layernorm", seen, w, c.hidden_size, c.layer_norm_eps)
        x = named(op.add(after, _mlp(f"{name}.mlp", h, c, w)), name)
    x = layer_norm("gpt_neox.final_layer_norm", x, w, c.hidden_size, c.layer_norm_eps)
    return lm.model(head("embed_out", x, w, vocabulary, tied_to="gpt_neox.embed_in" if c.tie_word_embeddings else None))


def _attention(
    layer_name: str, layer: int, x: ov.Node, c: GPTNeoXConfig, w: Constants, lm: CausalLM, rotary: Rotary
) -> ov.Node:
    name, size, heads = f"{layer_name}.attention", c.hidden_size, c.num_attention_heads
    dim = size // heads
    fused = linear(f"{name}.query_key_value", x, w, (3 * size, size), bias=c.attention_bias)
    # Outputs lie head by head: query, key and value of the first, then of the second, ….
    every = split_heads(fused, heads, 3 * dim)  # (b, heads, t, 3 * dim)
    q, k, v = (op.slice(every, [part * dim], [(part + 1) * dim], [1], [3]) for part in range(3))
    q, k = rotary.rotate(f"{name}.q", q), rotary.rotate(f"{name}.k", k)
    y = lm.attend(name, layer, q, k, v, groups=1, scale=dim**-0.5)
    return linear(f"{name}.dense", y, w, (size, size), bias=c.attention_bias)


def _mlp(name: str, x: ov.Node, c: GPTNeoXConfig, w: Constants) -> ov.Node:
    wide = (c.intermediate_size, c.hidden_size)
    inner = ACTIVATIONS[c.hidden_act](linear(f"{name}.dense_h_to_4h", x, w, wide, bias=True))
    return linear(f"{name}.dense_4h_to_h", inner, w, wide[::-1], bias=True)
