"""Choosing the device and the form in which a model runs, and saying what became of each that was tried."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import openvino as ov

from ovgen.config import EngineConfig
from ovgen.errors import ConfigError, DeviceError, KernelError, UnsupportedModelError
from ovgen.graph.passes import ADAPTERS_INPUT, select_rows, to_paged
from ovgen.runtime.advice import driver_advice
from ovgen.runtime.device import absence, base_name, device_errors
from ovgen.runtime.device_list import check_sections, device_properties
from ovgen.runtime.explanation import explain
from ovgen.runtime.kernels import KernelChoice, choose_kernels
from ovgen.runtime.npuw import NpuwRunner
from ovgen.runtime.paged import PagedRunner
from ovgen.runtime.runner import Runner
from ovgen.runtime.stateful import StatefulRunner
from ovgen.runtime.static import StaticRunner
from ovgen.runtime.windows import attention_windows

__all__ = ["Attempt", "Form", "Runners", "check_form"]

Form = Literal["auto", "paged", "stateful", "static", "npuw"]
"""``auto`` is static on an NPU; elsewhere paged, and stateful where that cannot be built."""

_INPUTS = {"input_ids", "attention_mask", "position_ids", "beam_idx", ADAPTERS_INPUT}
_OURS = (PagedRunner, StatefulRunner, StaticRunner, NpuwRunner)
_log = logging.getLogger("ovgen")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of a form of the model on a device.

    Attributes:
        device: OpenVINO's name.
        form: ``paged``, ``stateful``, ``static`` or ``npuw``.
        reason: why it is not in use; None for the one that is.
        seconds: that compiling took.
    """

    device: str
    form: str
    reason: str | None
    seconds: float

    def __str__(self) -> str:
        """One line for people."""
        return f"the {self.form} form on {self.device}: {self.reason or f'ready after {self.seconds:.1f} s'}"


def check_form(form: str, devices: Sequence[str] = ()) -> None:
    """Raise `ConfigError` unless there is such a form, and one of the devices, if any are named, may take it."""
    if form not in get_args(Form):
        raise ConfigError(f"form must be one of {', '.join(get_args(Form))}, got {form!r}")
    if form in ("paged", "stateful") and devices and all(base_name(device) == "NPU" for device in devices):
        raise ConfigError(f"NPUs take fixed shapes: form='static' (or leave form out), not form={form!r}")


