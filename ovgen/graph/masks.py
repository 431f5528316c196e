"""The attention masks of a model, by themselves: what they hide can then be found by computing them."""

from __future__ import annotations

import openvino as ov
import openvino.opset15 as op

from ovgen.graph.attention import attentions
from ovgen.graph.linears import MULTIPLYING
from ovgen.graph.private import TransformationError

__all__ = ["mask_model"]


def mask_model(model: ov.Model) -> tuple[ov.Model, dict[str, int]]:
    """The attention masks of a stateful causal LM as a function of its inputs alone, without the network.

    Args:
        model: is left as it is.

    Returns:
        The masks, and which of its outputs each attention adds, by the name of that.

    Raises:
        UnsupportedModelError: an attention has no mask or no cache.
        TransformationError: two have one name, or a mask depends on what the network computes.
    """
    names = {port.get_any_name() for port in model.inputs}
    if not names >= {"input_ids", "attention_mask"}:
        raise TransformationError(f"the model lacks input_ids or attention_mask: it has {', '.join(sorted(names))}")
    copy = model.clone()
    _shapes_from_inputs(copy)
    _logical(copy)
    masks: dict[str, ov.Output] = {}
    users: dict[str, int] = {}
    for attention in attentions(copy):
        mask = attention.mask.get_source_output()
        masks.setdefault(mask.get_node().get_name(), mask)
        number = list(masks).index(mask.get_node().get_name())
        if users.setdefault(attention.name, number) != number:
            raise TransformationError(f"two attentions with different masks are called {attention.name}")
    alone = ov.Model([op.result(mask) for mask in masks.values()], copy.get_parameters(), "masks")
    if {node.get_type_name() for node in alone.get_ops()} & {*MULTIPLYING, "ReadValue"}:
        raise TransformationError("an attention mask depends on what the network computes")
    return alone, users


def _shapes_from_inputs(model: ov.Model) -> None:
    """Compute the shapes of cached tensors and of hidden states from the shapes of the inputs, in place."""
    batch, new = (_size(model.input("input_ids"), axis) for axis in (0, 1))
    total = _size(model.input("attention_mask"), 1)
    lengths = {"past": op.subtract(total, new), "all": total, "new": new}
    for node in model.get_ops():
        if node.get_type_name() != "ShapeOf":
            continue
        inner = _static_axes(node.input_value(0).get_partial_shape())
        if inner is None:
            continue
        *heads, size = (op.constant([axis], ov.Type.i64) for axis in inner)
        length = lengths[_tokens_in(node.input_value(0).get_node())]
        shape = op.convert(op.concat([batch, *heads, length, size], 0), node.get_output_element_type(0))
        for user in node.output(0).get_target_inputs():
            user.replace_source_output(shape.output(0))


def _logical(model: ov.Model) -> None:
    """Of booleans, ``BitwiseAnd`` is ``LogicalAnd``: OpenVINO evaluates only the latter without compiling. In place."""
    for node in model.get_ops():
        if node.get_type_name() == "BitwiseAnd" and node.get_output_element_type(0) == ov.Type.boolean:
            both = op.logical_and(node.input_value(0), node.input_value(1))
            for user in node.output(0).get_target_inputs():
                user.replace_source_output(both.output(0))


def _size(port: ov.Output, axis: int) -> ov.Node:
    """``(1,)`` int64."""
    return op.gather(op.shape_of(port, "i64"), op.constant([axis], ov.Type.i64), op.constant(0, ov.Type.i64))


def _static_axes(shape: ov.PartialShape) -> list[int] | None:
    """``[dim]`` of ``(b, tokens, dim)``, ``[heads, dim]`` of ``(b, heads, tokens, dim)``; None for other tensors."""
    if shape.rank.is_dynamic or len(shape) not in (3, 4):
        return None
    inner = [shape[axis] for axis in ((2,) if len(shape) == 3 else (1, 3))]
    return None if any(axis.is_dynamic for axis in inner) else [axis.get_length() for axis in inner]


def _tokens_in(node: ov.Node) -> str:
    """Which tokens a tensor holds: past, new or all."""
    kind = node.get_type_name()
    if kind == "ReadValue":
        return "past"
    if kind == "Gather" and node.input_value(0).get_node().get_type_name() == "ReadValue":
        return "past"
    return "all" if kind == "Concat" and _tokens_in(node.input_value(0).get_node()) == "past" else "new"
