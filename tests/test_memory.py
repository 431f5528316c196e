"""What loading and generating take in memory, and that no step leaves anything behind; each case in a new process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ovgen
from tests.tiny_models import make

ROOT = Path(__file__).resolve().parent.parent
PYTHON, PROCESS = 100, 250  # bytes a step: token ids, and what is kept of prompts to find them again
SMALL = 0.0005  # GiB, soon full: what is cached of earlier prompts would let a larger cache grow for long
OVERHEAD = 200 << 20  # bytes besides weights and KV cache: Python, numpy, OpenVINO and its compiled graphs
GPT2 = {"vocab_size": 50_257, "n_positions": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
NO_COMPILER = not any(map(shutil.which, ("g++", "clang++", "c++")))
needs_compiler = pytest.mark.skipif(NO_COMPILER, reason="the native kernels cannot be built: no C++ compiler")


def measured(what: str, folder: Path, options: dict[str, Any], *load: str) -> dict[str, float]:
    """What a child process says of itself."""
    command = [sys.executable, "-m", "tests.memory_child", what, str(folder), json.dumps(options), *load]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


@pytest.mark.parametrize(
    ("form", "load"),
    [
        ("paged", "stream"),
        ("static", "stream"),
        pytest.param("stateful", "stream", marks=pytest.mark.slow),
        ("paged", "session"),
        pytest.param("paged", "together", marks=pytest.mark.slow),
    ],
)
def test_steps_leave_nothing_behind(tiny_llama: Path, form: str, load: str) -> None:
    grown = measured("growth", tiny_llama, {"form": form, "cache_size": SMALL}, load)
    assert grown["python"] < PYTHON
    assert grown["process"] < PROCESS


@pytest.mark.parametrize("load", ["leaking_native", pytest.param("leaking_python", marks=pytest.mark.slow)])
def test_a_kilobyte_a_step_would_be_noticed(tiny_llama: Path, load: str) -> None:
    grown = measured("growth", tiny_llama, {"cache_size": SMALL}, load)
    assert 900 < grown["process"] < 1500
    assert (grown["python"] < PYTHON) == (load == "leaking_native")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param({"n_embd": 512, "n_head": 8, "n_layer": 4}, id="38M"),
        pytest.param({}, marks=pytest.mark.slow, id="124M"),
    ],
)
def gpt2(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2 with random weights, and a smaller one of its vocabulary."""
    return make("gpt2", tmp_path_factory.mktemp("gpt2"), **GPT2 | request.param)


@needs_compiler
@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_peak(gpt2: Path, weights: Any, tmp_path: Path) -> None:
    folder = ovgen.convert(gpt2, tmp_path / weights, weights=weights)
    peak = measured("peak", folder, {"kernels": "require"})
    assert peak["generated"] < peak["weights"] + peak["cache"] + OVERHEAD
    if peak["weights"] > 100e6:  # of smaller models the graph is larger than the weights
        assert peak["loaded"] - peak["imported"] < 2 * peak["weights"]
