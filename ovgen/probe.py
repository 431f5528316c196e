"""Trying a device in a child process first: what aborts or hangs there is told here, and the program lives.

A plugin, a driver or a compiler that fails may take its whole process along. So a child does the work, with the same
options, which travel as JSON, and answers with JSON; how it ended otherwise becomes a `DeviceError`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ovgen.config import EngineConfig
from ovgen.errors import ConfigError, DeviceError, OvgenError, UnsupportedModelError
from ovgen.runtime.advice import advice
from ovgen.runtime.device import base_name
from ovgen.runtime.properties import spelt

__all__ = ["answer", "in_child", "try_in_child"]

_TIMEOUT = 1800.0  # seconds: an NPU's compiler may take many minutes for a large model
_TOLD = 5  # of the last lines that a child wrote
_WIDEST = 300  # characters of each
_KINDS: dict[str, type[OvgenError]] = {
    kind.__name__: kind for kind in (ConfigError, UnsupportedModelError, DeviceError)
}
_ENDS = {"SIGABRT": "aborted", "SIGSEGV": "crashed", "SIGBUS": "crashed", "SIGILL": "crashed", "SIGFPE": "crashed"}


def try_in_child(
    path: Path,
    engine: EngineConfig,
    adapters: Mapping[str, Path],
    device: str,
    form: str,
    config: Mapping[str, Any],
    timeout: float = _TIMEOUT,
) -> None:
    """Load a model in a child process, and compute a prompt and a token with it.

    Args:
        path: the model, as `ovgen.LLM` takes it.
        engine: its options.
        adapters: folders of its LoRA adapters.
        device: OpenVINO's name of one device.
        form: ``paged``, ``stateful``, ...
        config: the device's properties. With ``CACHE_DIR``, what the child compiles is there for this process.
        timeout: seconds that the child may take.

    Raises:
        ConfigError: the device refuses a property, or one cannot be sent to a child.
        UnsupportedModelError: the model cannot be brought into that form.
        DeviceError: the child failed, aborted or hung.
    """
    task = {"path": str(path), "engine": asdict(engine), "device": device, "form": form, "config": spelt(config)}
    task["adapters"] = {name: str(folder) for name, folder in adapters.items()}
    in_child("ovgen.probe", task, who=device, doing=f"tried the {form} form", timeout=timeout)


def in_child(
    module: str,
    task: Mapping[str, Any],
    *,
    who: str,
    doing: str,
    timeout: float,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """What ``python -m module`` makes of a task, with `answer` at its other end.

    Args:
        module: its full name; it is found where this process finds modules.
        task: goes to it as JSON.
        who: the device, for messages.
        doing: what the child does, for messages.
        timeout: seconds, after which it is killed.
        environment: variables of its own.

    Raises:
        ConfigError: the child raised one.
        UnsupportedModelError: the child raised one.
        DeviceError: the child raised another error of ours, ended in any other way or hung.
    """
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)  # an empty one is the current folder
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=json.dumps(task).encode(),
            capture_output=True,
            check=False,
            timeout=timeout,
            # No current folder of its own.
            env={**os.environ, **(environment or {}), "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"},
        )
    except subprocess.TimeoutExpired as error:
        ended = f"was not done after {timeout:g} s"
        raise DeviceError(_story(who, ended, doing, error.stderr or b"")) from None
    except OSError as error:
        raise DeviceError(f"no child process can be started for {who}: {error}") from error
    if done.returncode:
        raise DeviceError(_story(who, _ended(done.returncode), doing, done.stderr))
    result = json.loads(done.stdout)
    if "failure" in result:
        raise DeviceError(_story(who, "failed", doing, result["failure"].encode(errors="replace")))
    if "error" in result:
        raise _KINDS[result["kind"]](result["error"])
    return result["value"]


def answer(work: Callable[[dict[str, Any]], Any]) -> None:
    """Be the child of `in_child`: read the task, do it, and answer with its result or with what was raised."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)  # what plugins and compilers print shall not be in the answer
        try:
            result = {"value": work(json.load(sys.stdin))}
        except OvgenError as error:
            kinds = [name for name, kind in _KINDS.items() if isinstance(error, kind)]
            result = {"error": str(error), "kind": (kinds or ["DeviceError"])[0]}
        except Exception as error:  # a mistake of ours, most likely: told with its place, not with a traceback
            place = traceback.extract_tb(error.__traceback__)[-1]
            file = Path(place.filename).name
            result = {"failure": f"{type(error).__name__}: {error} ({file}, line {place.lineno})"}
        json.dump(result, out)


def _story(who: str, ended: str, doing: str, said: bytes) -> str:
    """How a child ended, and what it said last."""
    lines = [line.strip()[:_WIDEST] for line in said.decode(errors="replace").splitlines() if line.strip()]
    story = f"{who} {ended} in a child process that {doing}" + (f": {' | '.join(lines[-_TOLD:])}" if lines else "")
    hint = advice(base_name(who), "\n".join(lines))
    return f"{story}. {hint}" if hint else story


def _ended(status: int) -> str:
    """What a process's status says: a signal, on Windows a code of the system, or its own number."""
    if status < 0:
        name = {int(each): each.name for each in signal.Signals}.get(-status, f"signal {-status}")
        return f"{_ENDS.get(name, 'was killed')} ({name})"
    return f"crashed (0x{status:08X})" if status >= 1 << 31 else f"failed (status {status})"


def _try(task: dict[str, Any]) -> None:
    from ovgen.llm import LLM  # which imports this module

    options = {"device": task["device"], "device_config": task["config"], "form": task["form"]}
    llm = LLM(task["path"], adapters=task["adapters"], **options, **task["engine"])
    llm.generate([0, 0], temperature=0, max_new_tokens=2, ignore_eos=True)


if __name__ == "__main__":
    answer(_try)
