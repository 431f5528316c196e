"""Tensors of a checkpoint as constants of a graph: who owns their memory, and how 16 bits stay 16 bits.

A constant never copies what lies in a file: its data are pages of the memory-mapped checkpoint, read when
they are first touched and dropped by the system when it needs the room. Who keeps a mapping alive:

* Types that numpy has: ``op.constant(array, shared_memory=True)`` stores a reference to the array inside the
  constant's buffer (taken and released under the GIL), and the array refers to the mapping. The buffer is
  shared by every clone and compiled model: the mapping lives exactly as long as the last of them.
* bfloat16, which numpy lacks: ``ov.Tensor(array, shape, type)`` could name the type, but a constant made from
  such a tensor does *not* keep the array alive. OpenVINO maps the file itself instead, as it does for the
  ``.bin`` of an IR: a few lines of IR text point into the safetensors file.
* A bfloat16 array that does not lie in a file as it is wanted (a transposed matrix) is copied, and the array is freed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as op

from ovgen.errors import UnsupportedModelError
from ovgen.graph.compressed import decompressed
from ovgen.weights import FLOATS, Checkpoint, Compressed, Weight

__all__ = ["Constants", "mark_decompression", "weight_node"]

_MARK = "decompression_0"


class Constants:
    """The weights of a checkpoint as float32 nodes, each made once however often it is used."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._nodes: dict[str, ov.Node] = {}
        self._mapped = _map_bfloat16(checkpoint)

    def get(self, name: str, shape: tuple[int, ...]) -> ov.Node:
        """The tensor ``name`` as an f32 node of ``shape``; its constant has the precision that is stored.

        Args:
            name: the tensor's name, which becomes the constant's.
            shape: the shape that is wanted.

        Raises:
            MissingTensorError: the tensor is not there, or its shape is another.
            UnsupportedModelError: it is not stored as F32, F16 or BF16.
        """
        return self._once(name, lambda: self._checkpoint.get(name, shape))

    def matrix(self, name: str, shape: tuple[int, int], *, transposed: bool = False) -> ov.Node:
        """The weight ``(outputs, inputs)`` of a linear layer; see ``Checkpoint.matrix``. Errors are those of `get`."""
        return self._once(name, lambda: self._checkpoint.matrix(name, shape, transposed=transposed))

    def table(self, name: str, shape: tuple[int, int]) -> ov.Node:
        """``(vocabulary, hidden)``, of an embedding, a head or both. Errors are those of `get`."""
        return self._once(name, lambda: self._checkpoint.table(name, shape))

    def _once(self, name: str, take: Callable[[], Weight | Compressed]) -> ov.Node:
        if name not in self._nodes:
            tensor = take()
            mapped = self._mapped.get(name) if isinstance(tensor, Weight) and _lies_in_file(tensor) else None
            fits = mapped is not None and tuple(mapped.get_output_shape(0)) == tensor.shape
            self._nodes[name] = _as_f32(name, mapped) if fits else weight_node(name, tensor)
        return self._nodes[name]


def weight_node(name: str, tensor: Weight | Compressed) -> ov.Node:
    """A tensor as an f32 node, whose constant is called ``name`` and has the precision that is stored.

    Raises:
        UnsupportedModelError: it is not stored as F32, F16, BF16, or compressed along its rows.
    """
    if isinstance(tensor, Compressed):
        return decompressed(name, tensor)
    if tensor.dtype not in FLOATS:
        raise UnsupportedModelError(f"tensor {name!r} is stored as {tensor.dtype}; there are: {', '.join(FLOATS)}")
    return _as_f32(name, _constant(tensor))


def mark_decompression(convert: ov.Node) -> None:
    """Marks a Convert of a constant as decompression: plugins then keep the constant as it is in memory.

    Without the mark a plugin folds the Convert at compile time, and the weights take twice the memory. Python
    has no constructor for the attribute, but reading an IR makes one, which may be attached to other nodes.
    """
    convert.set_rt_info(_decompression_attribute(), _MARK)


