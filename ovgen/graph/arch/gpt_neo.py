"""GPT-Neo (Black et al. 2021, https://doi.org/10.5281/zenodo.5297715).

GPT-2 with separate matrices for queries, keys and values, scores that are not scaled, and local attention in some
layers: a token sees only the nearest ones.
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
from ovgen.graph.fields import MOST, Fields
from ovgen.weights import Checkpoint

__all__ = ["GPTNeoConfig", "build"]


@dataclass(frozen=True, kw_only=True)
class GPTNeoConfig:
    """What ``config.json`` says; fields have the names and defaults of Hugging Face's ``GPTNeoConfig``.

    Attributes:
        windows: of each layer: how many tokens one sees, itself included; None: all before it.
    """

    vocab_size: int
    max_position_embeddings: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    activation_function: str
    layer_norm_epsilon: float
    tie_word_embeddings: bool
    windows: tuple[int | None, ...]

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> GPTNeoConfig:
        """The configuration, checked.

        Raises:
            CorruptFileError: a key is missing or has a value that no GPT-Neo can have.
            UnsupportedModelError: a key asks for something that is not implemented.
        """
        with Fields(config, "gpt_neo") as fields:
            size, heads, layers = (
                fields.size("hidden_size"),
                fields.size("num_heads"),
                fields.size("num_layers", most=MOST),
            )
            if size % heads:
                raise fields.corrupt("hidden_size", f"a multiple of num_heads={heads}", size)
            spans = {"global": None, "local": fields.size("window_size", 256)}
            listed = "attention_layers" in fields  # holds, as in Hugging Face, whatever attention_types says
            default = ["global"] * layers if listed else _expanded(config, fields, layers)
            kinds = fields.per_layer("attention_layers", default, spans)
            return cls(
                vocab_size=fields.size("vocab_size"),
                max_position_embeddings=fields.size("max_position_embeddings", 2048),
                hidden_size=size,
                num_layers=layers,
                num_heads=heads,
                intermediate_size=fields.size("intermediate_size", 4 * size),
                activation_function=fields.choice("activation_function", "gelu_new", ACTIVATIONS),
                layer_norm_epsilon=fields.number("layer_norm_epsilon", 1e-5),
                tie_word_embeddings=fields.flag("tie_word_embeddings", True),
                windows=tuple(spans[kind] for kind in kinds),
            )


def _expanded(config: Mapping[str, Any], fields: Fields, layers: int) -> list[Any]:
    """``[[["global", "local"], 2]]`` means global, local, global, local; one kind for each layer."""
    types = config.get("attention_types") or [[["global", "local"], 12]]
    try:
        kinds = [kind for pattern, count in types for kind in pattern * min(count, layers + 1)]
    except (TypeError, ValueError):
        kinds = []
    if len(kinds) != layers or not all(isinstance(kind, str) for kind in kinds):
        raise fields.corrupt("attention_types", f"lists of kinds and a count, num_layers={layers} in all", types)
    return kinds


def build(config: Mapping[str, Any], checkpoint: Checkpoint) -> ov.Model:
    """The causal LM form of a GPT-Neo; tensors are called ``transformer.…``.

    Raises:
        CorruptFileError: see ``GPTNeoConfig.parse``.
        UnsupportedModelError: see ``GPTNeoConfig.parse``.
        MissingTensorError: a weight is absent or of another shape.
    """
    c = GPTNeoConfig.parse(config)
    w = Constants(checkpoint)
    lm = CausalLM()
    vocabulary = (c.vocab_size, c.hidden_size)
    tokens = embedding("transformer.wte", lm.input_ids, w, vocabulary)
    positions = embedding("transformer.wpe", lm.position_ids, w, (c.max_position_embeddings, c.hidden_size))
    x = named(op.add(tokens, positions), "transformer.drop")
    for layer in range(c.num_layers):
        name = f"transformer.h.{layer}"
        h = layer_norm(f"{name}.ln_1", x, w, c.hidden_size, c.layer_norm_epsilon)
        x = named(op.add(x, _attention(f"{name}.attn.attention", layer, h, c, w, lm)), f"{name}/after_attention")
        h = layer_norm(f"{name}.ln_2", x, w, c.hidden_size, c.layer_norm_epsilon)
        x = named(op.add(x, _mlp(f"{name}.mlp", h, c, w)), name)
    x = layer_norm("transformer.ln_f", x, w, c.hidden_size, c.layer_norm_epsilon)
    return lm.model(head("lm_head", x, w, vocabulary, tied_to="transformer.wte" if c.tie_word_embeddings else None))


def _attention(name: str, layer: int, x: ov.Node, c: GPTNeoConfig, w: Constants, lm: CausalLM) -> ov.Node:
    square = (c.hidden_size, c.hidden_size)
    q, k, v = (
        split_heads(linear(f"{name}.{part}_proj", x, w, square), c.num_heads, c.hidden_size // c.num_heads)
        for part in "qkv"
    )
    y = lm.attend(name, layer, q, k, v, groups=1, scale=1.0, window=c.windows[layer])
    return linear(f"{name}.out_proj", y, w, square, bias=True)


def _mlp(name: str, x: ov.Node, c: GPTNeoConfig, w: Constants) -> ov.Node:
    wide = (c.intermediate_size, c.hidden_size)
    inner = ACTIVATIONS[c.activation_function](linear(f"{name}.c_fc", x, w, wide, bias=True))
    return linear(f"{name}.c_proj", inner, w, wide[::-1], bias=True)
