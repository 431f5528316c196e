"""The causal LM form: inputs, attention mask, KV cache and output that every architecture shares.

It is the form of optimum-intel and openvino.genai, so each can run what the other builds, and the pattern
that OpenVINO's paged-attention transformation recognises. Shapes: b batch, t new tokens, s tokens in all.
"""

from __future__ import annotations

import numpy as np
import openvino as ov
import openvino.opset15 as op

from ovgen.graph.blocks import f32, i64, named

__all__ = ["CausalLM"]


class CausalLM:
    """A model under construction: what its layers attend to, and what they leave in the cache.

    Attributes:
        input_ids: ``(b, t)`` int64.
        attention_mask: ``(b, s)`` int64: 1 for tokens, 0 for padding.
        position_ids: ``(b, t)`` int64.
        beam_idx: ``(b,)`` int32: which row of the cache each row of this call goes on from.
    """

    def __init__(self) -> None:
        self.input_ids = _parameter("input_ids", [-1, -1], ov.Type.i64)
        self.attention_mask = _parameter("attention_mask", [-1, -1], ov.Type.i64)
        self.position_ids = _parameter("position_ids", [-1, -1], ov.Type.i64)
        self.beam_idx = _parameter("beam_idx", [-1], ov.Type.i32)
        self._batch = op.gather(op.shape_of(self.input_ids, "i64"), i64([0]), i64(0))  # (1,)
        self._masks: dict[int | None, ov.Node] = {}  # by window; layers share them
        self._assigns: list[ov.Node] = []

    def _mask(self, window: int | None) -> ov.Node:
        """What is added to the scores, ``(b, 1, t, s)`` float32: 0 where a token may look, else very low."""
        if window not in self._masks:
            self._masks[window] = self._causal_mask(window)
        return self._masks[window]

    def _causal_mask(self, window: int | None) -> ov.Node:
        new = op.gather(op.shape_of(self.input_ids, "i64"), i64(1), i64(0))
        total = op.gather(op.shape_of(self.attention_mask, "i64"), i64(1), i64(0))
        rows = op.unsqueeze(op.range(op.subtract(total, new), total, i64(1), "i64"), i64([0, 1, 3]))  # (1, 1, t, 1)
        columns = op.unsqueeze(op.range(i64(0), total, i64(1), "i64"), i64([0, 1, 2]))  # (1, 1, 1, s)
        causal = op.less_equal(columns, rows)  # (1, 1, t, s)
        present = op.convert(op.unsqueeze(self.attention_mask, i64([1, 2])), "boolean")  # (b, 1, 1, s)
        if window is None:
            visible, name = op.logical_and(causal, present), "attention_mask/additive"
        else:
            visible, name = _windowed(causal, present, rows, columns, window), f"attention_mask/window_{window}"
        # Half of the lowest float: rows of padding see nothing, and lowest + lowest would be -inf, then NaN.
        low = f32(float(np.finfo(np.float32).min) / 2)
        return named(op.select(visible, f32(0.0), low), name)

    def attend(
        self,
        name: str,
        layer: int,
        q: ov.Node,
        k: ov.Node,
        v: ov.Node,
        *,
        groups: int,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
    ) -> ov.Node:
        """Scaled dot-product attention (arXiv:1706.03762) over the cache and the new tokens.

        The new keys and values go into the cache of ``layer``; with grouped queries (arXiv:2305.13245) each
        of them serves ``groups`` heads.

        Args:
            name: the attention module.
            layer: counts from 0.
            q: ``(b, heads, t, d)``, heads and d static.
            k: ``(b, heads / groups, t, d)``.
            v: ``(b, heads / groups, t, d)``.
            groups: heads that share a key and a value.
            scale: what scores are multiplied by.
            window: a token sees itself and the ``window - 1`` before it; None: all before it.
            softcap: scaled scores become ``softcap * tanh(scores / softcap)`` (Gemma 2, arXiv:2408.00118).

        Returns:
            ``(b, t, heads * d)``.
        """
        k = _repeat(self._cached(k, layer, "key"), self._batch, groups)
        v = _repeat(self._cached(v, layer, "value"), self._batch, groups)
        mask = self._mask(window)
        if softcap is None:
            y = op.scaled_dot_product_attention(q, k, v, mask, f32(scale), causal=False)
        else:
            y = _capped_attention(q, k, v, mask, scale, softcap)
        return merge_heads(named(y, f"{name}/sdpa"))

    def _cached(self, new: ov.Node, layer: int, kind: str) -> ov.Node:
        """The cache of a layer with ``new`` at its end, ``(b, heads, s, d)``; kept for the next call."""
        _, heads, _, dim = new.get_output_partial_shape(0)
        heads, dim = heads.get_length(), dim.get_length()
        name = f"past_key_values.{layer}.{kind}"
        variable = f"{name}present.{layer}.{kind}"  # the name that optimum-intel gives it
        empty = op.broadcast(f32(0.0), op.concat([self._batch, i64([heads, 0, dim])], 0))
        past = named(op.read_value(empty, variable, ov.Type.f32, ov.PartialShape([-1, heads, -1, dim])), name)
        full = op.concat([op.gather(past, self.beam_idx, i64(0)), new], 2)
        self._assigns.append(named(op.assign(full, variable), f"present.{layer}.{kind}"))
        return named(full, f"{name}/with_new")

    def model(self, logits: ov.Node) -> ov.Model:
        """The finished model: ``logits`` is ``(b, t, vocab)`` float32.

        Constants own or share their memory: nothing else must be kept alive for the model.
        """
        logits.output(0).set_names({"logits"})
        result = named(op.result(logits), "logits")
        inputs = [self.input_ids, self.attention_mask, self.position_ids, self.beam_idx]
        model = ov.Model([result], self._assigns, inputs, "causal_lm")
        _name_the_rest(model)
        return model


