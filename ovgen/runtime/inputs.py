"""Input tensors of an infer request that are written in place from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

__all__ = ["InputBuffer"]

_INITIAL = 64


class InputBuffer:
    """One integer input, ``(n,)`` or ``leading + (n,)``, whose length may differ between steps.

    The buffer owns the memory; the request sees it through a tensor that is made anew only when the length changes.
    In decoding it hardly ever does, and a step costs one small copy.
    """

    def __init__(self, request: ov.InferRequest, port: ov.ConstOutput, leading: tuple[int, ...] = ()) -> None:
        self._request = request
        self._port = port
        self._leading = leading
        self._data: NDArray[Any] = np.zeros(_INITIAL, port.element_type.to_dtype())  # (capacity,) i32 or i64
        self._bound = -1
        self._tensor: ov.Tensor | None = None  # kept: it shares the buffer's memory

    def write(self, values: Sequence[int] | NDArray[np.integer[Any]]) -> None:
        """Make ``values`` ``(n,)`` what the next inference reads."""
        n = len(values)
        if n > len(self._data):
            self._bound = -1  # first: if this is interrupted, the old memory is still bound and still here
            self._data = np.zeros(1 << (n - 1).bit_length(), self._data.dtype)
        self._data[:n] = values
        if n != self._bound:
            view = self._data[:n].reshape((*self._leading, n))
            self._tensor = ov.Tensor(view, shared_memory=True)
            self._request.set_tensor(self._port, self._tensor)
            self._bound = n
