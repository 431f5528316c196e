"""Matrices of weights as operations of our own, which compute with the codes, or the floats, as they are.

The causal LM form is rewritten before any other pass, so that all forms share the packed matrices. How those lie in
memory, and what the operations are, is behind `NativeOps`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import openvino as ov
import openvino.opset15 as op
from numpy.typing import NDArray

from ovgen.graph.linears import Linear, Lookup, identity, matrix_uses, only_user
from ovgen.weights import Compressed, Weight

__all__ = ["NativeOps", "NativeReport", "Packed", "Projection", "to_native"]

_MOST = 4  # projections that an operation has


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A matrix ``(rows, columns)`` and what is added to its results, ``(rows,)``."""

    weight: Compressed | Weight
    bias: NDArray[np.float32] | None = None

    @property
    def compressed(self) -> Compressed | None:
        """The matrix, if it has codes."""
        return None if isinstance(self.weight, Weight) else self.weight

    @property
    def stored(self) -> NDArray[Any]:
        """The codes; or else the numbers, ``(rows, columns)``, perhaps the transpose of what is row-major."""
        return self.weight.array if isinstance(self.weight, Weight) else self.weight.codes

    @property
    def format(self) -> str:
        """``int4`` or ``int8``, or ``f16``, ``bf16`` or ``f32``."""
        return self.weight.dtype.lower() if isinstance(self.weight, Weight) else f"int{self.weight.bits}"


class Packed(Protocol):
    """One or more projections of one input, as the operations take them."""

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""


P = TypeVar("P", bound=Packed)


class NativeOps(Protocol[P]):
    """What makes the operations."""

    def pack(self, projections: Sequence[Projection], *, gated: bool = False) -> P:
        """Projections of one input, up to four, all with zero points or none, with as many bits and groups, or floats
        of one type, perhaps the transpose of what is row-major.

        Where some have biases, those of the others are zeros. If ``gated``, there are two, and the result is one:
        the first, activated, times the second.
        """

    def linear(self, x: ov.Output, packed: P, activation: str = "none") -> list[ov.Output]:
        """``(..., columns)`` f32 -> ``(..., rows)`` f32 of each projection; one output if they are gated."""

    def embedding(self, ids: ov.Output, packed: P) -> ov.Output:
        """Rows of the first projection, without its bias: ``(...)`` integers -> ``(..., columns)`` f32."""


@dataclass(frozen=True, slots=True)
class NativeReport:
    """What became of a model's matrices; it is true if any was lowered.

    Attributes:
        linears: MatMuls that were lowered.
        operations: what they have become.
        gated: how many of these multiply one projection, activated, by another.
        embeddings: lookups that were lowered.
        compressed: MatMuls among them whose weights have codes: activations are rounded for these.
        nbytes: of all packed matrices; one that serves several operations counts once.
        bytes_per_step: of the packed matrices of linear layers, all of which are read whenever the model runs.
        skipped: a line for each operation that goes on taking a compressed matrix as it was, with the reason.
    """

    linears: int
    operations: int
    gated: int
    embeddings: int
    compressed: int
    nbytes: int
    bytes_per_step: int
    skipped: list[str]

    def __bool__(self) -> bool:
        return self.linears + self.embeddings > 0

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.linears} linear layers in {self.operations} operations, {self.embeddings} embeddings, "
            f"{self.nbytes / 1e6:.1f} MB" + (f"; {len(self.skipped)} left as they were" if self.skipped else "")
        )