def split_heads(x: ov.Node, heads: int, dim: int) -> ov.Node:
    """``(b, t, heads * dim)`` -> ``(b, heads, t, dim)``."""
    return op.transpose(op.reshape(x, i64([0, 0, heads, dim]), True), i64([0, 2, 1, 3]))


def merge_heads(x: ov.Node) -> ov.Node:
    """``(b, heads, t, dim)`` -> ``(b, t, heads * dim)``."""
    _, heads, _, dim = x.get_output_partial_shape(0)
    size = heads.get_length() * dim.get_length()
    return op.reshape(op.transpose(x, i64([0, 2, 1, 3])), i64([0, 0, size]), True)


def _windowed(causal: ov.Node, present: ov.Node, rows: ov.Node, columns: ov.Node, window: int) -> ov.Node:
    """Which tokens a window leaves visible, ``(b, 1, t, s)`` boolean.

    The detours are for readers of the IR: OpenVINO's paged-attention transformation takes the window from the one chain
    of operations that Hugging Face's exports have, and anywhere else it goes on without a window and says nothing.
    """
    true = op.constant(np.array(True))
    near = op.greater(columns, op.add(rows, i64(-window)))  # (1, 1, t, s)
    visible = op.bitwise_and(true, op.bitwise_and(op.bitwise_and(true, near), causal))
    visible = op.bitwise_and(visible, present)
    return op.broadcast(visible, op.shape_of(visible, "i64"))


def _capped_attention(q: ov.Node, k: ov.Node, v: ov.Node, mask: ov.Node, scale: float, softcap: float) -> ov.Node:
    """Attention step by step, because OpenVINO's own operation has no place for the cap."""
    scores = op.multiply(op.matmul(q, k, False, True), f32(scale / softcap))  # (b, heads, t, s)
    capped = op.multiply(op.tanh(scores), f32(softcap))
    return op.matmul(op.softmax(op.add(capped, mask), -1), v, False, False)


def _parameter(name: str, shape: list[int], dtype: ov.Type) -> ov.Node:
    node = op.parameter(shape, dtype, name=name)
    node.output(0).set_names({name})
    return node


def _repeat(x: ov.Node, batch: ov.Node, groups: int) -> ov.Node:
    """Each head ``groups`` times: ``(b, heads, s, d)`` -> ``(b, heads * groups, s, d)``."""
    if groups == 1:
        return x
    _, heads, _, dim = x.get_output_partial_shape(0)
    heads, dim = heads.get_length(), dim.get_length()
    shape = op.concat([batch, i64([heads, groups, 1, 1])], 0)
    spread = op.broadcast(op.unsqueeze(x, i64(2)), shape, broadcast_spec="BIDIRECTIONAL")
    return op.reshape(spread, i64([0, heads * groups, -1, dim]), True)


def _name_the_rest(model: ov.Model) -> None:
    """Name inner nodes after the module they feed, so that the graph reads as the Hugging Face model does."""
    counts: dict[str, int] = {}
    ordered = model.get_ordered_ops()
    place = {node.get_name(): number for number, node in enumerate(ordered)}
    for node in reversed(ordered):
        if node.get_friendly_name() != node.get_name():
            continue  # named where it was made
        users = (port.get_node() for port in node.output(0).get_target_inputs())  # a set, in no particular order
        user = min(users, key=lambda node: place[node.get_name()]).get_friendly_name()
        base = f"{user.split('/')[0]}/{node.get_type_name()}"
        counts[base] = counts.get(base, -1) + 1
        node.set_friendly_name(f"{base}_{counts[base]}" if counts[base] else base)
