"""Work in a child process: its result, and every way of ending without one."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import openvino as ov
import openvino.properties.hint as hint
import pytest

import ovgen
from ovgen.config import EngineConfig
from ovgen.graph.private import TransformationError
from ovgen.probe import in_child, try_in_child
from ovgen.runtime.properties import spelt
from tests.conftest import F32, NPU_ON_CPU
from tests.tiny_lora import golden

ABORTING_NPU = """\
import os, sys
import openvino as ov

compile_model = ov.Core.compile_model

def compile_or_abort(core, model, device, config):
    if device == "NPU":
        print("L0 pfnCompile: assertion failed", file=sys.stderr, flush=True)
        os.abort()
    return compile_model(core, model, device, config)

ov.Core.compile_model = compile_or_abort
"""

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where children find modules; they import a `sitecustomize` when they start."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def child(modules: Path, program: str, *, task: Any = None, timeout: float = 60) -> Any:
    (modules / "child_of_a_test.py").write_text(program)
    return in_child("child_of_a_test", task or {}, who="NPU", doing="tried the static form", timeout=timeout)


def test_a_task_goes_to_the_child_and_its_result_comes_back(modules: Path) -> None:
    program = "import os\nfrom ovgen.probe import answer\ndef work(task):\n    {}\nanswer(work)"
    noisy = program.format("os.write(1, b'noise'); print('more'); return [task]")
    task = {"path": "Łucja \udcff", "numbers": [1, 0.5, None, True]}
    assert child(modules, noisy, task=task) == [task]


@pytest.mark.parametrize(
    ("kind", "arrives"),
    [
        (ovgen.ConfigError, ovgen.ConfigError),
        (TransformationError, ovgen.UnsupportedModelError),
        (ovgen.GenerationError, ovgen.DeviceError),
    ],
)
def test_our_errors_arrive_as_they_are(modules: Path, kind: type[Exception], arrives: type[Exception]) -> None:
    program = "from {} import {} as kind\nfrom ovgen.probe import answer\ndef work(task): raise kind('as it is')\n"
    with pytest.raises(arrives, match=r"^as it is$"):
        child(modules, program.format(kind.__module__, kind.__name__) + "answer(work)")


@posix
@pytest.mark.parametrize(
    ("program", "ended"),
    [
        ("os.abort()", r"aborted \(SIGABRT\)"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"crashed \(SIGSEGV\)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", r"was killed \(SIGKILL\)"),
        ("os._exit(3)", r"failed \(status 3\)"),
    ],
)
def test_a_child_that_dies_is_told_with_its_last_words(modules: Path, program: str, ended: str) -> None:
    said = "import os, signal, sys\nfor i in range(9): print('line', i, file=sys.stderr, flush=True)\n"
    message = rf"^NPU {ended} in a child process that tried the static form: line 4 \| line 5 \| .* \| line 8$"
    with pytest.raises(ovgen.DeviceError, match=message):
        child(modules, said + program)


def test_an_unexpected_exception_is_told_with_its_place(modules: Path) -> None:
    program = "from ovgen.probe import answer\ndef work(task):\n    raise ValueError('out of luck')\nanswer(work)"
    message = r"^NPU failed in a child .* static form: ValueError: out of luck \(child_of_a_test.py, line 3\)$"
    with pytest.raises(ovgen.DeviceError, match=message):
        child(modules, program)


def test_a_child_that_does_not_even_begin_is_told_by_its_last_lines(modules: Path) -> None:
    with pytest.raises(ovgen.DeviceError, match=r"NPU failed \(status 1\) .*ValueError: out of luck$"):
        child(modules, "raise ValueError('out of luck')")


def test_what_to_do_is_told_where_it_is_known(modules: Path) -> None:
    with pytest.raises(ovgen.DeviceError, match=r"to_shape was called on a dynamic shape\. .* use form=\"static\"$"):
        child(modules, "raise RuntimeError('to_shape was called on a dynamic shape')")


def test_a_child_that_hangs_is_ended(modules: Path) -> None:
    program = "import sys, time; print('waiting for the driver', file=sys.stderr, flush=True); time.sleep(60)"
    begin = time.monotonic()
    with pytest.raises(ovgen.DeviceError, match=r"^NPU was not done after 3 s .*static form: waiting for the driver$"):
        child(modules, program, timeout=3)
    assert time.monotonic() - begin < 30


def test_a_status_of_windows_is_told_as_its_documents_write_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 0xC0000005, b"", b"")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(ovgen.DeviceError, match=r"GPU crashed \(0xC0000005\)"):
        in_child("any", {}, who="GPU", doing="tried it", timeout=1)


def test_a_child_that_cannot_be_started_is_a_device_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ovgen.DeviceError, match="no child process can be started for GPU"):
        in_child("any", {}, who="GPU", doing="tried it", timeout=1)


def test_properties_are_spelt_as_openvino_reads_them(tmp_path: Path) -> None:
    config = {
        hint.inference_precision: ov.Type.f32,
        "PERFORMANCE_HINT": hint.PerformanceMode.THROUGHPUT,
        "CACHE_DIR": tmp_path,
        "NUM_STREAMS": 2,
        "PERF_COUNT": True,
        "NPU": {"KV_CACHE_PRECISION": ov.Type.f16},
    }
    assert json.loads(json.dumps(spelt(config))) == {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "THROUGHPUT",
        "CACHE_DIR": str(tmp_path),
        "NUM_STREAMS": 2,
        "PERF_COUNT": True,
        "NPU": {"KV_CACHE_PRECISION": "f16"},
    }
    with pytest.raises(ovgen.ConfigError, match="cannot be sent to a child process"):
        spelt({"CACHE_ENCRYPTION_CALLBACKS": [print, print]})


@pytest.mark.parametrize("adapters", [{}, {"a": golden("llama-attention").folder}], ids=["plain", "adapted"])
def test_what_the_child_compiles_is_there_for_this_process(
    adapters: dict[str, Path], tiny_llama: Path, tmp_path: Path
) -> None:
    config = {**F32, "CACHE_DIR": str(tmp_path)}
    try_in_child(tiny_llama, EngineConfig(prefill_chunk_size=16), adapters, "CPU", "static", config)
    left = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert left
    llm = ovgen.LLM(tiny_llama, form="static", device_config=config, adapters=adapters, prefill_chunk_size=16)
    llm.generate([1, 2, 3], max_new_tokens=2)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == left


def test_a_sound_device_is_used_after_its_probe(tiny_llama: Path, modules: Path) -> None:
    (modules / "sitecustomize.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()")
    precise = {"INFERENCE_PRECISION_HINT": ov.Type.f32}
    llm = ovgen.LLM(tiny_llama, probe=True, device_config=precise, max_model_len=64)
    assert (llm.form, llm.fallbacks) == ("paged", ())
    assert (modules / "ran").exists()


@posix
def test_a_device_that_aborts_is_passed_over(tiny_llama: Path, modules: Path, caplog: pytest.LogCaptureFixture) -> None:
    (modules / "sitecustomize.py").write_text(ABORTING_NPU)
    with caplog.at_level(logging.WARNING, "ovgen"):
        llm = ovgen.LLM(tiny_llama, device=["NPU", "CPU"], device_config={"NPU": NPU_ON_CPU}, probe=True)
    assert llm.device == "CPU"
    (attempt,) = llm.fallbacks
    assert (attempt.device, attempt.form) == ("NPU", "static")
    assert attempt.reason == (
        "NPU aborted (SIGABRT) in a child process that tried the static form: L0 pfnCompile: assertion failed"
    )
    assert "instead of the static form on NPU: NPU aborted (SIGABRT)" in caplog.text


@posix
def test_alone_it_is_an_error(tiny_llama: Path, modules: Path) -> None:
    (modules / "sitecustomize.py").write_text(ABORTING_NPU)
    with pytest.raises(ovgen.DeviceError, match=r"NPU aborted \(SIGABRT\) .* the static form"):
        ovgen.LLM(tiny_llama, device="NPU", device_config=NPU_ON_CPU, probe=True)


def test_a_wrong_property_is_told_as_without_a_probe(tiny_llama: Path) -> None:
    messages = []
    for probe in (False, True):
        with pytest.raises(ovgen.ConfigError, match="CPU refuses KV_CACHE_PRECISION='u5'") as error:
            ovgen.LLM(tiny_llama, device_config={"KV_CACHE_PRECISION": "u5"}, probe=probe)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
