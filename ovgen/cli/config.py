"""``ovgen config``: check a configuration file, and see what it comes to."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ovgen.cli.options import to_json
from ovgen.configuration import Configuration, ModelConfig, Setting, read_configuration
from ovgen.errors import DeviceError
from ovgen.runtime.device import check_device
from ovgen.runtime.device_list import device_properties

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "check a configuration file, and show what it comes to"
EXAMPLE = """examples:
  ovgen config check ovgen.yaml
  OVGEN_DEVICE=GPU ovgen config check ovgen.yaml
  ovgen config check ovgen.yaml --json

a file:
  memory_budget: 8                # GiB for all loaded models; the one not used for longest gives way
  openvino: {device: CPU, cache_dir: cache, performance_hint: LATENCY, num_streams: 1}
  optimization:                   # goes before `openvino`; a model's own settings go before both
    backend: openvino
    device: NPU
    fallback: [GPU, CPU]          # tried in this order, by models without a `device` of their own
    quantization: {enabled: true, format: int8}
  models:
    story:
      path: models/storyteller    # relative to the file
      max_model_len: 512
      params: {temperature: 0.8}  # sampling, where a request does not say
      device_config: {NPU: {PERFORMANCE_HINT: THROUGHPUT}}  # for one device; for all: {NAME: VALUE}
    draft: models/storyteller     # the path is enough

what goes before the file, for all models: OVGEN_DEVICE (NPU,CPU for several), OVGEN_CACHE_DIR, OVGEN_PERFORMANCE_HINT,
OVGEN_NUM_STREAMS, OVGEN_WEIGHTS, OVGEN_FORM, OVGEN_MEMORY_BUDGET
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser(
        "check",
        help="read FILE and show every setting with where it comes from",
        description="read FILE and show every setting with where it comes from",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("file", metavar="FILE", help="a YAML file")
    check.add_argument("--json", action="store_true", help="the same as one JSON object")


def run(options: argparse.Namespace) -> int:
    """Print the configuration as it is in effect."""
    configuration = read_configuration(options.file)
    if options.json:
        print(to_json(_record(configuration)))
        return 0
    budget = configuration.memory_budget
    print(f"{configuration.file}: no errors")
    print(*_table({"memory_budget": budget}), sep="\n")
    for name, model in configuration.models.items():
        print(f"\n{name}")
        print(*_table({"path": model.path, **model.settings, **_under_params(model)}), sep="\n")
    for note in sorted({note for model in configuration.models.values() for note in _absent(model)}):
        print(f"note: {note}", file=sys.stderr)
    return 0


def _absent(model: ModelConfig) -> Iterable[str]:
    """Devices that are not here: no error, for the file may be for another machine."""
    for device in model.settings["device"].value:
        try:
            check_device(device, device_properties(model.settings["device_config"].value, device))
        except DeviceError as error:
            yield str(error)


def _under_params(model: ModelConfig) -> dict[str, Setting]:
    return {f"params.{name}": setting for name, setting in model.params.items()}


def _table(settings: Mapping[str, Setting]) -> Iterable[str]:
    rows = [(name, _text(setting.value), setting.origin) for name, setting in settings.items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, origin in rows:
        yield f"  {name:<{widths[0]}}  {value:<{widths[1]}}  {origin}"


def _text(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value))
    return "-" if value is None or value == {} else str(value)


def _record(configuration: Configuration) -> dict[str, Any]:
    return {
        "file": str(configuration.file),
        "memory_budget": _entry(configuration.memory_budget),
        "models": {
            name: {
                "path": _entry(model.path),
                "settings": {key: _entry(setting) for key, setting in model.settings.items()},
                "params": {key: _entry(setting) for key, setting in model.params.items()},
            }
            for name, model in configuration.models.items()
        },
    }


def _entry(setting: Setting) -> dict[str, Any]:
    value = str(setting.value) if isinstance(setting.value, Path) else setting.value
    return {"value": value, "from": setting.origin}
