"""``ovgen devices``: what OpenVINO finds on this machine."""

from __future__ import annotations

import argparse

from ovgen.cli.options import to_json
from ovgen.runtime.device import list_devices

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "list the devices that OpenVINO finds here"
EXAMPLE = """examples:
  ovgen devices
  ovgen devices --all
  ovgen devices --json
"""

_TOLD = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES", "DEVICE_TYPE", "DEVICE_ARCHITECTURE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--all", action="store_true", help="every property, not only the telling ones")
    parser.add_argument("--json", action="store_true", help="every property, as one JSON object")


def run(options: argparse.Namespace) -> int:
    """Print the devices."""
    devices = list_devices()
    if options.json:
        print(to_json(devices))
        return 0
    for device, properties in devices.items():
        print(device)
        shown = properties if options.all else {name: properties[name] for name in _TOLD if name in properties}
        for name, value in shown.items():
            print(f"  {name:<40} {value}")
    return 0