def to_native(model: ov.Model, ops: NativeOps[P], *, floats: bool = False) -> NativeReport:
    """Replace what takes compressed matrices, in place: linear layers and lookups of rows.

    A bias and an activation that follow a linear layer are computed along with it. Layers of the same input become one
    operation, such as queries, keys and values, or an activated gate with what it is multiplied by. An embedding and
    the head share a packed matrix if they share a table. Operations have the names of the MatMuls; those of several
    are joined: ``layers.0.q_proj+k_proj+v_proj``.

    Nothing in the model refers to the constants of lowered matrices afterwards; they are released one by one, unless
    another model has them, too.

    Args:
        model: the causal LM form, before any other pass.
        ops: makes the operations.
        floats: linear layers whose weights are not compressed as well, and lookups in what those have, too.
    """
    _fold_shapes(model)
    uses = matrix_uses(model, floats=floats)
    groups, lowering = _grouped(uses.linears), _Lowering(ops)
    linears, embeddings = {linear.node.get_name() for linear in uses.linears}, len(uses.lookups)
    compressed = {linear.node.get_name() for linear in uses.linears if isinstance(linear.weight, Compressed)}
    operations, gated = len(groups), sum(group.product is not None for group in groups)
    uses.linears.clear()
    while groups:
        lowering.linear(groups.pop(0))
    while uses.lookups:
        lowering.lookup(uses.lookups.pop(0))
    model.validate_nodes_and_infer_types()
    return NativeReport(
        linears=len(linears),
        operations=operations,
        gated=gated,
        embeddings=embeddings,
        compressed=len(compressed),
        nbytes=lowering.nbytes,
        bytes_per_step=lowering.bytes_per_step,
        skipped=uses.others,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Layers that become one operation; ``product`` is that of the two of a gate."""

    linears: list[Linear]
    product: ov.Output | None = None


class _Lowering(Generic[P]):
    """Makes the operations, and packs each matrix once."""

    def __init__(self, ops: NativeOps[P]) -> None:
        self._ops = ops
        self.bytes_per_step = 0
        self._packed: dict[tuple[object, ...], P] = {}
        self._tables: dict[tuple[str, int], P] = {}  # by constant and rows: what a lookup may use

    @property
    def nbytes(self) -> int:
        return sum(packed.nbytes for packed in self._packed.values())

    def linear(self, group: _Group) -> None:
        first = group.linears[0]
        packed = self._pack(group)
        self.bytes_per_step += packed.nbytes
        outputs = self._ops.linear(first.x, packed, first.activation)
        name = _joined([linear.node.get_friendly_name() for linear in group.linears])
        for output in outputs:
            output.get_node().set_friendly_name(name)
        if group.product is not None:
            _replace(group.product, outputs[0])
            return
        for linear, output in zip(group.linears, outputs, strict=True):
            _replace(linear.result, output)
            if linear.activated is not None:  # what it is made from is computed activated now
                _replace(linear.activated, linear.activated.get_node().input_value(0))

    def lookup(self, lookup: Lookup) -> None:
        key = lookup.constant, lookup.table.shape[0]
        if key not in self._tables:
            self._tables[key] = self._packed[key] = self._ops.pack([Projection(lookup.table)])
        rows = self._ops.embedding(lookup.node.input_value(1), self._tables[key])
        rows.get_node().set_friendly_name(lookup.node.get_friendly_name())
        _replace(lookup.node.output(0), rows)

    def _pack(self, group: _Group) -> P:
        """What packing the group gives, or packing another one gave that has the same matrices."""
        first, gated = group.linears[0], group.product is not None
        key = (gated, *(part for linear in group.linears for part in _source(linear)))
        if key not in self._packed:
            projections = [Projection(linear.weight, linear.bias) for linear in group.linears]
            self._packed[key] = self._ops.pack(projections, gated=gated)
            if not gated:
                self._tables[first.constant, first.weight.shape[0]] = self._packed[key]
        return self._packed[key]


def _source(linear: Linear) -> tuple[object, ...]:
    """What tells a projection from others."""
    return linear.constant, linear.start, linear.weight.shape[0], None if linear.bias is None else linear.bias.tobytes()


def _grouped(linears: Sequence[Linear]) -> list[_Group]:
    """Gates, and of what is left up to four that can be merged, in the order of the graph."""
    groups = _gates(linears)
    in_gates = {linear for group in groups for linear in group.linears}
    alike: dict[tuple[object, ...], list[Linear]] = {}
    for linear in linears:
        if linear not in in_gates:
            alike.setdefault((*_packing(linear), linear.activation), []).append(linear)
    for found in alike.values():
        groups += [_Group(found[start : start + _MOST]) for start in range(0, len(found), _MOST)]
    place = {linear: number for number, linear in enumerate(linears)}
    return sorted(groups, key=lambda group: place[group.linears[0]])


def _gates(linears: Sequence[Linear]) -> list[_Group]:
    """Pairs of layers whose results, the first one's activated, are multiplied with each other, and go nowhere else."""
    plain = {identity(linear.result): linear for linear in linears if linear.activation == "none"}
    gates = []
    for linear in linears:
        user = None if linear.activated is None else only_user(linear.activated)
        if linear.activated is None or user is None or user.get_node().get_type_name() != "Multiply":
            continue
        factor = user.get_node().input_value(1 - user.get_index())
        other = plain.get(identity(factor))
        direct = identity(linear.activated.get_node().input_value(0)) == identity(linear.result)
        if other is None or only_user(factor) is None or not direct:
            continue
        if _packing(linear) == _packing(other) and linear.weight.shape == other.weight.shape:
            gates.append(_Group([linear, other], user.get_node().output(0)))
    return gates


def _packing(linear: Linear) -> tuple[object, ...]:
    """What projections of one operation have in common."""
    weight, columns = linear.weight, linear.weight.shape[1]
    if isinstance(weight, Weight):
        return identity(linear.x), weight.dtype, columns
    return identity(linear.x), weight.bits, columns, weight.scale.shape[1], weight.zero_point is None


def _fold_shapes(model: ov.Model) -> None:
    """Shapes that are known become constants: exported models take the hidden size from the shape of the embedding."""
    for node in model.get_ops():
        if node.get_type_name() == "ShapeOf" and node.get_input_partial_shape(0).is_static:
            shape = op.constant(list(node.get_input_shape(0)), node.get_output_element_type(0))
            _replace(node.output(0), shape.output(0))


def _replace(old: ov.Output, new: ov.Output) -> None:
    for port in old.get_target_inputs():
        port.replace_source_output(new)
    new.add_names(old.get_names())


def _joined(names: list[str]) -> str:
    """``["0.q_proj/x", "0.k_proj/x"]`` -> ``"0.q_proj+k_proj/x"``."""
    names = list(dict.fromkeys(names))
    if len(names) == 1:
        return names[0]
    paths = [re.split(r"(?=[./])", name) for name in names]
    start = _shared(paths)
    end = _shared([path[start:][::-1] for path in paths])
    middle = ["".join(path[start : len(path) - end]) for path in paths]
    middle[1:] = [part.lstrip("./") for part in middle[1:]]
    return "".join(paths[0][:start]) + "+".join(middle) + "".join(paths[0][len(paths[0]) - end :])


def _shared(paths: list[list[str]]) -> int:
    """How many parts, from the first on, all have in common."""
    return sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False)))
