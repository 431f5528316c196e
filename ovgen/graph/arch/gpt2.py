"""GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners").

Learned positions, LayerNorm before attention and MLP, one matrix for queries, keys and values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import openvino as ov
import openvino.opset15 as op

from ovgen.graph.blocks import ACTIVATIONS, embedding, head, i64, layer_norm, linear, named
from ovgen.graph.causal_lm import CausalLM, split_heads
from ovgen.graph.constants import Constants
from ovgen.graph.fields import Fields
from ovgen.weights import Checkpoint

__all__ = ["GPT2Config", "build"]


@dataclass(frozen=True, kw_only=True)
class GPT2Config:
    """What ``config.json`` says; fields have the names and defaults of Hugging Face's ``GPT2Config``."""

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    n_inner: int
    activation_function: str
    layer_norm_epsilon: float
    scale_attn_weights: bool
    scale_attn_by_inverse_layer_idx: bool
    tie_word_embeddings: bool

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> GPT2Config:
        """The configuration, checked.

        Raises:
            CorruptFileError: a key is missing or has a value that no GPT-2 can have.
            UnsupportedModelError: a key asks for something that is not implemented.
        """
        with Fields(config, "gpt2") as fields:
            size, heads = fields.size("n_embd"), fields.size("n_head")
            if size % heads:
                raise fields.corrupt("n_embd", f"a multiple of n_head={heads}", size)
            return cls(
                vocab_size=fields.size("vocab_size"),
                n_positions=fields.size("n_positions", 1024),
                n_embd=size,
                n_layer=fields.size("n_layer"),
                n_head=heads,
                n_inner=fields.size("n_inner", 4 * size),
                activation_function=fields.choice("activation_function", "gelu_new", ACTIVATIONS),
                layer_norm_epsilon=fields.number("layer_norm_epsilon", 1e-5),
                scale_attn_weights=fields.flag("scale_attn_weights", True),
                scale_attn_by_inverse_layer_idx=fields.flag("scale_attn_by_inverse_layer_idx", False),
                tie_word_embeddings=fields.flag("tie_word_embeddings", True),
            )

    def scale(self, layer: int) -> float:
        """What attention scores of a layer, counted from 0, are multiplied by."""
        scale = (self.n_embd // self.n_head) ** -0.5 if self.scale_attn_weights else 1.0
        return scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale


def build(config: Mapping[str, Any], checkpoint: Checkpoint) -> ov.Model:
    """The causal LM form of a GPT-2; tensors are called ``transformer.…``, or without that in OpenAI's files.

    Raises:
        CorruptFileError: see ``GPT2Config.parse``.
        UnsupportedModelError: see ``GPT2Config.parse``.
        MissingTensorError: a weight is absent or of another shape.
    """
    c = GPT2Config.parse(config)
    w = Constants(checkpoint)
    lm = CausalLM()
    root = "transformer." if "transformer.wte.weight" in checkpoint else ""
    vocabulary = (c.vocab_size, c.n_embd)
    tokens = embedding(f"{root}wte", lm.input_ids, w, vocabulary)
    positions = embedding(f"{root}wpe", lm.position_ids, w, (c.n_positions, c.n_embd))
    x = named(op.add(tokens, positions), f"{root}drop")
    for layer in range(c.n_layer):
        name = f"{root}h.{layer}"
        h = layer_norm(f"{name}.ln_1", x, w, c.n_embd, c.layer_norm_epsilon)
        x = named(op.add(x, _attention(f"{name}.attn", layer, h, c, w, lm)), f"{name}/after_attention")
        h = layer_norm(f"{name}.ln_2", x, w, c.n_embd, c.layer_norm_epsilon)
        x = named(op.add(x, _mlp(f"{name}.mlp", h, c, w)), name)
    x = layer_norm(f"{root}ln_f", x, w, c.n_embd, c.layer_norm_epsilon)
    return lm.model(head("lm_head", x, w, vocabulary, tied_to=f"{root}wte" if c.tie_word_embeddings else None))


def _attention(name: str, layer: int, x: ov.Node, c: GPT2Config, w: Constants, lm: CausalLM) -> ov.Node:
    size = c.n_embd
    # Conv1D: the checkpoint holds (inputs, outputs). The outputs are queries, keys and values side by side.
    fused = linear(f"{name}.c_attn", x, w, (3 * size, size), bias=True, transposed=True)
    parts = op.split(fused, i64(-1), 3)
    q, k, v = (split_heads(part, c.n_head, size // c.n_head) for part in parts.outputs())
    y = lm.attend(name, layer, q, k, v, groups=1, scale=c.scale(layer))
    return linear(f"{name}.c_proj", y, w, (size, size), bias=True, transposed=True)


def _mlp(name: str, x: ov.Node, c: GPT2Config, w: Constants) -> ov.Node:
    wide = (c.n_inner, c.n_embd)
    inner = ACTIVATIONS[c.activation_function](linear(f"{name}.c_fc", x, w, wide, bias=True, transposed=True))
    return linear(f"{name}.c_proj", inner, w, wide[::-1], bias=True, transposed=True)
