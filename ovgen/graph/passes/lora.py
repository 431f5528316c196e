"""LoRA adapters beside the linear layers of a graph, chosen by an input: requests with different ones share a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import openvino as ov
import openvino.opset15 as op

from ovgen.graph.blocks import f32, i64, named
from ovgen.graph.linears import with_bias
from ovgen.weights import Adapter, LowRank

__all__ = ["ADAPTERS_INPUT", "add_adapters", "change_inputs"]

ADAPTERS_INPUT = "adapters"
"""Name of the input that `add_adapters` adds: which adapter each row of the batch goes through, ``(batch,)`` int32."""

_END = "/with_adapters"  # of the name of what a layer gives then


def add_adapters(model: ov.Model, adapters: Sequence[Adapter]) -> None:
    """Let each row of a batch go through one of some adapters, or none, in place.

    A linear layer gives ``y + (x @ down.T where gate else 0) @ up.T`` then, where ``down`` and ``up`` are the matrices
    of all adapters one after the other, and ``gate`` is true in the columns of the row's adapter: whatever the others
    make of the row, NaN even, does not reach it. The input ``adapters`` numbers them from 1 on; 0 stands for none. In
    the paged form every token is a row.

    It is done before all other passes: layers are found by the names that they have from Hugging Face's modules, in
    graphs of ours and in those that optimum-intel has exported.

    Args:
        model: the causal LM form.
        adapters: if there are none, the model is left as it is.

    Raises:
        UnsupportedModelError: one is for another model, or the model's operations have no such names.
    """
    if not adapters:
        return
    layers = _linear_layers(model)
    shapes = {module: _shape(node) for module, node in layers.items()}
    fitted = [_fitted(adapter, shapes) for adapter in adapters]
    choice = op.parameter([-1], ov.Type.i32, name=ADAPTERS_INPUT)
    choice.output(0).set_names({ADAPTERS_INPUT})
    gates = _Gates(choice)
    for module in dict.fromkeys(module for each in fitted for module in each):
        _add(module, layers[module], [each.get(module) for each in fitted], gates)
    model.add_parameters([choice])
    model.validate_nodes_and_infer_types()


def _fitted(adapter: Adapter, shapes: Mapping[str, tuple[int, int]]) -> dict[str, LowRank]:
    placed = adapter.placed(shapes)
    for module, layer in placed.items():
        adapter.check_shape(module, layer, shapes[module])
    return placed


class _Gates:
    """What opens the columns of a row's adapter; layers in which the adapters have the same ranks share one."""

    def __init__(self, choice: ov.Node) -> None:
        self.choice = choice  # (b,) int32
        self._made: dict[tuple[int, ...], ov.Node] = {}

    def of(self, ranks: tuple[int, ...]) -> ov.Node:
        """``(b, 1, sum of ranks)`` boolean."""
        if ranks not in self._made:
            table = np.zeros((len(ranks) + 1, sum(ranks)), np.bool_)
            end = 0
            for number, rank in enumerate(ranks, 1):
                table[number, end : end + rank] = True
                end += rank
            gate = op.unsqueeze(op.gather(op.constant(table), self.choice, i64(0)), i64(1))
            self._made[ranks] = named(gate, f"adapters/gate_{len(self._made)}")
        return self._made[ranks]


def _add(module: str, linear: ov.Node, layers: Sequence[LowRank | None], gates: _Gates) -> None:
    present = [layer for layer in layers if layer is not None]
    ranks = tuple(0 if layer is None else layer.rank for layer in layers)
    down = op.constant(np.concatenate([layer.down for layer in present]))  # (sum of ranks, inputs)
    up = op.constant(np.concatenate([layer.up for layer in present], 1))  # (outputs, sum of ranks)
    result, _ = with_bias(linear, _shape(linear)[0])  # behind the bias, so that this stays with its layer
    users, names = list(result.get_target_inputs()), result.get_names()
    inner = named(op.matmul(linear.input_value(0), down, False, True), f"{module}/lora_down")
    change = named(op.matmul(_gated(inner, gates, ranks), up, False, True), f"{module}/lora_up")
    y = named(op.add(result, change), f"{module}{_END}").output(0)
    for user in users:
        user.replace_source_output(y)
    result.set_names(set())
    y.set_names(names)  # "logits", where this is the head


def _gated(inner: ov.Node, gates: _Gates, ranks: tuple[int, ...]) -> ov.Node:
    """``(b, t, ranks)``, or ``(b * t, ranks)`` where a model has put its tokens in one row, as Conv1D does."""
    gate = gates.of(ranks)
    if inner.get_output_partial_shape(0).rank.get_length() == 3:
        return op.select(gate, inner, f32(0))
    rows = op.concat([op.shape_of(gates.choice, "i64"), i64([-1, sum(ranks)])], 0)
    return op.reshape(op.select(gate, op.reshape(inner, rows, False), f32(0)), i64([-1, sum(ranks)]), False)


def change_inputs(node: ov.Node) -> tuple[ov.Input, ov.Input] | None:
    """Where an adapted layer's change takes the layer's ``x`` and its gate, ``(b, 1, ranks)``.

    Args:
        node: what adds the change to ``y``; for any other, and where tokens lie in one row, there are none.
    """
    if not node.get_friendly_name().endswith(_END):
        return None
    gated = node.input_value(1).get_node().input_value(0).get_node()
    if gated.get_type_name() != "Select":
        return None
    return gated.input_value(1).get_node().input(0), gated.input(0)


def _linear_layers(model: ov.Model) -> dict[str, ov.Node]:
    """MatMuls with a weight, by the path of the module that they are from."""
    return {
        node.get_friendly_name().removeprefix("__module.").split("/")[0]: node
        for node in model.get_ordered_ops()
        if node.get_type_name() == "MatMul"
        and node.get_input_partial_shape(1).is_static  # other things that are multiplied have as many rows as tokens
        and len(node.get_input_shape(1)) == 2
    }


def _shape(linear: ov.Node) -> tuple[int, int]:
    """``(outputs, inputs)`` of a layer's weight."""
    rows, columns = linear.get_input_shape(1)
    return (rows, columns) if linear.get_attributes()["transpose_b"] else (columns, rows)
