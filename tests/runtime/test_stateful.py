"""The stateful form: what OpenVINO raises at any call is a failure of the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ovgen
from ovgen.runtime.stateful import StatefulRunner, _State


class Broken:
    """An infer request that fails when something is asked of it."""

    def __init__(self, request: Any, broken: str) -> None:
        self._request = request
        self._broken = broken

    def __getattr__(self, name: str) -> Any:
        if name == self._broken:
            self._request.wait()
            raise RuntimeError("Exception from src/x.cpp:1:\nthe device is gone")
        return getattr(self._request, name)


def run(session: ovgen.Session) -> None:
    session.forward([7, 8])


CALLS: list[tuple[str, Callable[[ovgen.Session], object]]] = [
    ("start_async", run),
    ("wait", run),
    ("get_tensor", run),
    ("query_state", lambda session: session.trim(2)),
    ("query_state", lambda session: session.fork()),
]


@pytest.mark.parametrize(("broken", "call"), CALLS)
def test_every_call_that_fails_is_a_device_error(
    broken: str, call: Callable[[ovgen.Session], object], tiny_llama: Path
) -> None:
    llm = ovgen.LLM(tiny_llama, form="stateful")
    session = llm.session()
    session.forward([1, 2, 3, 4])
    runner: Any = llm.engine.runner
    assert isinstance(runner, StatefulRunner)
    (state,) = runner._states.values()
    whole = state.request
    state.request = Broken(whole, broken)
    with pytest.raises(ovgen.DeviceError, match="CPU failed while it ran the model: the device is gone"):
        call(session)
    state.request = whole


def test_a_request_that_cannot_be_emptied_is_not_used_again(tiny_llama: Path) -> None:
    llm = ovgen.LLM(tiny_llama, form="stateful")
    runner: Any = llm.engine.runner
    with llm.session() as session:
        session.forward([1, 2, 3])
        state: _State
        (state,) = runner._states.values()
        state.request = Broken(state.request, "reset_state")
    assert state not in runner._spare
    assert llm.generate([1, 2, 3], max_new_tokens=3, ignore_eos=True).token_ids
