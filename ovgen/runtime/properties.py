"""Values of OpenVINO's properties as plain data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import openvino as ov

from ovgen.errors import ConfigError

__all__ = ["spelt"]


def spelt(value: Any) -> Any:
    """OpenVINO properties as JSON holds them: its types and enumerations become text, which it takes as well.

    Raises:
        ConfigError: a value is of another kind, such as a function.
    """
    if isinstance(value, Mapping):
        return {str(name): spelt(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [spelt(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, ov.Type):
        return value.get_type_name()
    name = getattr(value, "name", None)  # of an enumeration
    if isinstance(name, str):
        return name
    raise ConfigError(
        f"device_config has {value!r:.80}, which cannot be sent to a child process, nor kept in mind with what is in "
        "CACHE_DIR: do without probe and CACHE_DIR"
    )
