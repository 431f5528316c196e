"""The one file that reaches private modules of OpenVINO, with what to do when they are gone or refuse.

``openvino._offline_transformations`` is neither documented nor stable: ``pyproject.toml`` pins the versions of
OpenVINO that were tested, and each function here turns any failure into `TransformationError`, which callers answer by
taking another form of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openvino as ov

from ovgen.errors import UnsupportedModelError

__all__ = ["TransformationError", "make_stateful", "to_paged_attention"]


class TransformationError(UnsupportedModelError):
    """OpenVINO could not rewrite a model; the model may be left half rewritten and must be dropped."""


def to_paged_attention(model: ov.Model) -> None:
    """Replace the attention of a stateful model by ``PagedAttentionExtension``, in place.

    Raises:
        TransformationError: the transformation is missing or does not recognise the model.
    """
    _apply("paged_attention_transformation", model)
    if not any(op.get_type_name() == "PagedAttentionExtension" for op in model.get_ops()):
        raise TransformationError("the paged-attention transformation found no attention that it knows")


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
