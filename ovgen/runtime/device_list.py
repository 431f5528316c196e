"""Which devices to try, in which order, and with which properties each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ovgen.errors import ConfigError
from ovgen.runtime.device import core

__all__ = ["base_name", "device_order", "device_properties"]

_PREFERRED = ("GPU", "NPU", "CPU")  # what AUTO tries, fastest first


def base_name(device: str) -> str:
    """``GPU`` of ``GPU.1``."""
    return device.split(":")[0].split(".")[0]


def device_order(device: str | Sequence[str]) -> tuple[str, ...]:
    """The devices to try, in order.

    Args:
        device: one name; several; or ``AUTO`` for all that are here, GPU before NPU before CPU, ``AUTO:NPU,CPU`` for
            those named.

    Raises:
        ConfigError: it is not a name or a list of names, or a name comes twice.
    """
    if device in ("AUTO", ["AUTO"]):
        found = core().available_devices
        return tuple(name for kind in _PREFERRED for name in found if base_name(name) == kind)
    if isinstance(device, str) and device.startswith("AUTO:"):
        device = device.removeprefix("AUTO:").split(",")
    names = (device,) if isinstance(device, str) else tuple(device) if isinstance(device, Sequence) else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"device must be the name of a device, or a list of names to try, got {device!r}")
    if len(set(names)) < len(names):
        raise ConfigError(f"device names one twice: {', '.join(names)}")
    return names


def device_properties(config: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The properties for one device: those for all, and over them those under its name, ``{"NPU": {...}}``."""
    common = {name: value for name, value in config.items() if not isinstance(value, Mapping)}
    sections = [config.get(name) for name in dict.fromkeys((base_name(device), device))]
    for section in sections:
        if isinstance(section, Mapping):
            common.update(section)
    return common
