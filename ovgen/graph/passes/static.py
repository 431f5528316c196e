"""The static form: every dimension is a number, the cache goes in as inputs, and only its new rows come out.

NPUs take nothing else. What changes from step to step (positions, masks, which rows of the cache are filled) is
prepared outside and fed in, so that one graph serves every step of its size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import openvino as ov
import openvino.opset15 as op

from ovgen.errors import UnsupportedModelError
from ovgen.graph.attention import Attention, attentions
from ovgen.graph.blocks import f32, i64
from ovgen.graph.passes.lora import ADAPTERS_INPUT
from ovgen.graph.passes.rows import ROWS_INPUT, select_rows

__all__ = ["StaticShape", "mask_name", "to_static"]


@dataclass(frozen=True, slots=True)
class StaticShape:
    """The numbers that a static graph is made for.

    Attributes:
        batch: sequences.
        tokens: new tokens of each.
        context: cached tokens of each, filled or not.
        rows: how many of the new tokens get logits.
    """

    batch: int
    tokens: int
    context: int
    rows: int


def mask_name(window: int) -> str:
    """The input that says what attention over ``window`` tokens may see; 0: over all."""
    return f"mask.window_{window}" if window else "mask"


def to_static(model: ov.Model, windows: Mapping[str, int | None], shape: StaticShape, cache_type: ov.Type) -> ov.Model:
    """A copy of a stateful causal LM in the static form; weights are shared with the original.

    Inputs of the result, with b, t, c and r for the numbers of ``shape``:

    * ``input_ids``, ``position_ids`` ``(b, t)`` int64;
    * ``logit_rows`` ``(r,)`` int32, the tokens that get logits;
    * ``adapters`` ``(b,)`` int32, if the model has adapters;
    * ``mask`` and ``mask.window_N`` ``(b, 1, t, c + t)`` float32, added to the scores: the cache's columns come first,
      then those of the new tokens;
    * ``past_key_values.N.key`` and ``.value`` ``(b, kv_heads, c, d)`` of ``cache_type``. What the mask hides there may
      be any number, but neither NaN nor infinity.

    Outputs: ``logits`` ``(b, r, vocab)`` float32; ``present.N.key`` and ``.value`` ``(b, kv_heads, t, d)`` of
    ``cache_type``: the rows to be put into the cache.

    Args:
        model: is left as it is.
        windows: by attention: how many tokens it sees, 0 for all, None where its mask does more.
        shape: the numbers.
        cache_type: f32 or f16.

    Raises:
        UnsupportedModelError: an attention is not known, or a dimension stays dynamic.
    """
    form = model.clone()
    found = list(attentions(form))
    masks = _mask_inputs(found, windows, shape)
    for attention, mask in zip(found, masks, strict=True):
        attention.mask.replace_source_output(mask.output(0))
    pasts = [
        _cache_input(full, f"past_key_values.{layer}.{kind}", shape, cache_type)
        for layer, attention in enumerate(found)
        for kind, full in (("key", attention.k), ("value", attention.v))
    ]
    logits = [result for result in form.get_results() if "logits" in result.output(0).get_names()]
    form = ov.Model(logits, [*form.get_parameters(), *dict.fromkeys(masks), *pasts], form.get_friendly_name())
    _fix_inputs(form, shape)
    rows = []  # Results
    for layer, (attention, mask) in enumerate(zip(found, masks, strict=True)):
        new_k, new_v = (full.get_node().input_value(1) for full in (attention.k, attention.v))
        y = _attend(attention, (pasts[2 * layer], new_k), (pasts[2 * layer + 1], new_v), mask)
        for user in attention.node.output(0).get_target_inputs():
            user.replace_source_output(y.output(0))
        rows += [
            _result(new, f"present.{layer}.{kind}", cache_type) for kind, new in (("key", new_k), ("value", new_v))
        ]
    return _finished(form, rows, [*dict.fromkeys(masks), *pasts], shape)


def _mask_inputs(found: list[Attention], windows: Mapping[str, int | None], shape: StaticShape) -> list[ov.Node]:
    """The mask of each attention; those with the same window share one."""
    size = [shape.batch, 1, shape.tokens, shape.context + shape.tokens]
    made: dict[int, ov.Node] = {}  # by window
    masks = []
    for attention in found:
        window = windows[attention.name]
        if window is None:
            raise UnsupportedModelError("the static form has no place for what a mask adds to attention scores")
        if window not in made:
            made[window] = _parameter(mask_name(window), size, ov.Type.f32)
        masks.append(made[window])
    return masks


def _cache_input(full: ov.Output, name: str, shape: StaticShape, cache_type: ov.Type) -> ov.Node:
    """A Parameter in place of the variable that ``full`` begins with."""
    read = full.get_node().input_value(0).get_node()
    if read.get_type_name() == "Gather":  # by beam_idx
        read = read.input_value(0).get_node()
    variable = read.get_output_partial_shape(0)
    if read.get_type_name() != "ReadValue" or variable[1].is_dynamic or variable[3].is_dynamic:
        raise UnsupportedModelError(f"{full.get_node().get_friendly_name()} does not begin with a cache of known size")
    size = [shape.batch, variable[1].get_length(), shape.context, variable[3].get_length()]
    parameter = _parameter(name, size, cache_type)
    value = _cast(parameter.output(0), read.get_output_element_type(0))
    for user in read.output(0).get_target_inputs():
        user.replace_source_output(value)
    return parameter


def _fix_inputs(model: ov.Model, shape: StaticShape) -> None:
    tokens = [shape.batch, shape.tokens]
    sizes = {
        "input_ids": tokens,
        "position_ids": tokens,
        "attention_mask": [shape.batch, shape.context + shape.tokens],
        "beam_idx": [shape.batch],
        ADAPTERS_INPUT: [shape.batch],
    }
    names = {port.get_any_name() for port in model.inputs}
    model.reshape({name: size for name, size in sizes.items() if name in names})


def _attend(
    attention: Attention, keys: tuple[ov.Node, ov.Output], values: tuple[ov.Node, ov.Output], mask: ov.Node
) -> ov.Node:
    """Attention over a cache and new tokens that are never put together: copying the cache would cost more than it.

    Heads that share a key are rows of one matrix, so that keys and values are not repeated either.

    Args:
        attention: what it was.
        keys: cached ``(b, h, c, d)`` and new ``(b, h, t, d)``.
        values: the same.
        mask: ``(b, 1, t, c + t)``.

    Returns:
        ``(b, heads, t, d)``.
    """
    batch, heads, tokens, dim = attention.q.get_shape()
    _, kv_heads, context, _ = keys[0].get_output_shape(0)
    groups = heads // kv_heads
    scale = attention.scale or f32(dim**-0.5).output(0)
    past_k, past_v = (_cast(cache.output(0), attention.q.get_element_type()) for cache, _ in (keys, values))

    q = op.reshape(attention.q, i64([batch, kv_heads, groups * tokens, dim]), False)
    q = op.multiply(q, scale)
    scores = op.concat([op.matmul(q, past_k, False, True), op.matmul(q, keys[1], False, True)], -1)
    if attention.softcap is not None:
        scores = op.multiply(op.tanh(scores), attention.softcap)
    if groups > 1:
        mask = op.tile(mask, i64([1, 1, groups, 1]))
    weights = op.variadic_split(op.softmax(op.add(scores, mask), -1), i64(-1), i64([context, tokens]))
    y = op.add(
        op.matmul(weights.output(0), past_v, False, False), op.matmul(weights.output(1), values[1], False, False)
    )
    y = op.reshape(y, i64([batch, heads, tokens, dim]), False)
    y.set_friendly_name(attention.name)
    return y


def _finished(form: ov.Model, rows: list[ov.Node], inputs: list[ov.Node], shape: StaticShape) -> ov.Model:
    kept = {"input_ids", "position_ids", ADAPTERS_INPUT}
    tokens = [node for node in form.get_parameters() if node.output(0).get_names() & kept]
    try:
        static = ov.Model(form.get_results() + rows, tokens + inputs, form.get_friendly_name())
    except RuntimeError as error:  # it lacks attention_mask or beam_idx
        raise UnsupportedModelError(
            f"the static form knows masks in attention only, and this model uses them elsewhere: {error}"
        ) from error
    select_rows(static, axis=1)
    static.reshape({ROWS_INPUT: [shape.rows]})
    for node in static.get_ordered_ops():
        for output in node.outputs():
            if output.get_partial_shape().is_dynamic:
                raise UnsupportedModelError(
                    f"{node.get_friendly_name()} ({node.get_type_name()}) keeps the dynamic shape "
                    f"{output.get_partial_shape()} in the static form"
                )
    return static


def _parameter(name: str, size: list[int], dtype: ov.Type) -> ov.Node:
    node = op.parameter(size, dtype, name=name)
    node.output(0).set_names({name})
    return node


def _result(value: ov.Output, name: str, dtype: ov.Type) -> ov.Node:
    node = op.result(_cast(value, dtype))
    node.set_friendly_name(name)
    node.output(0).set_names({name})
    return node


def _cast(value: ov.Output, dtype: ov.Type) -> ov.Output:
    return value if value.get_element_type() == dtype else op.convert(value, dtype).output(0)
