"""The configuration file: which models there are, and how each is to run.

A setting may stand in several places. The first of these that has it decides:

1. the environment, ``OVGEN_DEVICE`` for one: whoever starts the program has the last word, over all models;
2. the model's own section, ``models.ID``;
3. ``optimization.openvino``, then ``optimization`` itself, then ``openvino``: for all models;
4. the default.

``device`` and ``fallback`` are lists that are joined: the devices are tried in that order. They travel together: where
a place names a ``device``, the ``fallback`` of less specific places is not for it, so that a model with ``device: CPU``
of its own runs there or not at all. ``optimization`` with its ``openvino`` is one place in this, and ``OVGEN_DEVICE``
stands for both. ``optimization.quantization`` is another way to write ``weights``.

``device_config`` may have what ``performance_hint``, ``cache_dir`` and ``num_streams`` set as well, under the name of a
device: for that device it goes before them. For all devices at once, it is an error to set it in both.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias, get_args

from ovgen import env
from ovgen.config import EngineConfig, SamplingParams, nearest
from ovgen.errors import ConfigError, ModelError
from ovgen.loader import locate
from ovgen.runtime.device import base_name
from ovgen.runtime.device_list import device_properties
from ovgen.runtime.forms import Form
from ovgen.runtime.static_graphs import cache_type
from ovgen.weights import Precision
from ovgen.yaml_file import Section, read_yaml

__all__ = ["AS_STORED", "Configuration", "ModelConfig", "ModelSpec", "Setting", "read_configuration"]

AS_STORED = "stored"
"""What ``weights`` says to leave the weights as they are."""

_log = logging.getLogger("ovgen")
_BACKEND = "openvino"
_DEVICES = ("CPU", "GPU", "NPU", "HETERO", "MULTI", "BATCH")  # what device_config may have sections for
_HINTS = ("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT")
_F16_NAMES = {"fp16": "f16", "float16": "f16"}
_DEVICE_NAME = re.compile(r"[A-Z][A-Z0-9_]*([.:(].*)?")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model that can be loaded.

    Attributes:
        path: as `LLM` takes it.
        options: keyword arguments of `LLM`.
        params: fields of `SamplingParams` that override the model's own defaults.
    """

    path: str | os.PathLike[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, and where it comes from: keys and line in the file, a variable, or ``default``."""

    value: Any
    origin: str = "default"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What the configuration comes to for one model.

    Attributes:
        path: its folder or file.
        settings: how to load it. ``device`` holds the devices to try, fallbacks included.
        params: sampling defaults, where they are set.
    """

    path: Setting
    settings: Mapping[str, Setting]
    params: Mapping[str, Setting]

    def spec(self) -> ModelSpec:
        """The model as a `ModelManager` takes it."""
        given = {name: setting.value for name, setting in self.settings.items()}
        properties = {p: given.pop(name) for name, p in _PROPERTIES.items()}
        config = {name: str(value) for name, value in properties.items() if value is not None}
        devices = given.pop("device")
        weights = given.pop("weights")
        options = {
            **given,
            "device": devices[0] if len(devices) == 1 else list(devices),
            "device_config": {**config, **given["device_config"]},
            "weights": None if weights == AS_STORED else weights,
        }
        return ModelSpec(self.path.value, options, {name: setting.value for name, setting in self.params.items()})


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration file, checked, with the environment over it.

    Attributes:
        file: the file.
        models: by id.
        memory_budget: GiB for all loaded models together; None for no limit.
    """

    file: Path
    models: Mapping[str, ModelConfig]
    memory_budget: Setting


def read_configuration(path: str | os.PathLike[str]) -> Configuration:
    """Read and check a configuration file. Paths in it are relative to its folder.

    Raises:
        ConfigError: the file cannot be read; a key is unknown, or its value cannot be used; a model is not where the
            file says. The message names file, line and key.
    """
    file = Path(path).expanduser()
    top = read_yaml(file)
    top.check_keys(("openvino", "optimization", "models", "memory_budget"))
    for message in env.unknown():
        _log.warning("%s", message)
    environment, common = _environment(), _common(top)
    models = top.section("models")
    models.check_keys(models.keys)  # which may be any, if they are text
    if "" in models.keys:
        raise models.error("", "is no name for a model")
    if not models.keys:
        raise ConfigError(f"{file}: models is missing: name one at least, `models: {{ID: {{path: FOLDER}}}}`")
    budget = [_layer(top, ("memory_budget",)), {"memory_budget": Setting(None)}]
    return Configuration(
        file,
        {name: _model(models.section(name, short_for="path"), environment, common) for name in models.keys},
        ChainMap(environment, *budget)["memory_budget"],
    )


_Layer: TypeAlias = "dict[str, Setting]"
"""What one place says about some settings."""


def _common(top: Section) -> list[_Layer]:
    """What the places for all models say, what has precedence first."""
    openvino, optimization = top.section("openvino"), top.section("optimization")
    openvino.check_keys(_OPENVINO)
    optimization.check_keys(("backend", "device", "fallback", "openvino", "quantization"))
    optimization.get("backend", _one_of(_BACKEND))
    inner = optimization.section("openvino")
    inner.check_keys(_OPENVINO)
    own = _layer(optimization, ("device", "fallback")) | _quantization(optimization.section("quantization"))
    return [own | _layer(inner, _OPENVINO), _layer(openvino, _OPENVINO)]


def _quantization(section: Section) -> _Layer:
    section.check_keys(("enabled", "format"))
    enabled, precision = section.get("enabled", _flag), section.get("format", _precision)
    if enabled is None and precision is None:
        return {}
    if enabled is None:
        raise section.error("format", "says nothing without `enabled`: add `enabled: true`, or false")
    if not enabled:
        return {"weights": Setting(AS_STORED, section.where("enabled"))}
    if precision is None:
        raise section.error("enabled", f"needs `format`, one of {', '.join(get_args(Precision))}")
    return {"weights": Setting(precision, section.where("format"))}


def _model(section: Section, environment: _Layer, common: list[_Layer]) -> ModelConfig:
    names = [*_SETTINGS, *_ENGINE]
    section.check_keys(["path", "params", *names])
    path = _layer(section, ("path",)).get("path")
    if path is None:
        raise ConfigError(f"{section.file}: {section.name}.path is missing: where is the model?")
    try:
        locate(path.value)
    except ModelError as error:
        raise section.error("path", f"names no model: {error}") from error
    own = _layer(section, names)
    _check_fields(section, EngineConfig, {name: own[name] for name in _ENGINE if name in own})
    params = section.section("params")
    sampling = {name: Setting(value, params.where(name)) for name, value in params.values.items()}
    params.check_keys([f.name for f in fields(SamplingParams)])
    _check_fields(params, SamplingParams, sampling)
    places = [environment, own, *common, _DEFAULTS]
    settings = {name: ChainMap(*places)[name] for name in names if name != "fallback"}
    settings["device"] = _devices(section.file, places)
    _check_together(section, settings)
    return ModelConfig(path, settings, sampling)


def _check_fields(section: Section, kind: type[SamplingParams] | type[EngineConfig], given: _Layer) -> None:
    """Have the dataclass check its options; its messages begin with the option's name."""
    try:
        kind(**{name: setting.value for name, setting in given.items()})
    except ConfigError as error:
        name, _, message = str(error).partition(" ")
        raise section.error(name, message) from None


def _devices(file: Path, places: Sequence[_Layer]) -> Setting:
    """The devices to try, in order: those of the first place that names any, and what it, or one before, falls back on.

    Raises:
        ConfigError: there is something to fall back on from ``AUTO``, or a device twice.
    """
    first = next(number for number, place in enumerate(places) if "device" in place)
    device, fallback = places[first]["device"], ChainMap(*places[: first + 1]).get("fallback", Setting(()))
    if not fallback.value:
        return device
    origin = f"{device.origin} + {fallback.origin}"
    if "AUTO" in device.value:
        raise ConfigError(f"{file}: {origin}: AUTO tries all devices by itself: leave the fallback out")
    names = [name for each in device.value + fallback.value for name in _alternatives(each)]
    return Setting(_distinct(names, f"{file}: {origin} "), origin)


def _distinct(names: Sequence[str], where: str = "") -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{where}must name each device once, got {', '.join(names)}")
    return tuple(names)


def _check_together(section: Section, settings: _Layer) -> None:
    """What each setting may be, but not beside the others."""
    config, form = settings["device_config"].value, settings["form"].value
    for name, property_name in _PROPERTIES.items():
        if property_name in config and settings[name].value is not None:
            message = f"has {property_name}, which {settings[name].origin} sets, too: keep one of them"
            raise section.error("device_config", message)
    devices = settings["device"].value
    npus = [device for device in devices if base_name(device) == "NPU"]
    if form in ("paged", "stateful") and len(npus) == len(devices):
        raise ConfigError(
            f"{section.file}: {section.name}: NPUs do not take the {form} form ({settings['form'].origin}; device from "
            f"{settings['device'].origin}): leave the form out, or add another device"
        )
    for device in {"auto": npus, "static": devices}.get(form, ()):
        try:
            cache_type(device_properties(config, device))
        except ConfigError as error:
            raise section.error("device_config", f"does not fit: {error}") from None


def _alternatives(device: str) -> list[str]:
    return device.removeprefix("AUTO:").split(",") if device.startswith("AUTO:") else [device]


def _environment() -> _Layer:
    layer = {}
    for name, (variable, text) in env.overrides().items():
        try:
            value = _CHECKS[name](text)
        except ConfigError as error:
            raise ConfigError(f"{variable} {error}") from None
        layer[name] = Setting(value.absolute() if isinstance(value, Path) else value, variable)
    if "device" in layer:
        layer["fallback"] = Setting((), layer["device"].origin)
    return layer


def _layer(section: Section, names: Sequence[str]) -> _Layer:
    """Those of the settings that stand in a section."""
    layer = {}
    for name in names:
        value = section.get(name, _CHECKS.get(name, _as_it_is))
        if value is not None:
            path = section.file.absolute().parent / value if isinstance(value, Path) else value
            layer[name] = Setting(path, section.where(name))
    return layer


def _refuse(rule: str, value: object) -> ConfigError:
    return ConfigError(f"must be {rule}, got {value!r:.80}")


def _as_it_is(value: Any) -> Any:
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refuse("true or false", value)
    return value


def _one_of(*allowed: str) -> Callable[[Any], str]:
    """A check for names, in whichever case they are written."""

    def check(value: Any) -> str:
        for name in allowed:
            if isinstance(value, str) and name.lower() == value.lower():
                return name
        raise _refuse(" or ".join((", ".join(allowed[:-1]), allowed[-1])) if allowed[1:] else allowed[0], value)

    return check


def _precision(value: Any) -> str:
    if isinstance(value, str):
        value = _F16_NAMES.get(value.lower(), value)
    return _one_of(*get_args(Precision))(value)


def _weights(value: Any) -> str:
    return AS_STORED if value == AS_STORED else _precision(value)


def _devices_to_try(value: Any) -> tuple[str, ...]:
    """``NPU``, ``NPU, CPU`` or ``[NPU, CPU]``; a name that holds a list of its own, ``AUTO:GPU,CPU``, is one."""
    names = [value] if isinstance(value, str) and ":" in value else value
    names = names.split(",") if isinstance(names, str) else names
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        names = [name.strip().upper() for name in names]
        if all(map(_DEVICE_NAME.fullmatch, names)):
            return _distinct(names)
    raise _refuse("a device such as CPU, GPU.1 or NPU, or a list of those", value)


def _device(value: Any) -> tuple[str, ...]:
    names = _devices_to_try(value)
    if not names:
        raise _refuse("a device, or a list of devices to try", value)
    return names


def _folder(value: Any) -> Path:
    if not isinstance(value, str) or not value:
        raise _refuse("a path", value)
    return Path(value).expanduser()


def _streams(value: Any) -> int | str:
    if isinstance(value, str) and value.upper() == "AUTO":
        return "AUTO"
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise _refuse("a whole number of at least 1, or AUTO", value)
    return number


def _budget(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf:
        raise _refuse("a number above 0 (GiB)", value)
    return number


def _properties(value: Any) -> Mapping[str, Any]:
    """OpenVINO's properties by name, for all devices; or in a section under the name of one, for that."""
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise _refuse("OpenVINO properties by name", value)
    for name, item in value.items():
        if isinstance(item, dict):
            if base_name(name) not in _DEVICES:
                hint = nearest(name.upper(), _DEVICES)
                raise ConfigError(f"must have sections under names of devices only, got {name!r}{hint}")
            if any(isinstance(inner, dict) for inner in item.values()):
                raise _refuse("properties, or sections of properties, and no deeper", value)
            _properties(item)
        elif not isinstance(item, (str, int, float)):
            raise _refuse("OpenVINO properties, each text or a number", value)
    return {name: dict(item) if isinstance(item, dict) else item for name, item in value.items()}


_PROPERTIES = {"cache_dir": "CACHE_DIR", "performance_hint": "PERFORMANCE_HINT", "num_streams": "NUM_STREAMS"}
_OPENVINO = ("device", *_PROPERTIES)
# How a model is loaded: name -> (check, default). A model may have any of these, and the fields of `EngineConfig`.
_SETTINGS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "device": (_device, ("CPU",)),
    "fallback": (_devices_to_try, ()),
    "form": (_one_of(*get_args(Form)), "auto"),
    "weights": (_weights, AS_STORED),
    "cache_dir": (_folder, None),
    "performance_hint": (_one_of(*_HINTS), None),
    "num_streams": (_streams, None),
    "device_config": (_properties, {}),
}
_CHECKS = {name: check for name, (check, _) in _SETTINGS.items()} | {"path": _folder, "memory_budget": _budget}
_ENGINE = {f.name: f.default for f in fields(EngineConfig)}
_DEFAULTS = {name: Setting(default) for name, (_, default) in _SETTINGS.items()} | {
    name: Setting(default) for name, default in _ENGINE.items()
}
