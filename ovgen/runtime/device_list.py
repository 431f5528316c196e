"""Which devices to try, in which order, and with which properties each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ovgen.config import nearest
from ovgen.errors import ConfigError
from ovgen.runtime.device import VIRTUAL, base_name, core

__all__ = ["check_sections", "device_order", "device_properties"]

_PREFERRED = ("GPU", "NPU", "CPU")  # what AUTO tries, fastest first


def device_order(device: str | Sequence[str]) -> tuple[str, ...]:
    """The devices to try, in order, in capitals, as OpenVINO names them.

    Args:
        device: one name; several, in a list or with commas between; or ``AUTO`` for all that are here, GPU before NPU
            before CPU, ``AUTO:NPU,CPU`` for those named.

    Raises:
        ConfigError: it is not a name or a list of names, a name comes twice, or ``AUTO`` is one of several.
    """
    given: Any = device[0] if isinstance(device, Sequence) and len(device) == 1 else device
    if isinstance(given, str):
        text = given.upper()
        given = [text] if ":" in text and not text.startswith("AUTO:") else text.removeprefix("AUTO:").split(",")
    if not isinstance(given, Sequence) or not all(isinstance(name, str) and name.strip() for name in given or [""]):
        raise ConfigError(f"device must be the name of a device, or a list of names to try, got {device!r}")
    names = tuple(name.strip().upper() for name in given)
    if names == ("AUTO",):
        found = core().available_devices
        return tuple(name for kind in _PREFERRED for name in found if base_name(name) == kind)
    if "AUTO" in map(base_name, names):
        raise ConfigError(f"device is either AUTO, for all that are here, or names those to try, got {device!r}")
    if len(set(names)) < len(names):
        raise ConfigError(f"device names one twice: {', '.join(names)}")
    return names


def device_properties(config: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The properties for one device: those for all, and over them those under its name, ``{"NPU": {...}}``.

    Raises:
        ConfigError: ``config`` is no mapping.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(f"device_config must be a mapping of OpenVINO properties, got {config!r:.80}")
    common = {str(name): value for name, value in config.items() if not isinstance(value, Mapping)}
    sections = [config.get(name) for name in dict.fromkeys((base_name(device), device))]
    for section in sections:
        if isinstance(section, Mapping):
            common.update({str(name): value for name, value in section.items()})
    return common


def check_sections(config: Mapping[str, Any], devices: Sequence[str]) -> None:
    """Raise `ConfigError` for properties under a name that is neither one of ``devices`` nor of a known kind."""
    known = list(dict.fromkeys((*devices, *_PREFERRED)))
    for name, section in config.items():
        if isinstance(section, Mapping) and base_name(name) not in (*map(base_name, known), *VIRTUAL):
            near = nearest(name.upper(), known)
            raise ConfigError(f"device_config has properties for {name!r}, which is no device{near}")
