"""The one file that reaches private modules of OpenVINO, with what to do when they are gone or refuse.

``openvino._offline_transformations`` is neither documented nor stable: ``pyproject.toml`` pins the versions of
OpenVINO that were tested, and each function here turns any failure into `TransformationError`, which callers answer by
taking another form of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openvino as ov
import openvino.opset15 as op

from ovgen.errors import UnsupportedModelError

__all__ = ["TransformationError", "has_slopes", "make_stateful", "set_window", "to_paged_attention"]

_WINDOW, _SLOPES = 10, 11  # inputs of PagedAttentionExtension


class TransformationError(UnsupportedModelError):
    """OpenVINO could not rewrite a model; the model may be left half rewritten and must be dropped."""


def to_paged_attention(model: ov.Model) -> None:
    """Replace the attention of a stateful model by ``PagedAttentionExtension``, in place.

    Raises:
        TransformationError: the transformation is missing or does not recognise the model.
    """
    _apply("paged_attention_transformation", model)
    kinds = {node.get_type_name() for node in model.get_ops()}
    if "PagedAttentionExtension" not in kinds or kinds & {"ScaledDotProductAttention", "ReadValue"}:
        raise TransformationError("the paged-attention transformation does not know every attention of the model")


def set_window(attention: ov.Node, window: int) -> None:
    """Let a ``PagedAttentionExtension`` see ``window`` tokens, the newest included; 0: all."""
    attention.input(_WINDOW).replace_source_output(op.constant(window, ov.Type.i32).output(0))


def has_slopes(attention: ov.Node) -> bool:
    """Whether a ``PagedAttentionExtension`` lowers scores with distance (ALiBi, arXiv:2108.12409)."""
    return bool(attention.get_input_partial_shape(_SLOPES) != ov.PartialShape([0]))


def make_stateful(model: ov.Model, pairs: dict[str, str]) -> None:
    """Turn pairs of a Parameter and a Result (by tensor name) into a ReadValue and an Assign, in place.

    Raises:
        TransformationError: the transformation is missing or refuses the pairs.
    """
    _apply("apply_make_stateful_transformation", model, pairs)


def _apply(name: str, *arguments: Any) -> None:
    try:
        from openvino import _offline_transformations as private

        transformation: Callable[..., None] = getattr(private, name)
        transformation(*arguments)
    except Exception as error:  # pybind raises RuntimeError, TypeError, AttributeError: all mean "not possible"
        raise TransformationError(f"OpenVINO's {name} failed: {error}") from error
