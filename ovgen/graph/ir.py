"""Reading a causal LM that is stored as OpenVINO IR."""

from __future__ import annotations

import re
from pathlib import Path

import openvino as ov

from ovgen.errors import CorruptFileError, ModelNotFoundError, UnsupportedModelError
from ovgen.graph.messages import cause

__all__ = ["IR_WEIGHTS", "IR_XML", "read_ir"]

IR_XML = "openvino_model.xml"
IR_WEIGHTS = "openvino_model.bin"

_WITH_VARIABLE = re.compile(rb'type="(?:Assign|ReadValue)"[^>]*>\s*(?:<data\b[^>]*?\bvariable_id="([^"]+)")?')


def read_ir(folder: Path) -> ov.Model:
    """The model in ``folder/openvino_model.xml``, its weights mapped from ``openvino_model.bin``.

    OpenVINO keeps the mapping for as long as a model, clone or compiled model uses it.

    Raises:
        ModelNotFoundError: there is no ``openvino_model.xml``.
        CorruptFileError: a file is missing, truncated or damaged.
        UnsupportedModelError: the model is no causal LM: it lacks ``input_ids`` or ``logits``.
    """
    xml, weights = folder / IR_XML, folder / IR_WEIGHTS
    if not xml.is_file():
        raise ModelNotFoundError(f"{folder} has no {IR_XML}: give the path of an OpenVINO IR folder")
    if not weights.is_file():
        raise CorruptFileError(f"{weights} is missing: copy or export both {IR_XML} and {IR_WEIGHTS}")
    _check_variables(xml)
    try:
        model = ov.Core().read_model(xml, weights)
    except (RuntimeError, UnicodeDecodeError) as error:  # the latter: its message quotes bytes that are no UTF-8
        raise CorruptFileError(f"{xml} or {IR_WEIGHTS} is damaged; export the model again: {cause(error)}") from error
    inputs, outputs = _names(model.inputs), _names(model.outputs)
    if "input_ids" not in inputs or "logits" not in outputs:
        raise UnsupportedModelError(
            f"{xml} is not a causal LM, which takes input_ids and gives logits; "
            f"it takes {', '.join(inputs) or 'nothing'} and gives {', '.join(outputs) or 'nothing'}"
        )
    return model


def _check_variables(xml: Path) -> None:
    """OpenVINO follows a null pointer at an Assign or a ReadValue that does not name its variable."""
    for layer in _WITH_VARIABLE.finditer(xml.read_bytes()):
        if layer[1] is None:
            raise CorruptFileError(f"{xml} is damaged; export the model again: byte {layer.start()}: no variable_id")


def _names(ports: list[ov.Output]) -> list[str]:
    return sorted(name for port in ports for name in port.get_names())
