"""Which form, kernels, precision and device a model runs with, and why, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import openvino as ov

from ovgen.runtime.device import core
from ovgen.runtime.kernels import KernelChoice

__all__ = ["explain"]

_WHY_AUTO = {
    "paged": "the default, but for NPUs",
    "static": "the default on NPUs, which take fixed shapes only",
    "stateful": "since the paged form was not to be had",
}


def explain(
    compiled: ov.CompiledModel,
    device: str,
    form: str,
    *,
    asked: str,
    devices: Sequence[str],
    config: Mapping[str, Any],
    kernels: KernelChoice,
) -> dict[str, str]:
    """Lines of a table: what was chosen, and what decided.

    Args:
        compiled: what runs.
        device: where.
        form: ``paged``, ...
        asked: the form that was asked for; ``auto``: none.
        devices: those that were asked for, in order.
        config: the device's properties, as they were given.
        kernels: what computes linear layers.
    """
    told = _Told(compiled, config)
    place = "the only one asked for" if len(devices) == 1 else f"number {devices.index(device) + 1} of {len(devices)}"
    lines = {
        "device": f"{_named(device)}: {place}",
        "form": f"{form}: {'as asked' if asked == form else _WHY_AUTO[form]}",
        "kernels": str(kernels),
        "precision": told.of("INFERENCE_PRECISION_HINT"),
        "threads": told.of("INFERENCE_NUM_THREADS"),
    }
    if form != "static":  # whose cache is ovgen's own, and described with it
        lines["KV precision"] = told.of("KV_CACHE_PRECISION")
    if kernels.rounds:
        lines["precision"] += (
            "; inputs of compressed layers in 8 bits, unless kernels='off' or EXECUTION_MODE_HINT is ACCURACY"
        )
    return {name: text for name, text in lines.items() if text}


class _Told:
    """Properties that a device took, and who chose them."""

    def __init__(self, compiled: ov.CompiledModel, config: Mapping[str, Any]) -> None:
        self._compiled, self._config = compiled, config

    def of(self, name: str) -> str:
        """The value of a property and what decided it; empty where the device does not tell."""
        try:
            value = self._compiled.get_property(name)
        except RuntimeError:
            return ""
        text = value.get_type_name() if isinstance(value, ov.Type) else str(value)
        why = "as asked" if name in self._config else "the plugin's choice"
        return f"{text}: {why} ({name})"


def _named(device: str) -> str:
    try:
        return f"{device} ({str(core().get_property(device, 'FULL_DEVICE_NAME')).strip()})"
    except RuntimeError:  # AUTO has no name, and an absent NPU whose work is done elsewhere has none
        return device
