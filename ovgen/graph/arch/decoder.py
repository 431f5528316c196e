"""The decoder that Llama (Touvron et al. 2023, arXiv:2302.13971) and its descendants share.

Embedding; layers of attention with rotary positions and a gated MLP, each normalised and added to a residual stream;
a last normalisation; the head. What families differ in is in ``DecoderOptions``. Shapes: b batch, t new tokens.
"""

from __future__ import annotations

import openvino as ov
import openvino.opset15 as op

from ovgen.graph.arch.options import DecoderOptions
from ovgen.graph.blocks import ACTIVATIONS, embedding, f32, head, head_norms, i64, linear, named
from ovgen.graph.causal_lm import CausalLM, split_heads
from ovgen.graph.constants import Constants
from ovgen.graph.rope import Rotary
from ovgen.weights import Checkpoint

__all__ = ["build_decoder"]


def build_decoder(options: DecoderOptions, checkpoint: Checkpoint) -> ov.Model:
    """The causal LM form of a decoder; tensors have the names that Hugging Face gives them in every such family.

    Raises:
        MissingTensorError: a weight is absent or of another shape.
        UnsupportedModelError: a weight has an element type that is not supported.
    """
    return _Decoder(options, checkpoint).model()


class _Decoder:
    def __init__(self, options: DecoderOptions, checkpoint: Checkpoint) -> None:
        self.options = options
        self.w = Constants(checkpoint)
        self.lm = CausalLM()
        ropes = dict.fromkeys(rope for rope in options.ropes if rope is not None)
        names = (f"model.rotary_emb{number or ''}" for number in range(len(ropes)))
        self.rotaries = {rope: Rotary(next(names), self.lm.position_ids, rope) for rope in ropes}

    def model(self) -> ov.Model:
        c = self.options
        sizes = (c.vocab_size, c.hidden_size)
        x = _scaled(embedding("model.embed_tokens", self.lm.input_ids, self.w, sizes), c.embedding_scale)
        for layer in range(c.layers):
            x = named(self.layer(f"model.layers.{layer}", layer, x), f"model.layers.{layer}")
        x = self.norm("model", "norm", x)
        logits = head("lm_head", x, self.w, sizes, tied_to="model.embed_tokens" if c.tied else None)
        if c.logits_divisor != 1.0:
            logits = op.divide(logits, f32(c.logits_divisor))
        if c.logits_softcap is not None:
            cap = f32(c.logits_softcap)
            logits = op.multiply(op.tanh(op.divide(logits, cap)), cap)
        return self.lm.model(logits)

    def layer(self, name: str, layer: int, x: ov.Node) -> ov.Node:
        """``(b, t, hidden)`` -> ``(b, t, hidden)``."""
        c = self.options
        h = self.norm(name, c.before_attention, x)
        attention = self.norm(name, c.after_attention, self.attention(f"{name}.self_attn", layer, h))
        x = named(op.add(x, _scaled(attention, c.residual_scale)), f"{name}/after_attention")
        if not c.parallel:
            h = self.norm(name, c.before_mlp, x)
        mlp = self.norm(name, c.after_mlp, self.mlp(f"{name}.mlp", h))
        return op.add(x, _scaled(mlp, c.residual_scale))

    def norm(self, name: str, part: str | None, x: ov.Node) -> ov.Node:
        c = self.options
        return x if part is None else c.norm(f"{name}.{part}", x, self.w, c.hidden_size, c.epsilon)

    def attention(self, name: str, layer: int, x: ov.Node) -> ov.Node:
        """``(b, t, hidden)`` -> ``(b, t, hidden)``, after what is in the layer's cache."""
        c = self.options
        q, k, v = self.queries_keys_values(name, x)
        q, k = self.heads(f"{name}.q", q, c.heads), self.heads(f"{name}.k", k, c.kv_heads)
        rope = c.ropes[layer]
        if rope is not None:
            rotary = self.rotaries[rope]
            q, k = rotary.rotate(f"{name}.q", q), rotary.rotate(f"{name}.k", k)
        y = self.lm.attend(
            name,
            layer,
            q,
            k,
            split_heads(v, c.kv_heads, c.head_dim),
            groups=c.heads // c.kv_heads,
            scale=c.attention_scale,
            window=c.windows[layer],
            softcap=c.softcap,
        )
        sizes = (c.hidden_size, c.heads * c.head_dim)
        return linear(f"{name}.o_proj", y, self.w, sizes, bias=c.output_bias)

    def queries_keys_values(self, name: str, x: ov.Node) -> list[ov.Node]:
        """``(b, t, hidden)`` -> ``(b, t, heads * dim)`` and two ``(b, t, kv_heads * dim)``."""
        c = self.options
        counts = [c.heads * c.head_dim, c.kv_heads * c.head_dim, c.kv_heads * c.head_dim]
        if c.fused:
            every = linear(f"{name}.qkv_proj", x, self.w, (sum(counts), c.hidden_size), bias=c.qkv_bias)
            parts: list[ov.Node] = op.variadic_split(every, i64(-1), i64(counts)).outputs()
            return parts
        return [
            linear(f"{name}.{part}_proj", x, self.w, (count, c.hidden_size), bias=c.qkv_bias)
            for part, count in zip("qkv", counts, strict=True)
        ]

    def heads(self, name: str, x: ov.Node, count: int) -> ov.Node:
        """Queries or keys ``(b, t, count * dim)`` -> ``(b, count, t, dim)``, normalised if the family does.

        Transposed last, because plugins fuse that with the rotation.
        """
        c = self.options
        if c.qk_norm == "projection":
            x = c.norm(f"{name}_norm", x, self.w, count * c.head_dim, c.epsilon)
        x = op.reshape(x, i64([0, 0, count, c.head_dim]), True)
        if c.qk_norm == "head":
            x = c.norm(f"{name}_norm", x, self.w, c.head_dim, c.epsilon)
        elif c.qk_norm == "each_head":
            x = head_norms(f"{name}_layernorm", x, self.w, (count, c.head_dim), c.epsilon)
        return op.transpose(x, i64([0, 2, 1, 3]))

    def mlp(self, name: str, x: ov.Node) -> ov.Node:
        """SwiGLU (Shazeer 2020, arXiv:2002.05202) or its like: ``down(act(gate(x)) * up(x))``."""
        c = self.options
        wide = (c.intermediate_size, c.hidden_size)
        if c.fused:
            both = linear(f"{name}.gate_up_proj", x, self.w, (2 * wide[0], wide[1]), bias=c.mlp_bias)
            gate, up = op.split(both, i64(-1), 2).outputs()
        else:
            gate, up = (linear(f"{name}.{part}_proj", x, self.w, wide, bias=c.mlp_bias) for part in ("gate", "up"))
        inner = op.multiply(ACTIVATIONS[c.activation](gate), up)
        return linear(f"{name}.down_proj", inner, self.w, wide[::-1], bias=c.mlp_bias)


def _scaled(x: ov.Node, scale: float) -> ov.Node:
    return x if scale == 1.0 else op.multiply(x, f32(scale))
