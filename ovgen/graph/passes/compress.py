"""Compress the weights of a model that is there already, e.g. of an IR folder."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import openvino as ov

from ovgen.graph.compressed import stored_matrix
from ovgen.graph.constants import weight_node
from ovgen.graph.passes.rows import head_input
from ovgen.weights import Compressed, Compression, Progress, Statistics, Weight, report_exceptions, stored_as

_log = logging.getLogger("ovgen")

__all__ = ["StoredMatrix", "compress_model", "compressed_size", "stored_matrices"]


@dataclass(slots=True, eq=False)
class StoredMatrix:
    """A matrix of a model: an embedding, the head, or the weight of a linear layer.

    Attributes:
        name: of the constant.
        value: ``(rows, columns)``.
        uses: the inputs of Gather and MatMul operations that it goes to.
        table: whether it is an embedding or the head.
    """

    name: str
    value: Weight | Compressed
    uses: list[ov.Input] = field(default_factory=list)
    table: bool = False


def compress_model(
    model: ov.Model,
    compression: Compression,
    *,
    statistics: Statistics | None = None,
    progress: Progress | None = None,
) -> None:
    """Compress the embeddings, the head and the linear layers of a causal LM, in place.

    What is stored in fewer bits already stays; what is compressed to 8 bits is decompressed to be stored in 4. Vectors
    keep their precision. Constants that several operations share stay shared.

    Args:
        model: the causal LM form.
        compression: what to store the weights in.
        statistics: of the inputs of linear layers, by the name of the weight.
        progress: told each matrix.

    Raises:
        UnsupportedModelError: a matrix cannot be compressed.
    """
    misfits, kept = [], []
    matrices = stored_matrices(model)
    while matrices:
        matrix = matrices.pop(0)  # its memory is free when it has been replaced
        columns = matrix.value.shape[1]
        scheme = compression.of_table(columns) if matrix.table else compression.of_matrix(columns)
        if not matrix.table and not compression.fits(columns):
            misfits.append(f"{matrix.name} ({scheme})")
        moments = None if statistics is None or matrix.table else statistics.get(matrix.name)
        value = stored_as(scheme, matrix.value, matrix.name, moments=moments)
        if value is matrix.value and isinstance(value, Compressed):
            kept.append(matrix.name)
        elif value is not matrix.value:
            node = weight_node(matrix.name, value)
            for port in matrix.uses:
                port.replace_source_output(node.output(0))
        if progress is not None:
            progress(matrix.name, matrix.value.nbytes)
    report_exceptions(misfits, kept)
    left = _stored_the_other_way_round(model)
    if left:
        _log.warning("%d matrices stay as they are, being stored (inputs, outputs): %s", len(left), ", ".join(left[:3]))
    model.validate_nodes_and_infer_types()


def _stored_the_other_way_round(model: ov.Model) -> list[str]:
    """Names of weights that MatMuls take as they are, not transposed: their groups would lie along the outputs."""
    matmuls = (node for node in model.get_ops() if node.get_type_name() == "MatMul")
    stored = (stored_matrix(n.input_value(1)) for n in matmuls if not n.get_attributes()["transpose_b"])
    return [matrix[0] for matrix in stored if matrix is not None]


def compressed_size(model: ov.Model, compression: Compression) -> int:
    """How many bytes the matrices of a model will take; what cannot be compressed further counts as it is."""
    return sum(
        compression.bytes_of(*matrix.value.shape, table=matrix.table)
        if compression.weights == "f16"
        else min(matrix.value.nbytes, compression.bytes_of(*matrix.value.shape, table=matrix.table))
        for matrix in stored_matrices(model)
    )


def stored_matrices(model: ov.Model) -> list[StoredMatrix]:
    """The matrices of a causal LM, in the order in which they are used."""
    found: dict[str, StoredMatrix] = {}
    head = head_input(model).get_node().get_name()
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "Gather":
            port = node.input(0)
        elif kind == "MatMul" and node.get_attributes()["transpose_b"]:
            port = node.input(1)
        else:
            continue
        stored = stored_matrix(port.get_source_output())
        if stored is not None:
            constant = _constant(port.get_source_output().get_node())  # its own name: friendly ones need not differ
            matrix = found.setdefault(constant.get_name(), StoredMatrix(*stored))
            matrix.uses.append(port)
            matrix.table |= kind == "Gather" or node.get_name() == head
    return list(found.values())


def _constant(node: ov.Node) -> ov.Node:
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return node
