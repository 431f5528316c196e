"""What a person can do where a driver or a compiler is missing: OpenVINO's messages do not say."""

from __future__ import annotations

import sys

__all__ = ["advice", "driver_advice"]

# None of this was tried: no such device was at hand.
_GROUP = "put your user into the group render (sudo usermod -aG render $USER) and log in again"
_CHECK = "check with `ovgen devices`"
_DRIVERS = {
    ("NPU", "linux"): (
        "An NPU (Intel Core Ultra) needs Intel's driver: install the packages intel-fw-npu, intel-driver-compiler-npu "
        "and intel-level-zero-npu from https://github.com/intel/linux-npu-driver/releases, and level-zero (libze1); "
        f"{_GROUP}; {_CHECK}"
    ),
    ("NPU", "win32"): (
        "An NPU (Intel Core Ultra) needs Intel's driver: install it from "
        f"https://www.intel.com/content/www/us/en/download/794734/intel-npu-driver-windows.html; {_CHECK}"
    ),
    ("GPU", "linux"): (
        "A GPU needs Intel's compute runtime: install the packages intel-opencl-icd and ocl-icd-libopencl1; "
        f"{_GROUP}; {_CHECK}"
    ),
    ("GPU", "win32"): f"A GPU needs Intel's graphics driver, as Windows Update or intel.com offers it; {_CHECK}",
}
_NO_DEVICE = ("Could not find an NPU device", "No available backend")
_NO_COMPILER = ("VCL compiler loading failed", "libnpu_driver_compiler", "npu_driver_compiler.dll")
_DYNAMIC = ("to_shape was called on a dynamic shape",)


def driver_advice(device: str) -> str:
    """How to get a device found that is in the machine: ``"NPU"`` or ``"GPU"``; empty for others."""
    return _DRIVERS.get((device, sys.platform), "")


def advice(device: str, message: str) -> str:
    """What to do about what OpenVINO said; empty where that is not known.

    Args:
        device: ``"NPU"``, ``"GPU"`` or another, without its number.
        message: the whole of it.
    """
    if any(text in message for text in _NO_DEVICE):
        return driver_advice(device)
    if any(text in message for text in _NO_COMPILER):
        return (
            "This package of OpenVINO has no compiler for NPUs: the one in the NPU's driver is needed. "
            f"{driver_advice(device)}. If it is there, choose it with "
            'device_config={"NPU_COMPILER_TYPE": "DRIVER"}'
        )
    if any(text in message for text in _DYNAMIC):
        return 'An NPU takes fixed shapes only: use form="static"'
    return ""