def _as_f32(name: str, constant: ov.Node) -> ov.Node:
    constant.set_friendly_name(name)
    if constant.get_element_type() == ov.Type.f32:
        return constant
    convert = op.convert(constant, "f32")
    convert.set_friendly_name(f"{name}/f32")
    mark_decompression(convert)
    return convert


def _constant(weight: Weight) -> ov.Node:
    array = np.require(weight.array, requirements=("C", "ALIGNED", "WRITEABLE"))  # copies only if it must
    if weight.dtype == "BF16":
        tensor = ov.Tensor(array, list(array.shape), ov.Type.bf16)
        return op.constant(tensor, shared_memory=False)
    return op.constant(array, shared_memory=True)


def _lies_in_file(weight: Weight) -> bool:
    return weight.file is not None and weight.array.flags.c_contiguous


def _map_bfloat16(checkpoint: Checkpoint) -> dict[str, ov.Node]:
    """A constant for each bfloat16 tensor that lies in a file, by name, over OpenVINO's own mapping of it.

    Of a transposed view it is what lies in the file.
    """
    by_file: dict[Path, dict[str, Weight]] = {}
    for name, weight in checkpoint.stored().items():
        if isinstance(weight, Weight) and weight.dtype == "BF16" and weight.file is not None and weight.array.size:
            by_file.setdefault(weight.file, {})[name] = weight if _lies_in_file(weight) else weight.transposed()
    nodes: dict[str, ov.Node] = {}
    for file, weights in by_file.items():
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "constants.xml"
            text.write_text(_constants_text(weights.values()), "utf-8")
            constants = {node.get_friendly_name(): node for node in ov.Core().read_model(text, file).get_ops()}
        for number, name in enumerate(weights):
            nodes[name] = constants[str(number)]
            # It says where in "the .bin" the data are: of a model without a .bin that would mislead a cache.
            del nodes[name].get_rt_info()["WeightlessCacheAttribute_0"]
    return nodes


def _constants_text(weights: Iterable[Weight]) -> str:
    """An IR of nothing but Const layers, named 0, 1, …, each at its tensor's offset in the file."""
    layers, edges = [], []
    for number, weight in enumerate(weights):
        dims = "".join(f"<dim>{n}</dim>" for n in weight.shape)
        shape = ",".join(map(str, weight.shape))
        layers.append(
            f'<layer id="{2 * number}" name="{number}" type="Const" version="opset1">'
            f'<data element_type="bf16" shape="{shape}" '
            f'offset="{weight.offset}" size="{weight.array.nbytes}"/>'
            f'<output><port id="0" precision="BF16">{dims}</port></output></layer>'
            f'<layer id="{2 * number + 1}" name="result_{number}" type="Result" version="opset1">'
            f'<input><port id="0" precision="BF16">{dims}</port></input></layer>'
        )
        edges.append(f'<edge from-layer="{2 * number}" from-port="0" to-layer="{2 * number + 1}" to-port="0"/>')
    return _net("".join(layers), "".join(edges))


def _net(layers: str, edges: str) -> str:
    return f'<net name="_" version="11"><layers>{layers}</layers><edges>{edges}</edges></net>'


@cache
def _decompression_attribute() -> Any:
    layers = (
        '<layer id="0" name="0" type="Parameter" version="opset1"><data shape="1" element_type="f16"/>'
        '<output><port id="0" precision="FP16"><dim>1</dim></port></output></layer>'
        '<layer id="1" name="1" type="Convert" version="opset1"><data destination_type="f32"/>'
        '<rt_info><attribute name="decompression" version="0"/></rt_info>'
        '<input><port id="0" precision="FP16"><dim>1</dim></port></input>'
        '<output><port id="1" precision="FP32"><dim>1</dim></port></output></layer>'
        '<layer id="2" name="2" type="Result" version="opset1">'
        '<input><port id="0" precision="FP32"><dim>1</dim></port></input></layer>'
    )
    edges = (
        '<edge from-layer="0" from-port="0" to-layer="1" to-port="0"/>'
        '<edge from-layer="1" from-port="1" to-layer="2" to-port="0"/>'
    )
    model = ov.Core().read_model(_net(layers, edges).encode(), b"")
    return next(node for node in model.get_ops() if node.get_type_name() == "Convert").get_rt_info()[_MARK]
