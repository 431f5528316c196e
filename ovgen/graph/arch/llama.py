"""Llama (Touvron et al. 2023, arXiv:2302.13971) and its successors up to Llama 3 (arXiv:2407.21783).

RMSNorm, rotary positions, gated MLP, and, from Llama 2 on, queries in groups that share keys and values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as op
from numpy.typing import NDArray

from ovgen.graph.blocks import ACTIVATIONS, embedding, head, linear, named, rms_norm
from ovgen.graph.causal_lm import CausalLM, split_heads
from ovgen.graph.constants import Constants
from ovgen.graph.fields import Fields
from ovgen.graph.rope import Rotary, inverse_frequencies
from ovgen.weights import Checkpoint

__all__ = ["LlamaConfig", "build"]


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """What ``config.json`` says; fields have the names and defaults of Hugging Face's ``LlamaConfig``.

    Attributes:
        rope_frequencies: radians per position of each pair of a head's elements, ``(head_dim / 2,)``.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    hidden_act: str
    rms_norm_eps: float
    tie_word_embeddings: bool
    attention_bias: bool
    mlp_bias: bool
    rope_frequencies: NDArray[np.float32]

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> LlamaConfig:
        """The configuration, checked.

        Raises:
            CorruptFileError: a key is missing or has a value that no Llama can have.
            UnsupportedModelError: a key asks for something that is not implemented.
        """
        fields = Fields(config, "llama")
        hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
        if hidden % heads and "head_dim" not in fields:
            raise fields.corrupt("hidden_size", f"a multiple of num_attention_heads={heads}", hidden)
        kv_heads = fields.size("num_key_value_heads", heads)
        if heads % kv_heads:
            raise fields.corrupt("num_key_value_heads", f"a divisor of num_attention_heads={heads}", kv_heads)
        head_dim = fields.size("head_dim", hidden // heads)
        if head_dim % 2:
            raise fields.corrupt("head_dim", "even, for rotary positions", head_dim)
        return cls(
            vocab_size=fields.size("vocab_size"),
            hidden_size=hidden,
            intermediate_size=fields.size("intermediate_size"),
            num_hidden_layers=fields.size("num_hidden_layers"),
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_dim=head_dim,
            hidden_act=fields.choice("hidden_act", "silu", ACTIVATIONS),
            rms_norm_eps=fields.number("rms_norm_eps", 1e-6),
            tie_word_embeddings=fields.flag("tie_word_embeddings", False),
            attention_bias=fields.flag("attention_bias", False),
            mlp_bias=fields.flag("mlp_bias", False),
            rope_frequencies=inverse_frequencies(fields, head_dim),
        )


def build(config: Mapping[str, Any], checkpoint: Checkpoint) -> ov.Model:
    """The causal LM form of a Llama.

    Raises:
        CorruptFileError: see ``LlamaConfig.parse``.
        UnsupportedModelError: see ``LlamaConfig.parse``.
        MissingTensorError: a weight is absent or of another shape.
    """
    c = LlamaConfig.parse(config)
    w = Constants(checkpoint)
    lm = CausalLM()
    rotary = Rotary("model.rotary_emb", lm.position_ids, c.rope_frequencies)
    x = embedding("model.embed_tokens", lm.input_ids, w, (c.vocab_size, c.hidden_size))
    for layer in range(c.num_hidden_layers):
        name = f"model.layers.{layer}"
        h = rms_norm(f"{name}.input_layernorm", x, w, c.hidden_size, c.rms_norm_eps)
        attention = _attention(f"{name}.self_attn", layer, h, c, w, lm, rotary)
        x = named(op.add(x, attention), f"{name}/after_attention")
        h = rms_norm(f"{name}.post_attention_layernorm", x, w, c.hidden_size, c.rms_norm_eps)
        x = named(op.add(x, _mlp(f"{name}.mlp", h, c, w)), name)
    x = rms_norm("model.norm", x, w, c.hidden_size, c.rms_norm_eps)
    tied_to = "model.embed_tokens" if c.tie_word_embeddings else None
    return lm.model(head("lm_head", x, w, (c.vocab_size, c.hidden_size), tied_to=tied_to))


def _attention(
    name: str, layer: int, x: ov.Node, c: LlamaConfig, w: Constants, lm: CausalLM, rotary: Rotary
) -> ov.Node:
    heads, kv_heads, dim = c.num_attention_heads, c.num_key_value_heads, c.head_dim

    def project(part: str, count: int) -> ov.Node:
        y = linear(f"{name}.{part}", x, w, (count * dim, c.hidden_size), bias=c.attention_bias)
        return split_heads(y, count, dim)  # (b, count, t, dim)

    q = rotary.rotate(f"{name}.q_proj", project("q_proj", heads))
    k = rotary.rotate(f"{name}.k_proj", project("k_proj", kv_heads))
    v = project("v_proj", kv_heads)
    y = lm.attend(name, layer, q, k, v, groups=heads // kv_heads, scale=dim**-0.5)
    return linear(f"{name}.o_proj", y, w, (c.hidden_size, heads * dim), bias=c.attention_bias)


def _mlp(name: str, x: ov.Node, c: LlamaConfig, w: Constants) -> ov.Node:
    """SwiGLU (Shazeer 2020, arXiv:2002.05202): ``down(act(gate(x)) * up(x))``."""
    wide = (c.intermediate_size, c.hidden_size)
    gate = ACTIVATIONS[c.hidden_act](linear(f"{name}.gate_proj", x, w, wide, bias=c.mlp_bias))
    up = linear(f"{name}.up_proj", x, w, wide, bias=c.mlp_bias)
    return linear(f"{name}.down_proj", op.multiply(gate, up), w, wide[::-1], bias=c.mlp_bias)
