"""Whether a model runs on the native CPU kernels, and the model lowered to them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import Any

import openvino as ov

from ovgen.config import Kernels
from ovgen.errors import KernelError
from ovgen.graph.linears import has_codes
from ovgen.graph.passes.native import to_native
from ovgen.runtime.device import base_name, core
from ovgen.runtime.kernel_build import build
from ovgen.runtime.kernel_library import KernelLibrary, Packer
from ovgen.runtime.properties import spelt
from ovgen.runtime.runner import PLUGIN

__all__ = ["KernelChoice", "choose_kernels"]

_MOST_FIXED = 8  # tokens
_MOST_COPIED = 1 << 30  # bytes
_log = logging.getLogger("ovgen")


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """What computes linear layers.

    Attributes:
        model: the causal LM form, lowered if the kernels are native.
        name: `PLUGIN`, or ``native`` with the instruction set.
        reason: why not native, or what was lowered.
        version: stands for the sources of native kernels, and so for how they pack weights.
        packed: bytes of weights that all graphs of the model share.
        rounds: whether inputs of layers are rounded to 8 bits.
    """

    model: ov.Model = field(repr=False)
    name: str
    reason: str
    version: str = ""
    packed: int = 0
    rounds: bool = False

    @property
    def nbytes(self) -> int:
        """Of all constants of the model: its weights as loaded."""
        return sum(int(node.get_byte_size()) for node in self.model.get_ops() if node.get_type_name() == "Constant")

    @property
    def most_fixed(self) -> int:
        """Tokens of the longest step that a graph of fixed shapes is worth its memory for; 0: none.

        The CPU plugin has a copy, for each graph, of all weights that are not packed. A step of one token is what there
        is most of, and is worth a copy of a model that is not large.
        """
        copied = self.nbytes - self.packed
        if self.packed >= 7 * copied:
            return _MOST_FIXED
        return 1 if copied <= _MOST_COPIED else 0

    @property
    def native(self) -> bool:
        """Whether ovgen's own kernels compute."""
        return self.name != PLUGIN

    def identity(self, weights: str | None) -> str | None:
        """What stands for the weights as they are in the lowered model."""
        return weights and f"{weights} {self.version}".rstrip()

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.name}: {self.reason}"


def choose_kernels(
    model: ov.Model, kernels: Kernels, device: str, config: Mapping[str, Any], *, keep: bool = True
) -> KernelChoice:
    """The kernels for a model on a device; native ones are built when they are first needed.

    Args:
        model: the causal LM form.
        kernels: what is wanted.
        device: OpenVINO's name.
        keep: leave the model as it is; else it is lowered itself, so that its weights need not be in memory twice.
        config: the device's properties. ``EXECUTION_MODE_HINT=ACCURACY`` keeps activations in float32, which kernels
            for compressed weights quantise; ``INFERENCE_PRECISION_HINT`` may have them in less.

    Raises:
        KernelError: native kernels are required and cannot be had.
    """
    reason = _against(kernels, device, config, model)
    if reason is None:
        try:
            library = _library()
        except KernelError as error:
            if kernels == "require":
                raise _required(error) from error
            _log.warning("linear layers are left to OpenVINO's own kernels, which are slower here: %s", error)
            reason = str(error)
    if reason is None and kernels == "auto" and library.instruction_set == "scalar":
        reason = "there are none for this CPU that would be faster than OpenVINO's"
    if reason is None:
        lowered, packer = model.clone() if keep else model, Packer(library)
        try:
            report = to_native(lowered, packer, floats=_against_floats(device, config) is None)
            packer.release()
        except (RuntimeError, ValueError, MemoryError) as error:
            raise KernelError(f"the model cannot be lowered: {error}. kernels='off' does without") from error
        if report.skipped:
            left = f"{len(report.skipped)} operations on compressed weights are not for the native kernels"
            if kernels == "require":
                raise _required(f"{left}: {'; '.join(report.skipped[:3])}")
            _log.warning("%s, but left to OpenVINO's own: %s", left, report.skipped[0])
            for line in report.skipped:
                _log.info("not for the native kernels: %s", line)
        if report:
            name = f"native ({library.instruction_set})"
            return KernelChoice(lowered, name, str(report), library.version, report.nbytes, report.compressed > 0)
        reason = "no weights are stored in a way that the native kernels know"
    if kernels == "require":
        raise _required(reason)
    return KernelChoice(model, PLUGIN, reason)


def _required(reason: object) -> KernelError:
    return KernelError(f"kernels='require' cannot be: {reason}. kernels='auto' takes OpenVINO's own then")


_loading = Lock()  # models may be loaded by several threads


def _library() -> KernelLibrary:
    with _loading:
        return _loaded_library()


@lru_cache(maxsize=1)
def _loaded_library() -> KernelLibrary:
    """The library; built if it has not been. A failure is not remembered."""
    path = build().path
    try:
        return KernelLibrary(path)
    except (OSError, RuntimeError):  # another process has removed it, or builds it again
        path = build().path
    try:
        return KernelLibrary(path)
    except (OSError, RuntimeError) as error:
        raise KernelError(f"{path} cannot be loaded: {error}. `ovgen kernels build --force` builds it again") from error


def _against(kernels: Kernels, device: str, config: Mapping[str, Any], model: ov.Model) -> str | None:
    """Why not to take native kernels, before anything long is done."""
    if kernels == "off":
        return "kernels='off'"
    if base_name(device) != "CPU":
        return f"native kernels are for CPUs, not for {device}"
    if not has_codes(model):
        return _against_floats(device, config)
    if spelt(config.get("EXECUTION_MODE_HINT")) == "ACCURACY":
        return "EXECUTION_MODE_HINT=ACCURACY keeps activations in float32"
    if str(config.get("DYNAMIC_QUANTIZATION_GROUP_SIZE")) == "0":
        return "DYNAMIC_QUANTIZATION_GROUP_SIZE=0 keeps activations in float32"
    return None


def _against_floats(device: str, config: Mapping[str, Any]) -> str | None:
    """Why not to take native kernels for weights that are not compressed: they compute in float32."""
    if spelt(config.get("EXECUTION_MODE_HINT")) == "ACCURACY":
        return None
    precision = spelt(config.get("INFERENCE_PRECISION_HINT", core().get_property(device, "INFERENCE_PRECISION_HINT")))
    return None if precision in ("f32", "float32") else f"weights are not compressed, and are multiplied in {precision}"
