"""A device with memory of its own, on CPU: tensors that only OpenVINO's copies reach, as those of a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov


class DeviceTensor(ov.Tensor):  # type: ignore[misc]  # OpenVINO has no types for its native half
    """What an `ov.RemoteTensor` does in Python: ``get_shape``, ``copy_to``, ``copy_from`` and parts, and no more."""

    @property
    def data(self) -> Any:
        raise NotImplementedError("the memory of a device")

    def copy_from(self, source: ov.Tensor) -> None:
        assert self.get_size(), "a copy of nothing"
        super().copy_from(source)

    @property
    def shape(self) -> Any:
        raise AttributeError("ov.RemoteTensor has none")


class DeviceContext:
    """An `ov.RemoteContext`. Fresh memory is noise, which is NaN to any float.

    Args:
        room: bytes that a tensor in its own memory may have.
    """

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.made: list[str] = []  # the kind of each tensor

    def create_tensor(self, kind: ov.Type, shape: ov.Shape, properties: dict[str, Any]) -> DeviceTensor:
        assert properties == {}
        noise = self._noise(kind, shape)
        if noise.byte_size > self.room:
            raise RuntimeError("[GPU] Exceeded max size of memory object allocation")
        tensor = DeviceTensor(kind, shape)
        tensor.copy_from(noise)
        self.made.append("device")
        return tensor

    def create_host_tensor(self, kind: ov.Type, shape: ov.Shape) -> ov.Tensor:
        self.made.append("host")
        return self._noise(kind, shape)

    def _noise(self, kind: ov.Type, shape: ov.Shape) -> ov.Tensor:
        tensor = ov.Tensor(kind, shape)
        tensor.data.reshape(-1).view(np.uint8)[:] = 255
        return tensor
