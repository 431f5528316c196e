"""Devices: what is there, and compiling a model for one. One `ov.Core` compiles everything."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

import openvino as ov

from ovgen.errors import ConfigError, DeviceError
from ovgen.graph.lint import lint, summary
from ovgen.graph.messages import cause
from ovgen.runtime.advice import advice, driver_advice
from ovgen.runtime.blob_cache import compile_cached, keeps_blobs

__all__ = [
    "VIRTUAL",
    "absence",
    "base_name",
    "check_device",
    "compile_model",
    "core",
    "device_errors",
    "list_devices",
    "wait_before_freeing",
    "wait_quietly",
]

VIRTUAL = ("AUTO", "HETERO", "MULTI", "BATCH")
"""Devices that OpenVINO offers on top of the physical ones; `Core.available_devices` does not list them."""

# What OpenVINO's Python bindings raise: the last four for values that they cannot convert, and for std::bad_alloc.
_RAISED = (RuntimeError, TypeError, ValueError, OverflowError, MemoryError)


@lru_cache(maxsize=1)
def core() -> ov.Core:
    """The process's `ov.Core`; making one scans the plugins, so it is made once, when first needed."""
    return ov.Core()


def base_name(device: str) -> str:
    """``GPU`` of ``GPU.1``."""
    return device.split(":")[0].split(".")[0]


def list_devices() -> dict[str, dict[str, Any]]:
    """Properties of every device OpenVINO finds here: name -> property -> value, all of it plain data."""
    return {name: _properties(name) for name in core().available_devices}


def check_device(device: str, config: Mapping[str, Any] | None = None) -> None:
    """Say at once that a device is absent, not after a model has been read.

    Args:
        device: OpenVINO's name.
        config: its properties. An NPU need not be there if its plugin is told to compute elsewhere: ``NPU_USE_NPUW``
            with ``NPUW_DEVICES`` that do not name one.

    Raises:
        DeviceError: OpenVINO does not find the device; the message lists those that it finds, and what to install.
    """
    reason = absence(device, config or {})
    if reason is not None:
        raise DeviceError(f"{reason}. {driver_advice(base_name(device))}".removesuffix(". "))


def absence(device: str, config: Mapping[str, Any]) -> str | None:
    """Why `check_device` refuses a device, in one short line; None if it does not."""
    found = core().available_devices
    base = base_name(device)
    if base in VIRTUAL or base in map(base_name, found) or (base == "NPU" and _computes_elsewhere(config)):
        return None
    return f"device {device!r} is not available here; OpenVINO finds: {', '.join(found) or 'none'}"


def compile_model(
    model: ov.Model, device: str, config: Mapping[str, Any], *, identity: str | None = None
) -> ov.CompiledModel:
    """Compile ``model`` for ``device``; ``config`` goes to OpenVINO as it is, over LATENCY as the default hint.

    Args:
        model: what to compile.
        device: OpenVINO's name.
        config: properties. ``CACHE_DIR`` is a folder where compiled models are kept.
        identity: stands for the model's weights, such as `ovgen.loader.digest`, and whatever was done to them. With it,
            what is in ``CACHE_DIR`` is checked (`ovgen.runtime.blob_cache`), where the device exports compiled models;
            without it, ``CACHE_DIR`` is OpenVINO's business.

    Raises:
        ConfigError: OpenVINO does not know a property in ``config``, or refuses its value.
        DeviceError: the device refuses the model.
    """
    properties = {"PERFORMANCE_HINT": "LATENCY", **config}
    folder = properties.get("CACHE_DIR") or "."
    if not isinstance(folder, (str, os.PathLike)) or Path(folder).expanduser().is_file():
        raise ConfigError(f"CACHE_DIR must be a folder, got {folder!r}")
    if identity is not None and keeps_blobs(core(), device, properties):
        return compile_cached(core(), model, device, properties, identity, _compile)
    return _compile(model, device, properties)


def wait_before_freeing(owner: object, request: ov.InferRequest) -> None:
    """Let an inference that is still running end before ``owner``, and the memory it works on, is gone.

    This happens whenever a stream is left and its model with it: at the end of the program, for one.
    """
    weakref.finalize(owner, wait_quietly, request)


@contextmanager
def device_errors(device: str, doing: str = "ran the model") -> Iterator[None]:
    """Whatever OpenVINO raises inside becomes a `DeviceError` that names the device and what it was doing."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        raise DeviceError(f"{device} failed while it {doing}: {cause(error)}") from error


def wait_quietly(request: ov.InferRequest) -> None:
    """Wait for an inference whose results, or failure, nobody will read."""
    with suppress(RuntimeError):
        request.wait()


def _compile(model: ov.Model, device: str, properties: Mapping[str, Any]) -> ov.CompiledModel:
    try:
        return core().compile_model(model, device, properties)
    except _RAISED as error:
        message = cause(error)
        name = _blamed(properties, message)
        if name is not None:
            told = f"{device} refuses {name}={properties[name]!r} in device_config: {message}"
            raise ConfigError(told + _meant(name, device)) from error
        hint = advice(base_name(device), str(error)) or _suspects(model, device, properties)
        raise DeviceError(f"{device} cannot compile the model: {message.rstrip('.')}. {hint}".rstrip()) from error


def _blamed(properties: Mapping[str, Any], message: str) -> str | None:
    """The property that a message names."""
    words = set(re.findall(r"\w+", message))
    return next((name for name in sorted(properties, key=len, reverse=True) if name in words), None)


def _meant(name: str, device: str) -> str:
    """A property of the device that an unknown one may be a slip of the pen for."""
    try:
        known = [str(each) for each in core().get_property(device, "SUPPORTED_PROPERTIES")]
    except _RAISED:
        return ""
    near = get_close_matches(name, known, n=1, cutoff=0.8) if name not in known else []
    return f" Did you mean {near[0]!r}?" if near else ""


def _computes_elsewhere(config: Mapping[str, Any]) -> bool:
    """Whether the NPU's plugin is told to use other devices only."""
    used = str(config.get("NPUW_DEVICES", "NPU")).split(",")
    return str(config.get("NPU_USE_NPUW")).upper() in ("YES", "TRUE") and "NPU" not in map(base_name, used)


def _suspects(model: ov.Model, device: str, config: Mapping[str, Any]) -> str:
    """What in a model an NPU may have refused."""
    found = lint(model) if base_name(device) == "NPU" and not _computes_elsewhere(config) else []
    return f"What NPUs may not take: {summary(found)}" if found else ""


def _properties(device: str) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name in core().get_property(device, "SUPPORTED_PROPERTIES"):
        try:
            properties[str(name)] = _plain(core().get_property(device, name))
        except Exception as error:  # some are listed but cannot be read before a model is compiled
            properties[str(name)] = f"unreadable: {cause(error)}"
    return dict(sorted(properties.items()))


def _plain(value: Any) -> Any:
    """OpenVINO's types and enumerations as text; numbers, flags and lists as they are."""
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value.get_type_name() if isinstance(value, ov.Type) else str(value)
