"""Finding what takes matrices of weights in a causal LM: linear layers, with what may be computed along, and lookups.

What is looked at: ``MatMul -> Add of a bias -> Split -> Reshape -> activation``, where all but the first may be absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ovgen.graph.compressed import stored_matrix
from ovgen.weights import Compressed, Weight

__all__ = [
    "MULTIPLYING",
    "Linear",
    "Lookup",
    "MatrixUses",
    "has_codes",
    "identity",
    "matrix_uses",
    "only_user",
    "with_bias",
]

MULTIPLYING = frozenset({"MatMul", "PackedLinear"})
"""Types of the operations that a linear layer may be."""

# What may stand between a constant and those who compute with it.
_DECOMPRESSION = {"Convert", "Multiply", "Reshape", "Subtract"}
_BLOCK = 32  # columns that the kernels take at once


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """``activation(x @ weight.T + bias)``.

    Attributes:
        node: the MatMul.
        weight: ``(rows, columns)``.
        bias: ``(rows,)``; None where there is none.
        constant: names of the constants with the numbers, or the codes, scales and zero points: what tells the matrix
            from others.
        start: the first of its rows that are meant.
        result: what it gives before the activation, ``(..., rows)``.
        activation: ``"none"``, ``"relu"``, ``"gelu_tanh"``, ``"gelu_erf"`` or ``"silu"``.
        activated: what an activation gives that nothing but ``result`` goes to, perhaps in another shape.
    """

    node: ov.Node
    weight: Compressed | Weight
    bias: NDArray[np.float32] | None
    constant: str
    start: int
    result: ov.Output
    activation: str = "none"
    activated: ov.Output | None = None

    @property
    def x(self) -> ov.Output:
        """``(..., columns)`` f32; another one when what made it has been replaced."""
        x: ov.Output = self.node.input_value(0)
        return x


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """Rows of a table: the Gather, the table, and the names of the constants that it is from."""

    node: ov.Node
    table: Compressed | Weight
    constant: str


@dataclass(slots=True, eq=False)
class MatrixUses:
    """Linear layers and lookups in the order of the graph, and lines that say why other operations are neither.

    Nothing is said of others that take floats: any constant may be a matrix of these.
    """

    linears: list[Linear] = field(default_factory=list)
    lookups: list[Lookup] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def matrix_uses(model: ov.Model, *, floats: bool) -> MatrixUses:
    """Everything in a model that takes a matrix of 8 bits or less a number.

    Args:
        model: the causal LM form.
        floats: linear layers of floats as well, and lookups in tables that are matrices of such layers, too.
    """
    uses, lookups = MatrixUses(), []
    for node in model.get_ordered_ops():
        if node.get_type_name() in _DECOMPRESSION:
            continue
        for port in node.inputs():
            constants = _constants(port.get_source_output())
            if constants is None:
                if floats and (found := _floats(port)) is not None:
                    if isinstance(found, Lookup):
                        lookups.append(found)
                    else:
                        uses.linears += _linears(*found)
                continue
            stored = stored_matrix(port.get_source_output())
            if stored is None or not isinstance(stored[1], Compressed):
                uses.others.append(f"{node.get_friendly_name()}: the pattern of its compressed matrix is not known")
            elif (reason := _obstacle(port) or _misfit(node, stored[1])) is not None:
                uses.others.append(f"{node.get_friendly_name()}: {reason}")
            elif node.get_type_name() == "MatMul":
                uses.linears += _linears(node, stored[1], constants)
            else:
                uses.lookups.append(Lookup(node, stored[1], constants))
    shared = {layer.constant for layer in uses.linears}
    uses.lookups += [lookup for lookup in lookups if lookup.constant in shared]
    return uses


def has_codes(model: ov.Model) -> bool:
    """Whether there is a constant that may be a compressed matrix: a quick look, before anything long is done."""
    return any(node.get_type_name() == "Constant" and _is_codes(node) for node in model.get_ops())


def only_user(output: ov.Output) -> ov.Input | None:
    """The one input that an output goes to; None if there are none or several."""
    users = list(output.get_target_inputs())
    return users[0] if len(users) == 1 else None


def identity(output: ov.Output) -> tuple[str, int]:
    """What tells an output from all others."""
    return output.get_node().get_name(), output.get_index()


def with_bias(matmul: ov.Node, rows: int) -> tuple[ov.Output, NDArray[np.float32] | None]:
    """What a linear layer of so many outputs gives, and the bias in it; None where none is added."""
    result = matmul.output(0)
    user = only_user(result)
    if user is None or user.get_node().get_type_name() != "Add":
        return result, None
    bias = _bias(user.get_node().input_value(1 - user.get_index()), result, rows)
    return (result, None) if bias is None else (user.get_node().output(0), bias)


def _constants(output: ov.Output) -> str | None:
    """Names of the constants of a matrix that is decompressed there; None if that is not what happens."""
    node, names = output.get_node(), []
    if node.get_type_name() not in _DECOMPRESSION:
        return None
    while node.get_type_name() in _DECOMPRESSION:
        if node.get_type_name() in ("Multiply", "Subtract"):
            names.append(_below_converts(node.input_value(1).get_node()).get_name())
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant" or not _is_codes(node):
        return None
    return " ".join([node.get_name(), *names])


def _floats(port: ov.Input) -> Lookup | tuple[ov.Node, Weight, str] | None:
    """What takes a matrix of floats: a lookup, or the MatMul of a layer, its matrix and the name of the constant."""
    node, source = port.get_node(), port.get_source_output()
    constant = _below_converts(source.get_node())
    if node.get_type_name() not in ("Gather", "MatMul") or constant.get_type_name() != "Constant":
        return None
    stored, name = stored_matrix(source), constant.get_name()
    if stored is None or not isinstance(stored[1], Weight) or _obstacle(port) is not None:
        return None
    weight = stored[1]
    if node.get_type_name() == "Gather":
        return Lookup(node, weight, name)
    if _is_transposed(node):
        return node, replace(weight, array=weight.array.T), f"{name} transposed"
    return node, weight, name


def _below_converts(node: ov.Node) -> ov.Node:
    while node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return node


def _is_codes(constant: ov.Node) -> bool:
    kind = constant.get_element_type()
    return len(constant.get_output_shape(0)) >= 2 and kind.bitwidth <= 8 and kind != ov.Type.boolean


def _misfit(node: ov.Node, matrix: Compressed) -> str | None:
    """Why the packed format is not for a compressed matrix; None if it is."""
    if _is_transposed(node):
        return "the groups of its matrix lie along the outputs"
    group = matrix.shape[1] // matrix.scale.shape[1]
    if -(-group // _BLOCK) * _BLOCK > 1.5 * group:
        return f"its groups of {group} would be filled up to multiples of {_BLOCK}"
    zeros = matrix.zero_point
    if matrix.dtype in ("i4", "i8") and zeros is not None and (zeros.astype(np.float32) % 1).any():
        return "its codes are signed, and its zero points are no whole numbers"
    return None


def _obstacle(port: ov.Input) -> str | None:
    """Why what takes a compressed matrix is neither a linear layer nor a lookup; None if it is."""
    node = port.get_node()
    kind, attributes = node.get_type_name(), node.get_attributes()
    if port.get_element_type() != ov.Type.f32:
        return f"it computes in {port.get_element_type().to_string()}"
    if kind == "Gather":
        axis = node.input_value(2).get_node()
        if node.get_input_element_type(1) not in (ov.Type.i32, ov.Type.i64):
            return "its ids are neither int32 nor int64"
        rows = port.get_index() == 0 and axis.get_type_name() == "Constant" and axis.get_data().item() == 0
        return None if rows else "it looks up something else than rows"
    if kind != "MatMul":
        return f"{kind} is neither MatMul nor Gather"
    if port.get_index() == 0:
        return "the matrix is its first operand"
    return "it transposes what it multiplies with the matrix" if attributes["transpose_a"] else None


def _is_transposed(node: ov.Node) -> bool:
    """Whether the second operand of a MatMul has a row for each input, not for each output."""
    return node.get_type_name() == "MatMul" and not node.get_attributes()["transpose_b"]


def _linears(node: ov.Node, weight: Compressed | Weight, constant: str) -> Iterator[Linear]:
    """The linear layer of a MatMul; several, if it is split into some."""
    result, bias = with_bias(node, weight.shape[0])
    for part in _parts(Linear(node, weight, bias, constant, 0, result)):
        found = _activation(part.result)
        yield part if found is None else replace(part, activation=found[0], activated=found[1])


def _bias(addend: ov.Output, result: ov.Output, rows: int) -> NDArray[np.float32] | None:
    """A constant that has a number for each output, and no more axes than what it is added to."""
    node, rank = _below_converts(addend.get_node()), result.get_partial_shape().rank
    if node.get_type_name() != "Constant":
        return None
    axes, shape = 1 if rank.is_dynamic else rank.get_length(), list(node.get_output_shape(0))
    if len(shape) > axes or shape != [1] * (len(shape) - 1) + [rows]:
        return None
    bias: NDArray[np.float32] = node.get_data(dtype=np.float32).reshape(rows)
    return bias


def _parts(layer: Linear) -> Iterator[Linear]:
    """Queries, keys and values, say, of which a model splits the outputs of one layer into."""
    user = only_user(layer.result)
    sizes = None if user is None else _split_sizes(user)
    if user is None or sizes is None:
        yield layer
        return
    start = 0
    for size, output in zip(sizes, user.get_node().outputs(), strict=True):
        rows = slice(start, start + size)
        weight = _some(layer.weight, rows)
        bias = None if layer.bias is None else layer.bias[rows]
        yield replace(layer, weight=weight, bias=bias, start=start, result=output)
        start += size


def _some(weight: Compressed | Weight, rows: slice) -> Compressed | Weight:
    """Rows of a matrix."""
    if isinstance(weight, Weight):
        return replace(weight, array=weight.array[rows])
    zeros = weight.zero_point
    return replace(
        weight,
        codes=weight.codes[rows],
        scale=weight.scale[rows],
        zero_point=None if zeros is None else zeros[rows],
    )


def _split_sizes(user: ov.Input) -> list[int] | None:
    """Lengths of the parts, if the last axis is split at constant places."""
    node, shape = user.get_node(), user.get_partial_shape()
    if node.get_type_name() not in ("Split", "VariadicSplit") or shape.rank.is_dynamic:
        return None
    axis = node.input_value(1).get_node()
    if axis.get_type_name() != "Constant" or axis.get_data().item() not in (-1, len(shape) - 1):
        return None
    parts = [output.get_partial_shape()[-1] for output in node.outputs()]
    sizes = [0 if part.is_dynamic else part.get_length() for part in parts]
    return sizes if all(sizes) else None


def _activation(result: ov.Output) -> tuple[str, ov.Output] | None:
    """The activation function that alone takes a result, perhaps in another shape, and what it gives."""
    user = only_user(result)
    if user is not None and user.get_node().get_type_name() == "Reshape":
        user = only_user(user.get_node().output(0))
    if user is None:
        return None
    node = user.get_node()
    kind = node.get_type_name()
    if kind == "Relu":
        return "relu", node.output(0)
    if kind == "Gelu":
        mode: Any = node.get_attributes().get("approximation_mode", "ERF")
        return f"gelu_{mode.lower()}", node.output(0)
    if kind == "Swish" and (node.get_input_size() == 1 or _is_one(node.input_value(1).get_node())):
        return "silu", node.output(0)
    return None


def _is_one(node: ov.Node) -> bool:
    return bool(node.get_type_name() == "Constant" and (node.get_data() == 1).all())
