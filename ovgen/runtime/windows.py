"""How far back each attention of a model looks, found by computing its mask.

The paged form has no masks: it is causal, and as narrow as a number says. OpenVINO's transformation reads that number
off the few ways it knows to build a mask, and drops any other mask without a word.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ovgen.graph.masks import mask_model
from ovgen.graph.passes import ADAPTERS_INPUT
from ovgen.graph.private import TransformationError
from ovgen.runtime.device import core

__all__ = ["attention_windows"]

_LONGEST = 2**18  # tokens that masks are computed for at most: more than a context
_MOST = 2**26  # elements of a tensor on the way to a mask: of all tokens by all tokens it would have 2**36
_HIDDEN = -6e4  # masks hide a token by adding the lowest float16, or lower


def attention_windows(model: ov.Model, longest: int = _LONGEST) -> dict[str, int | None]:
    """How many tokens each attention of a stateful causal LM sees, itself included; 0 where that is all before it.

    None stands for a mask that also adds something to the scores of visible tokens, as ALiBi does.

    Args:
        model: the causal LM form.
        longest: tokens of the longest sequence that there will be; a window that is as wide is none.

    Returns:
        Window by the friendly name of the ScaledDotProductAttention.

    Raises:
        TransformationError: a mask hides other tokens than a window does, or cannot be computed.
    """
    alone, users = mask_model(model)
    if not users:
        return {}
    masks = _Masks(alone, min(longest, _LONGEST))
    length = masks.longest()
    seen = [int(_visible(row).sum(-1).max()) for row in masks(length - 1, 1)]
    windows = [n if n < length else 0 for n in seen]
    checked = [_checked(masks, output, window, length) for output, window in enumerate(windows)]
    return {name: checked[output] for name, output in users.items()}


class _LengthError(TransformationError):
    """The masks are not defined for so many tokens."""


class _Masks:
    """Masks as functions of how many tokens are cached and how many are new.

    They are evaluated as they are, by the reference implementations of their operations: compiling them, which takes
    longer than all else here, is for what these do not know.
    """

    def __init__(self, model: ov.Model, most: int) -> None:
        self._model = model
        self._most = most
        self._compiled: ov.CompiledModel | None = None
        try:
            self._evaluate(self._inputs(0, 1))
        except RuntimeError:
            self._compiled = self._compile()

    def __call__(self, past: int, new: int) -> list[NDArray[Any]]:
        """Those of one sequence without padding, ``(1, heads or 1, new, past + new)``."""
        inputs = self._inputs(past, new)
        self._check_sizes({name: list(value.shape) for name, value in inputs.items()})
        try:
            return self._evaluate(inputs) if self._compiled is None else list(self._compiled(inputs).values())
        except RuntimeError as error:
            if self._compiled is not None:
                self._compiled = self._compile()  # one that failed remembers shapes that do not fit
            raise _LengthError(f"the attention masks cannot be computed: {error}") from error

    def _inputs(self, past: int, new: int) -> dict[str, NDArray[Any]]:
        inputs: dict[str, NDArray[Any]] = {
            "input_ids": np.zeros((1, new), np.int64),
            "attention_mask": np.ones((1, past + new), np.int64),
            "position_ids": np.arange(past, past + new, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
            ADAPTERS_INPUT: np.zeros(1, np.int32),
        }
        return {port.get_any_name(): inputs[port.get_any_name()] for port in self._model.inputs}

    def _evaluate(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        outputs = [ov.Tensor(port.get_element_type(), ov.Shape([0])) for port in self._model.outputs]
        self._model.evaluate(outputs, [ov.Tensor(value) for value in inputs.values()])
        return [output.data for output in outputs]

    def _compile(self) -> ov.CompiledModel:
        try:
            return core().compile_model(self._model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            raise TransformationError(f"the attention masks cannot be compiled: {error}") from error

    def _check_sizes(self, shapes: dict[str, list[int]]) -> None:
        """Refuse before memory is taken: a system may end a process that takes too much of it."""
        model = self._model.clone()
        try:
            model.reshape(shapes)
        except RuntimeError as error:
            raise _LengthError(f"the attention masks cannot be computed: {error}") from error
        outputs = (port.get_partial_shape() for node in model.get_ops() for port in node.outputs())
        largest = max(prod(shape.to_shape()) for shape in outputs if shape.is_static)
        if largest > _MOST:
            raise TransformationError(f"the attention masks take {largest} numbers to compute, more than {_MOST}")

    def longest(self) -> int:
        """How many tokens there can be, up to as many as are wanted; some models cut their masks out of a table.

        Raises:
            TransformationError: the table has a length that is not a power of two, or the masks take too much memory.
        """
        if self._fit(self._most):
            return self._most
        length = 1
        while self._fit(2 * length):
            length *= 2
        if self._fit(length + 1):
            raise TransformationError(f"the attention masks end somewhere between {length} and {2 * length} tokens")
        return length

    def _fit(self, length: int) -> bool:
        try:
            return all(mask.shape[-1] == length for mask in self(length - 1, 1))
        except _LengthError:
            return False


def _checked(masks: _Masks, output: int, window: int, longest: int) -> int | None:
    """The window, if several rows of the mask agree with it; None if it adds something, too."""
    new = 3
    past = max(min(window + 2, longest - new), 0)
    mask = masks(past, new)[output]
    back = np.arange(past, past + new)[:, None] - np.arange(past + new)  # how far each token looks back
    expected = (back >= 0) & (back < (window or past + new))
    if mask.shape[-2:] != expected.shape or (_visible(mask) != expected).any():
        raise TransformationError("an attention mask hides other tokens than a sliding window does")
    adds = mask.dtype != bool and bool(np.where(expected, mask, 0).any())
    if adds and window:
        raise TransformationError("an attention mask has a window and adds something to the scores besides")
    return None if adds else window


def _visible(mask: NDArray[Any]) -> NDArray[np.bool_]:
    return mask if mask.dtype == bool else mask > _HIDDEN
