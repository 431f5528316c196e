"""The native operations in numpy, in float32 throughout: what lowered models are held against.

They are operations of OpenVINO, as those in C++ are, so that passes see the same graph.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as op
from numpy.typing import NDArray

from ovgen.graph.passes import NativeReport, Projection, to_native
from ovgen.weights import Weight

__all__ = ["NumpyOps", "NumpyPacked", "codes_in", "kinds", "lowered", "names"]

_erf = np.vectorize(math.erf, otypes=[np.float32])

_ACTIVATIONS: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "gelu_erf": lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
}


@dataclass(frozen=True, eq=False)
class NumpyPacked:
    """Matrices and biases, ``(rows, columns)`` and ``(rows,)``, and the bytes that they were compressed to.

    ``constant`` is an input of operations by which plugins tell them apart: they compute equal ones once.
    """

    constant: ov.Node
    matrices: list[NDArray[np.float32]]
    biases: list[NDArray[np.float32]]
    gated: bool
    nbytes: int


class NumpyOps:
    """Makes the operations; it remembers what it packed."""

    def __init__(self) -> None:
        self.packed: list[NumpyPacked] = []

    def pack(self, projections: Sequence[Projection], *, gated: bool = False) -> NumpyPacked:
        weights = [projection.weight for projection in projections]
        assert 1 <= len(weights) <= 4
        assert not gated or (len(weights) == 2 and weights[0].shape == weights[1].shape)
        same = {
            (w.dtype, w.shape[1])
            if isinstance(w, Weight)
            else (w.bits, w.shape[1], w.scale.shape[1], w.zero_point is None, w.flipped)
            for w in weights
        }
        assert len(same) == 1
        biases = [np.zeros(p.weight.shape[0], np.float32) if p.bias is None else p.bias.copy() for p in projections]
        number = op.constant(np.array([len(self.packed)]))
        packed = NumpyPacked(
            number, [w.to_f32().copy() for w in weights], biases, gated, sum(w.nbytes for w in weights)
        )
        self.packed.append(packed)
        return packed

    def linear(self, x: ov.Output, packed: NumpyPacked, activation: str = "none") -> list[ov.Output]:
        outputs: list[ov.Output] = PackedLinear([x, packed.constant.output(0)], packed, activation).outputs()
        return outputs

    def embedding(self, ids: ov.Output, packed: NumpyPacked) -> ov.Output:
        return PackedEmbedding([ids, packed.constant.output(0)], packed).output(0)


class PackedLinear(ov.Op):  # type: ignore[misc]
    def __init__(self, inputs: list[ov.Output], packed: NumpyPacked, activation: str) -> None:
        super().__init__(self)
        self.packed, self.activation = packed, activation
        self.set_arguments(inputs)
        self.constructor_validate_and_infer_types()

    def validate_and_infer_types(self) -> None:
        assert self.get_input_element_type(0) == ov.Type.f32
        shape = self.get_input_partial_shape(0)
        assert shape[len(shape) - 1].get_length() == self.packed.matrices[0].shape[1]
        for number, matrix in enumerate(self.packed.matrices[: 1 if self.packed.gated else None]):
            shape[len(shape) - 1] = len(matrix)
            self.set_output_type(number, ov.Type.f32, ov.PartialShape(shape))

    def clone_with_new_inputs(self, inputs: list[ov.Output]) -> PackedLinear:
        return PackedLinear(inputs, self.packed, self.activation)

    def has_evaluate(self) -> bool:
        return True

    def evaluate(self, outputs: list[ov.Tensor], inputs: list[ov.Tensor]) -> bool:
        x, packed, activate = inputs[0].data, self.packed, _ACTIVATIONS[self.activation]
        results = [x @ matrix.T + bias for matrix, bias in zip(packed.matrices, packed.biases, strict=True)]
        _give(outputs, [activate(results[0]) * results[1]] if packed.gated else [activate(y) for y in results])
        return True


class PackedEmbedding(ov.Op):  # type: ignore[misc]
    def __init__(self, inputs: list[ov.Output], packed: NumpyPacked) -> None:
        super().__init__(self)
        self.packed = packed
        self.set_arguments(inputs)
        self.constructor_validate_and_infer_types()

    def validate_and_infer_types(self) -> None:
        assert self.get_input_element_type(0) in (ov.Type.i32, ov.Type.i64)
        sizes = [*self.get_input_partial_shape(0), ov.Dimension(self.packed.matrices[0].shape[1])]
        self.set_output_type(0, ov.Type.f32, ov.PartialShape(sizes))

    def clone_with_new_inputs(self, inputs: list[ov.Output]) -> PackedEmbedding:
        return PackedEmbedding(inputs, self.packed)

    def has_evaluate(self) -> bool:
        return True

    def evaluate(self, outputs: list[ov.Tensor], inputs: list[ov.Tensor]) -> bool:
        assert not self.packed.gated
        _give(outputs, [self.packed.matrices[0][inputs[0].data]])
        return True


def _give(outputs: list[ov.Tensor], results: list[Any]) -> None:
    for output, result in zip(outputs, results, strict=True):
        output.shape = result.shape
        output.data[:] = result


def lowered(model: ov.Model, *, floats: bool = False) -> tuple[ov.Model, NativeReport, NumpyOps]:
    """A lowered copy."""
    copy, ops = model.clone(), NumpyOps()
    return copy, to_native(copy, ops, floats=floats), ops


def kinds(model: ov.Model) -> Counter[str]:
    """How many operations of each type there are."""
    return Counter(node.get_type_name() for node in model.get_ops())


def names(model: ov.Model, kind: str) -> list[str]:
    """Friendly names of the operations of a type, in their order."""
    return [node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() == kind]


def codes_in(model: ov.Model) -> list[str]:
    """Constants in 8 bits or less."""
    types = (node.get_element_type() for node in model.get_ops() if node.get_type_name() == "Constant")
    return [kind.to_string() for kind in types if kind.bitwidth <= 8 and kind != ov.Type.boolean]
