"""Choosing the form in which a model runs, and saying so where it is not the one that was wanted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import openvino as ov

from ovgen.errors import ConfigError, DeviceError, UnsupportedModelError
from ovgen.graph.passes import select_rows, to_paged
from ovgen.runtime.paged import PagedRunner
from ovgen.runtime.runner import Runner
from ovgen.runtime.stateful import StatefulRunner
from ovgen.runtime.windows import attention_windows

__all__ = ["Fallback", "Form", "check_form", "make_runner"]

Form = Literal["auto", "paged", "stateful"]
"""``auto`` is paged, and stateful where that cannot be built."""

_INPUTS = {"input_ids", "attention_mask", "position_ids", "beam_idx"}
_log = logging.getLogger("ovgen")


@dataclass(frozen=True, slots=True)
class Fallback:
    """Something other than what was wanted is in use, and why."""

    wanted: str
    used: str
    reason: str

    def __str__(self) -> str:
        return f"using {self.used} instead of {self.wanted}: {self.reason}"


def check_form(form: str) -> None:
    """Raise `ConfigError` unless there is such a form."""
    if form not in get_args(Form):
        raise ConfigError(f"form must be one of {', '.join(get_args(Form))}, got {form!r}")


def make_runner(
    model: ov.Model, device: str, config: Mapping[str, Any], form: Form
) -> tuple[Runner, tuple[Fallback, ...]]:
    """Compile a stateful causal LM in a form that the device takes.

    Raises:
        ConfigError: the device refuses a property.
        DeviceError: the device refuses the model.
        UnsupportedModelError: the model has inputs or variables that are unknown, or ``form="paged"`` and it cannot
            be brought into that form.
    """
    _check_inputs(model)
    if form == "stateful":
        return StatefulRunner(_with_rows(model), device, config), ()
    try:
        return PagedRunner(to_paged(model, attention_windows(model)), device, config), ()
    except (UnsupportedModelError, DeviceError) as error:
        if form == "paged":
            raise
        fallback = Fallback("the paged form", "the stateful form", str(error))
    _log.warning("%s", fallback)
    return StatefulRunner(_with_rows(model), device, config), (fallback,)


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