class Runners:
    """Makes runners of a stateful causal LM, trying devices and forms in order.

    Args:
        model: the causal LM form. With a CPU alone, native kernels take the weights out of it.
        devices: tried in this order; with several, one that is absent, fails or refuses a property is passed over.
        config: OpenVINO properties, of all devices, or of one under its name.
        form: which form; ``auto`` lets the device choose.
        engine: budgets and slots.
        longest: tokens of the longest sequence.
        identity: stands for the model's weights; with it, compiled graphs are kept in ``CACHE_DIR``.
        probe: called with device, form and properties before each attempt; what it raises counts as its failure.

    Attributes:
        report: every attempt so far, in order.
        kernels: of the runner that was made last.

    Raises:
        ConfigError: ``config`` is no mapping, or has properties under what is no device's name.
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
        self._active: int | None = None  # which of them is in use
        self._model = model
        self.kernels: KernelChoice | None = None
        self._choices: dict[str, KernelChoice] = {}
        self._several = len(devices) > 1  # that do not share what one takes
        self._properties = {device: device_properties(config, device) for device in devices}
        check_sections(config, devices)
        self._flat = [str(name) for name, value in config.items() if not isinstance(value, Mapping)]
        self._asked = form
        self._engine = engine
        self._longest = longest
        self._identity = identity
        self._probe = probe
        self._candidates = [(device, kind) for device in devices for kind in _kinds(device, form)]

    def make(self) -> Runner:
        """The next runner that can be made.

        Raises:
            ConfigError: the only device refuses a property.
            DeviceError: no device takes the model; the message tells every attempt.
            UnsupportedModelError: it was the only attempt, and the model cannot be brought into that form.
        """
        return self._next([])

    def after(self, error: DeviceError) -> Runner | None:
        """A runner on another device than the one that failed in the middle of its work; None if there is none.

        Only if there is one, the report says that the device failed.

        Raises:
            DeviceError: none of the other devices takes the model.
        """
        assert self._active is not None, "nothing has been made that could fail"
        failed = replace(self.report[self._active], reason=str(error))
        self._pass_over(failed.device)
        if not self._candidates:
            return None
        place = self._active
        runner = self._next([failed])
        self.report[place] = failed
        return runner

    def explain(self, runner: Runner) -> dict[str, str]:
        """What was chosen for a runner that was made here, and why; by name, for people."""
        assert isinstance(runner, _OURS)
        assert self.kernels is not None
        return explain(
            runner.compiled,
            runner.device,
            runner.form,
            asked=self._asked,
            devices=list(self._properties),
            config=self._properties[runner.device],
            kernels=self.kernels,
        )

    def _next(self, failures: list[Attempt]) -> Runner:
        """The next runner that can be made, ``failures`` having led to this; a warning tells each failure."""
        last: Exception | None = None
        while self._candidates:
            device, kind = self._candidates.pop(0)
            begin = time.perf_counter()
            try:
                runner = self._try(device, kind)
            except (ConfigError, UnsupportedModelError, DeviceError) as error:
                last = error
                if isinstance(error, ConfigError):
                    if len(self._properties) == 1:
                        raise
                    self._pass_over(device)
                failures.append(Attempt(device, kind, self._reason(device, error), time.perf_counter() - begin))
                self.report.append(failures[-1])
            else:
                for failure in _told(failures):
                    _log.warning("using the %s form on %s instead of %s", kind, device, failure)
                self._active = len(self.report)
                self.report.append(Attempt(device, kind, None, time.perf_counter() - begin))
                return runner
        advice = ". ".join(filter(None, self._advice()))
        if last is not None and len(self.report) == 1 and not advice:
            raise last
        message = last if len(self.report) == 1 else f"no device takes the model: {'; '.join(_told(failures))}"
        raise DeviceError(f"{message}. {advice}" if advice else str(message)) from last

    def _try(self, device: str, kind: str) -> Runner:
        config = self._properties[device]
        reason = absence(device, config)
        if reason is not None:
            self._pass_over(device)
            raise DeviceError(reason)
        check_form(kind, [device])
        if self._probe is not None:
            self._probe(device, kind, config)
        try:
            self.kernels = self._choose(device, config)
        except KernelError:
            self._pass_over(device)
            raise
        with device_errors(device, f"prepared the {kind} form"):
            runner = self._make(self.kernels, device, kind, config)
        runner.kernels = self.kernels.name
        return runner

    def _choose(self, device: str, config: Mapping[str, Any]) -> KernelChoice:
        """The kernels for a device, chosen once: all forms of the model on it share the packed weights."""
        if device not in self._choices:
            self._choices[device] = choose_kernels(
                self._model, self._engine.kernels, device, config, keep=self._several
            )
        return self._choices[device]

    def _reason(self, device: str, error: Exception) -> str:
        """Why an attempt failed, and how to give a property to another device only."""
        others = [other for other in self._properties if other != device]
        flat = [name for name in self._flat if isinstance(error, ConfigError) and name in str(error)]
        if not flat or not others:
            return str(error)
        name = max(flat, key=len)
        section = {base_name(others[0]): {name: self._properties[others[0]][name]}}
        return f"{error} (to give it to one device: device_config={section})"

    def _advice(self) -> Iterator[str]:
        """What to install for devices that are absent; empty where that is not known."""
        for kind in dict.fromkeys(map(base_name, self._properties)):
            if absence(kind, self._properties.get(kind, {})) is not None:
                yield driver_advice(kind)

    def _pass_over(self, device: str) -> None:
        self._candidates = [candidate for candidate in self._candidates if candidate[0] != device]

    def _make(self, kernels: KernelChoice, device: str, kind: str, config: Mapping[str, Any]) -> Runner:
        model = kernels.model
        if kind == "paged":
            fixed = kernels.most_fixed if base_name(device) == "CPU" else 0
            return PagedRunner(to_paged(model, self._windows), device, config, fixed=fixed)
        if kind == "stateful":
            return StatefulRunner(_with_rows(model), device, config)
        chunk = min(self._engine.prefill_chunk_size, self._longest)
        if kind == "npuw":
            return NpuwRunner(model, self._windows, device, config, chunk=chunk, longest=self._longest)
        return StaticRunner(
            model,
            self._windows,
            device,
            config,
            slots=self._engine.batch_slots,
            chunk=chunk,
            longest=self._longest,
            cache_size=int(self._engine.cache_size * (1 << 30)),
            ahead=self._engine.compile_ahead,
            identity=kernels.identity(self._identity),
        )

    @cached_property
    def _windows(self) -> dict[str, int | None]:
        return attention_windows(self._model, self._longest)


def _kinds(device: str, form: Form) -> tuple[str, ...]:
    """The forms to try on a device."""
    if form != "auto":
        return (form,)
    return ("static",) if base_name(device) == "NPU" else ("paged", "stateful")


def _told(attempts: Iterable[Attempt]) -> Iterator[str]:
    """Attempts for people; forms of a device that failed alike are told together."""
    forms: dict[tuple[str, str | None], list[str]] = {}
    for attempt in attempts:
        forms.setdefault((attempt.device, attempt.reason), []).append(attempt.form)
    for (device, reason), kinds in forms.items():
        yield f"the {' and '.join(kinds)} form{'s' if len(kinds) > 1 else ''} on {device}: {reason}"


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
