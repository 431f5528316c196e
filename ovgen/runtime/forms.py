"""Choosing the device and the form in which a model runs, and saying what became of each that was tried."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import openvino as ov

from ovgen.config import EngineConfig
from ovgen.errors import ConfigError, DeviceError, UnsupportedModelError
from ovgen.graph.passes import select_rows, to_paged
from ovgen.runtime.device import check_device
from ovgen.runtime.device_list import base_name, device_properties
from ovgen.runtime.npuw import NpuwRunner
from ovgen.runtime.paged import PagedRunner
from ovgen.runtime.runner import Runner
from ovgen.runtime.stateful import StatefulRunner
from ovgen.runtime.static import StaticRunner
from ovgen.runtime.windows import attention_windows

__all__ = ["Attempt", "Form", "Runners", "check_form"]

Form = Literal["auto", "paged", "stateful", "static", "npuw"]
"""``auto`` is static on an NPU; elsewhere paged, and stateful where that cannot be built."""

_INPUTS = {"input_ids", "attention_mask", "position_ids", "beam_idx"}
_log = logging.getLogger("ovgen")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of a form of the model on a device.

    Attributes:
        device: OpenVINO's name.
        form: ``paged``, ``stateful``, ``static`` or ``npuw``.
        reason: why it is not in use; None for the one that is, or was until it failed.
        seconds: that compiling took.
    """

    device: str
    form: str
    reason: str | None
    seconds: float

    def __str__(self) -> str:
        """One line for people."""
        return f"the {self.form} form on {self.device}: {self.reason or f'ready after {self.seconds:.1f} s'}"


def check_form(form: str) -> None:
    """Raise `ConfigError` unless there is such a form."""
    if form not in get_args(Form):
        raise ConfigError(f"form must be one of {', '.join(get_args(Form))}, got {form!r}")


class Runners:
    """Makes runners of a stateful causal LM, trying devices and forms in order.

    Args:
        model: the causal LM form.
        devices: tried in this order; with several, one that is absent or fails is passed over.
        config: OpenVINO properties, of all devices, or of one under its name.
        form: which form; ``auto`` lets the device choose.
        engine: budgets and slots.
        longest: tokens of the longest sequence.
        identity: stands for the model's weights; with it, compiled graphs are kept in ``CACHE_DIR``.
        probe: called with device, form and properties before each attempt; what it raises counts as its failure.

    Attributes:
        report: every attempt so far, in order.

    Raises:
        UnsupportedModelError: the model has inputs or variables that are unknown.
    """

    def __init__(
        self,
        model: ov.Model,
        devices: Sequence[str],
        config: Mapping[str, Any],
        form: Form,
        engine: EngineConfig,
        longest: int,
        identity: str | None = None,
        probe: Callable[[str, str, Mapping[str, Any]], None] | None = None,
    ) -> None:
        _check_inputs(model)
        self.report: list[Attempt] = []
        self._told = 0  # how many of its entries the log knows
        self._model = model
        self._config = config
        self._engine = engine
        self._longest = longest
        self._identity = identity
        self._probe = probe
        self._candidates = [(device, kind) for device in devices for kind in _kinds(device, form)]

    def make(self) -> Runner:
        """The next runner that can be made.

        Raises:
            ConfigError: a device refuses a property.
            DeviceError: no device takes the model; the message tells every attempt.
            UnsupportedModelError: it was the only attempt, and the model cannot be brought into that form.
        """
        failure: Exception | None = None
        while self._candidates:
            device, kind = self._candidates.pop(0)
            config = device_properties(self._config, device)
            begin = time.perf_counter()
            try:
                check_device(device, config)
            except DeviceError as error:
                failure = error
                self.report.append(Attempt(device, kind, str(error), 0.0))
                self._pass_over(device)
                continue
            try:
                if self._probe is not None:
                    self._probe(device, kind, config)
                runner = self._make(device, kind, config)
            except (UnsupportedModelError, DeviceError) as error:
                failure = error
                self.report.append(Attempt(device, kind, str(error), time.perf_counter() - begin))
            else:
                self._tell(device, kind)
                self.report.append(Attempt(device, kind, None, time.perf_counter() - begin))
                return runner
        if failure is not None and len(self.report) == 1:
            raise failure
        raise DeviceError(f"no device takes the model: {'; '.join(map(str, self.report))}") from failure

    def after(self, error: DeviceError) -> Runner | None:
        """A runner on another device than the one that failed in the middle of its work; None if there is none.

        Raises:
            DeviceError: none of the other devices takes the model.
        """
        self.report[-1] = replace(self.report[-1], reason=str(error))
        self._told -= 1
        self._pass_over(self.report[-1].device)
        return self.make() if self._candidates else None

    def _pass_over(self, device: str) -> None:
        self._candidates = [candidate for candidate in self._candidates if candidate[0] != device]

    def _tell(self, device: str, kind: str) -> None:
        """Warn of what is not as wanted, each failure once."""
        for attempt in self.report[self._told :]:
            _log.warning("using the %s form on %s instead of %s", kind, device, attempt)
        self._told = len(self.report) + 1  # with the one that succeeded, until it fails, too

    def _make(self, device: str, kind: str, config: Mapping[str, Any]) -> Runner:
        if kind == "paged":
            return PagedRunner(to_paged(self._model, self._windows), device, config)
        if kind == "stateful":
            return StatefulRunner(_with_rows(self._model), device, config)
        chunk = min(self._engine.prefill_chunk_size, self._longest)
        if kind == "npuw":
            return NpuwRunner(self._model, self._windows, device, config, chunk=chunk, longest=self._longest)
        return StaticRunner(
            self._model,
            self._windows,
            device,
            config,
            slots=self._engine.batch_slots,
            chunk=chunk,
            longest=self._longest,
            cache_size=int(self._engine.cache_size * (1 << 30)),
            ahead=self._engine.compile_ahead,
            identity=self._identity,
        )

    @cached_property
    def _windows(self) -> dict[str, int | None]:
        return attention_windows(self._model)


def _kinds(device: str, form: Form) -> tuple[str, ...]:
    """The forms to try on a device."""
    if form != "auto":
        return (form,)
    return ("static",) if base_name(device) == "NPU" else ("paged", "stateful")


def _check_inputs(model: ov.Model) -> None:
    inputs = {port.get_any_name() for port in model.inputs}
    if inputs - _INPUTS:
        raise UnsupportedModelError(
            f"the model has inputs that are not known: {', '.join(sorted(inputs - _INPUTS))}; "
            f"there are: {', '.join(sorted(_INPUTS))}, and the KV cache"
        )
    for sink in model.get_sinks():
        shape = sink.get_input_partial_shape(0)  # (batch, heads, length, head_dim)
        if shape.rank.is_dynamic or len(shape) != 4 or shape[1].is_dynamic or shape[3].is_dynamic:
            raise UnsupportedModelError(f"{sink.get_friendly_name()} keeps {shape}, which is not keys or values")


def _with_rows(model: ov.Model) -> ov.Model:
    form = model.clone()
    select_rows(form, axis=1)
    return form
