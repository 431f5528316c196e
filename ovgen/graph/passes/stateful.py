"""The stateful form of a model that was exported with its KV cache as inputs and outputs."""

from __future__ import annotations

import re

import openvino as ov
import openvino.opset15 as op

from ovgen.errors import UnsupportedModelError
from ovgen.graph.private import make_stateful

__all__ = ["is_stateful", "to_stateful"]

_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")


def is_stateful(model: ov.Model) -> bool:
    """Whether the model keeps its KV cache in variables."""
    return bool(model.get_sinks())


def to_stateful(model: ov.Model) -> None:
    """Turn ``past_key_values.N.*`` inputs and ``present.N.*`` outputs into variables, in place.

    Each past is first gathered by a new input ``beam_idx`` ``(batch,)`` int32, as optimum-intel does it.

    Raises:
        UnsupportedModelError: the inputs and outputs do not pair up.
        TransformationError: OpenVINO refuses the pairs.
    """
    if is_stateful(model):
        return
    pairs = _pairs(model)
    beams = op.parameter([-1], ov.Type.i32, name="beam_idx")
    beams.output(0).set_names({"beam_idx"})
    for past in pairs:
        parameter = model.input(past)
        consumers = list(parameter.get_target_inputs())
        reordered = op.gather(parameter, beams, op.constant(0, ov.Type.i64))
        for consumer in consumers:
            consumer.replace_source_output(reordered.output(0))
    model.add_parameters([beams])
    make_stateful(model, pairs)
    _start_empty(model)
    model.validate_nodes_and_infer_types()


def _pairs(model: ov.Model) -> dict[str, str]:
    """Input name -> output name of each cached tensor."""
    outputs = {name for port in model.outputs for name in port.get_names()}
    pairs = {}
    for port in model.inputs:
        match = _PAST.fullmatch(port.get_any_name())
        if match:
            pairs[match[0]] = f"present.{match[1]}.{match[2]}"
    missing = sorted(set(pairs.values()) - outputs)
    if not pairs or missing:
        inputs = ", ".join(port.get_any_name() for port in model.inputs)
        raise UnsupportedModelError(
            "the model has neither variables nor pairs of past_key_values.N.key and present.N.key "
            f"(missing: {', '.join(missing) or 'all'}; its inputs: {inputs}): export it with its KV cache"
        )
    return pairs


def _start_empty(model: ov.Model) -> None:
    """Let each variable begin as ``(batch, heads, 0, head_dim)``: the CPU plugin does not invent that by itself."""
    ids = model.input("input_ids")
    batch = op.gather(op.shape_of(ids, "i64"), op.constant([0], ov.Type.i64), op.constant(0, ov.Type.i64))
    for node in model.get_ops():
        if node.get_type_name() != "ReadValue":
            continue
        rest = [dim.get_min_length() for dim in node.get_output_partial_shape(0)][1:]
        shape = op.concat([batch, op.constant(rest, ov.Type.i64)], 0)
        zero = op.constant(0.0, node.get_output_element_type(0))
        node.set_arguments([op.broadcast(zero, shape).output(0)])
