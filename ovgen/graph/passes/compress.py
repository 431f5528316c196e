"""Compress the weights of a model that is there already, e.g. of an IR folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import openvino as ov

from ovgen.graph.compressed import stored_matrix
from ovgen.graph.constants import weight_node
from ovgen.graph.passes.rows import head_input
from ovgen.weights import Compressed, Compression, Compressor, Progress, Statistics, Weight

__all__ = ["StoredMatrix", "compress_model", "compressed_size", "stored_matrices"]


@dataclass(slots=True, eq=False)
class StoredMatrix:
    """A matrix of a model: an embedding, the head, or the weight of a linear layer.

    Attributes:
        name: of the constant, with a number if another one is called so, too.
        value: ``(outputs, inputs)`` or ``(vocabulary, hidden)``; the other way round if it is ``transposed``.
        transposed: whether MatMuls take the constant as it is, ``(inputs, outputs)``.
        uses: the inputs of Gather and MatMul operations that it goes to.
        table: whether it is an embedding or the head.
    """

    name: str
    value: Weight | Compressed
    transposed: bool = False
    uses: list[ov.Input] = field(default_factory=list)
    table: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """``(outputs, inputs)`` or ``(vocabulary, hidden)``."""
        rows, columns = self.value.shape
        return (columns, rows) if self.transposed else (rows, columns)


def compress_model(
    model: ov.Model,
    compression: Compression,
    *,
    statistics: Statistics | None = None,
    progress: Progress | None = None,
) -> None:
    """Compress the embeddings, the head and the linear layers of a causal LM, in place.

    What is stored in fewer bits already stays; what is compressed to 8 bits is decompressed to be stored in 4. Vectors
    keep their precision. Constants that several operations share stay shared. Weights ``(inputs, outputs)`` are
    transposed, because groups lie along the inputs, and plugins take them so only as rows.

    Args:
        model: the causal LM form.
        compression: what to store the weights in.
        statistics: of the inputs of linear layers, by the name of the weight.
        progress: told each matrix.

    Raises:
        UnsupportedModelError: a matrix cannot be compressed.
    """
    compressor = Compressor(compression, statistics, progress)
    matrices = stored_matrices(model)
    while matrices:
        matrix = matrices.pop(0)  # its memory is free when it has been replaced
        store = compressor.table if matrix.table else compressor.matrix
        value = store(matrix.name, matrix.value, transposed=matrix.transposed)
        as_it_was = value is matrix.value or (isinstance(value, Compressed) and value.flipped)
        if not as_it_was:
            _replace(matrix, value)
    compressor.warn()
    model.validate_nodes_and_infer_types()


def _replace(matrix: StoredMatrix, value: Weight | Compressed) -> None:
    """Put ``(outputs, inputs)`` in the place of a matrix."""
    node = weight_node(matrix.name, value)
    for port in matrix.uses:
        port.replace_source_output(node.output(0))
        if matrix.transposed:
            port.get_node().set_attribute("transpose_b", True)


def compressed_size(model: ov.Model, compression: Compression) -> int:
    """How many bytes the matrices of a model will take; what cannot be compressed further counts as it is."""
    return sum(
        compression.bytes_of(*matrix.shape, table=matrix.table)
        if compression.weights == "f16"
        else min(matrix.value.nbytes, compression.bytes_of(*matrix.shape, table=matrix.table))
        for matrix in stored_matrices(model)
    )


def stored_matrices(model: ov.Model) -> list[StoredMatrix]:
    """The matrices of a causal LM, in the order in which they are used.

    As in NNCF, whatever rows are looked up in is an embedding, such as the table of GPT-2's positions; and a constant
    that a MatMul takes is the weight of a linear layer. A constant that is taken both ways round counts twice.
    """
    found: dict[tuple[str, bool], StoredMatrix] = {}
    names: Counter[str] = Counter()
    head = head_input(model).get_node().get_name()
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "MatMul":
            port, transposed = node.input(1), not node.get_attributes()["transpose_b"]
        elif kind == "Gather" and _looks_up_rows(node):
            port, transposed = node.input(0), False
        else:
            continue
        stored = stored_matrix(port.get_source_output())
        if stored is None or 1 in stored[1].shape:  # the frequencies of RoPE, say
            continue
        name, value = stored
        key = _constant(port.get_source_output().get_node()).get_name(), transposed  # friendly names need not differ
        if key not in found:
            names[name] += 1
            number = names[name]
            found[key] = StoredMatrix(name if number == 1 else f"{name}_{number}", value, transposed)
        found[key].uses.append(port)
        found[key].table |= kind == "Gather" or node.get_name() == head
    return list(found.values())


def _looks_up_rows(gather: ov.Node) -> bool:
    axis = gather.input_value(2).get_node()
    return bool(axis.get_type_name() == "Constant" and axis.data.item() == 0)


def _constant(node: ov.Node) -> ov.Node:
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return node
