"""What decoders that descend from Llama differ in, and the part of ``config.json`` that they have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import openvino as ov

from ovgen.graph.blocks import ACTIVATIONS, rms_norm
from ovgen.graph.constants import Constants
from ovgen.graph.fields import MOST, Fields
from ovgen.graph.rope import Rope, read_rope

__all__ = ["DecoderOptions", "Norm", "read_common", "read_sliding", "read_windows"]

Norm: TypeAlias = Callable[[str, ov.Node, Constants, int, float], ov.Node]
"""A normalisation of ``ovgen.graph.blocks``: name, input, weights, size and epsilon."""

_FULL, _SLIDING = "full_attention", "sliding_attention"  # what layer_types calls them


@dataclass(frozen=True, kw_only=True)
class DecoderOptions:
    """A decoder: what has a default is an option that Llama does not take.

    Attributes:
        vocab_size: rows of the embedding and of the head.
        hidden_size: of the residual stream.
        intermediate_size: of the gated MLP.
        heads: attention heads.
        kv_heads: keys and values; each serves ``heads / kv_heads`` heads.
        head_dim: elements of a head.
        activation: of the MLP's gate, a key of ``ACTIVATIONS``.
        epsilon: of every normalisation.
        tied: the head is the embedding's table.
        ropes: for each layer, how positions turn its queries and keys; None: not at all.
        windows: for each layer, how many tokens a token sees, itself included; None: all before it.
        attention_scale: what scores are multiplied by.
        norm: which normalisation.
        before_attention: the norm's name in the layer; None where there is none.
        after_attention: that of attention's output, before it is added.
        before_mlp: likewise.
        after_mlp: likewise.
        parallel: attention and MLP take the same input, and ``before_mlp`` is not there.
        qk_norm: queries and keys are normalised: each ``head`` with the same weights, the whole ``projection`` at
            once, or ``each_head`` with weights of its own; None: they are not.
        qkv_bias: whether queries, keys and values have a bias.
        output_bias: whether attention's output has one.
        mlp_bias: whether the MLP's linear layers have one.
        fused: one matrix makes queries, keys and values, and one the MLP's gate and input.
        softcap: of attention scores: ``softcap * tanh(scores / softcap)``.
        embedding_scale: what embeddings are multiplied by.
        residual_scale: what is added to the residual stream is multiplied by it first.
        logits_divisor: what logits are divided by.
        logits_softcap: of logits.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    activation: str
    epsilon: float
    tied: bool
    ropes: tuple[Rope | None, ...]
    windows: tuple[int | None, ...]
    attention_scale: float
    norm: Norm = rms_norm
    before_attention: str | None = "input_layernorm"
    after_attention: str | None = None
    before_mlp: str | None = "post_attention_layernorm"
    after_mlp: str | None = None
    parallel: bool = False
    qk_norm: Literal["head", "projection", "each_head"] | None = None
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    fused: bool = False
    softcap: float | None = None
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logits_divisor: float = 1.0
    logits_softcap: float | None = None

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return len(self.windows)


def read_common(
    fields: Fields,
    *,
    activation_key: str = "hidden_act",
    activation: str = "silu",
    epsilon_key: str = "rms_norm_eps",
    epsilon: float = 1e-6,
    head_dim: int | None = None,
    tied: bool = False,
    rope: Callable[[Fields, int], Rope] = read_rope,
) -> DecoderOptions:
    """The options that every family has keys for; the rest as in Llama.

    Args:
        fields: the configuration.
        activation_key: what the activation's key is called.
        activation: the family's default, as all that follow.
        epsilon_key: what the normalisations' key is called.
        epsilon: see ``DecoderOptions``.
        head_dim: None where it is ``hidden_size / num_attention_heads``.
        tied: see ``DecoderOptions``.
        rope: reads the rotation of heads of so many elements, which is the same in all layers.

    Raises:
        CorruptFileError: a key is missing or has a value that no such model can have.
        UnsupportedModelError: a key asks for something that is not implemented.
    """
    hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    if hidden % heads and head_dim is None and "head_dim" not in fields:
        raise fields.corrupt("hidden_size", f"a multiple of num_attention_heads={heads}", hidden)
    kv_heads = fields.size("num_key_value_heads", heads)
    if heads % kv_heads:
        raise fields.corrupt("num_key_value_heads", f"a divisor of num_attention_heads={heads}", kv_heads)
    dim = fields.size("head_dim", head_dim or hidden // heads, most=MOST)
    if dim % 2:
        raise fields.corrupt("head_dim", "even, for rotary positions", dim)
    layers = fields.size("num_hidden_layers", most=MOST)
    return DecoderOptions(
        vocab_size=fields.size("vocab_size"),
        hidden_size=hidden,
        intermediate_size=fields.size("intermediate_size"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=dim,
        activation=fields.choice(activation_key, activation, ACTIVATIONS),
        epsilon=fields.number(epsilon_key, epsilon),
        tied=fields.flag("tie_word_embeddings", tied),
        ropes=(rope(fields, dim),) * layers,
        windows=(None,) * layers,
        attention_scale=dim**-0.5,
    )


def read_sliding(fields: Fields, default: list[bool]) -> list[bool]:
    """Which layers have a sliding window: ``layer_types``, or ``default`` where it is absent.

    Raises:
        CorruptFileError: ``layer_types`` is no list, or too short.
        UnsupportedModelError: a layer of another type.
    """
    kinds = [_SLIDING if sliding else _FULL for sliding in default]
    return [kind == _SLIDING for kind in fields.per_layer("layer_types", kinds, (_FULL, _SLIDING))]


def read_windows(fields: Fields, sliding: list[bool], default: int | None = None) -> tuple[int | None, ...]:
    """How many tokens a token sees in each layer: all before it, or those in ``sliding_window``.

    A window as long as the context is none: its mask would cost time and hide nothing.

    Args:
        fields: the configuration.
        sliding: which layers have a window.
        default: of ``sliding_window``; None: it must be there if a layer has one.

    Raises:
        CorruptFileError: a layer has a window, but ``sliding_window`` is missing or no length.
    """
    none = fields.is_null("sliding_window")
    if not any(sliding):
        return (None,) * len(sliding)
    window = fields.size("sliding_window", None if none else default)
    if "max_position_embeddings" in fields and window >= fields.size("max_position_embeddings"):
        return (None,) * len(sliding)
    return tuple(window if each else None for each in sliding)
