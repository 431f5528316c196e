"""Choosing the form in which a model runs, and saying so where it is not the one that was wanted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import openvino as ov

from ovgen.errors import ConfigError, DeviceError
from ovgen.graph.passes import select_rows, to_paged
from ovgen.graph.private import TransformationError
from ovgen.runtime.paged import PagedRunner
from ovgen.runtime.runner import Runner
from ovgen.runtime.stateful import StatefulRunner

__all__ = ["Fallback", "Form", "check_form", "make_runner"]

Form = Literal["auto", "paged", "stateful"]
"""``auto`` is paged, and stateful where that cannot be built."""

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
        TransformationError: ``form="paged"`` and the model cannot be brought into it.
    """
    fallbacks: tuple[Fallback, ...] = ()
    if form != "stateful":
        try:
            return PagedRunner(to_paged(model), device, config), ()
        except (TransformationError, DeviceError) as error:
            if form == "paged":
                raise
            fallbacks = (Fallback("the paged form", "the stateful form", str(error)),)
    runner = StatefulRunner(_with_rows(model), device, config)
    for fallback in fallbacks:
        _log.warning("%s", fallback)
    return runner, fallbacks


def _with_rows(model: ov.Model) -> ov.Model:
    form = model.clone()
    select_rows(form, axis=1)
    return form
