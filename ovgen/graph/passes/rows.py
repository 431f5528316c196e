"""Compute logits only for the rows that are wanted: a prefill of 512 tokens needs one row, not 512."""

from __future__ import annotations

import openvino as ov
import openvino.opset15 as op

from ovgen.graph.linears import MULTIPLYING
from ovgen.graph.passes.lora import change_inputs

__all__ = ["ROWS_INPUT", "head_input", "select_rows"]

ROWS_INPUT = "logit_rows"
"""Name of the input that `select_rows` adds: indices of the wanted rows, ``(rows,)`` int32."""

# What may stand between the head's MatMul and the logits without mixing rows: soft caps, scales, biases, casts.
_ROWWISE = {"Add", "Multiply", "Divide", "Tanh", "Convert"}


def select_rows(model: ov.Model, axis: int) -> None:
    """Put a Gather before the lm_head MatMul, in place; where none is found, on the logits themselves.

    What adapters add to the head's results is computed for these rows, too.

    Args:
        model: has the output ``logits``.
        axis: the axis of the tokens, 0 in the paged form and 1 in the stateful one.
    """
    indices = op.parameter([-1], ov.Type.i32, name=ROWS_INPUT)
    indices.output(0).set_names({ROWS_INPUT})
    target, changes = _find_head(model)
    source = target.get_source_output()
    rows = op.gather(source, indices, op.constant(axis, ov.Type.i64))
    rows.set_friendly_name("wanted_rows")
    if target.get_node().get_type_name() == "Result":  # the name belongs to what the Result gives
        source.set_names(source.get_names() - {"logits"})
        rows.output(0).set_names({"logits"})
    target.replace_source_output(rows.output(0))
    for x, gate in changes:
        x.replace_source_output(rows.output(0))
        if axis == 0:  # each token has its own gate
            chosen = op.gather(gate.get_source_output(), indices, op.constant(axis, ov.Type.i64))
            gate.replace_source_output(chosen.output(0))
    model.add_parameters([indices])
    model.validate_nodes_and_infer_types()


def head_input(model: ov.Model) -> ov.Input:
    """The input of the lm_head's operation that carries the hidden states, else that of the logits' Result."""
    return _find_head(model)[0]


def _find_head(model: ov.Model) -> tuple[ov.Input, list[tuple[ov.Input, ov.Input]]]:
    """`head_input`, and `change_inputs` of what adapters add between it and the logits."""
    result = next(r for r in model.get_results() if "logits" in r.output(0).get_names() | r.input_value(0).get_names())
    node = result.input_value(0).get_node()
    changes = []
    while node.get_type_name() in _ROWWISE:
        change = change_inputs(node)
        if change is not None:
            changes.append(change)
        elif not all(map(_is_constant, node.input_values()[1:])):
            break
        node = node.input_value(0).get_node()
    is_head = node.get_type_name() in MULTIPLYING and not node.get_attributes().get("transpose_a")
    is_head &= node.get_output_size() == 1  # else the rows of others would be cut, too
    return (node.input(0), changes) if is_head else (result.input(0), [])


def _is_constant(output: ov.Output) -> bool:
    node = output.get_node()
    while node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")
