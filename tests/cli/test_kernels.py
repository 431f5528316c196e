"""``ovgen kernels``: what it prints, and its exit status."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from ovgen.cli import main
from ovgen.resources import kernel_sources
from ovgen.runtime import kernel_build

needs_compiler = pytest.mark.skipif(
    sys.platform != "linux" or not any(map(shutil.which, ("g++", "clang++", "c++"))),
    reason="the kernels cannot be built: no Linux, or no C++ compiler",
)


@pytest.fixture
def no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is built."""
    monkeypatch.setenv("OVGEN_HOME", str(tmp_path / "home"))


@needs_compiler
def test_what_is_built_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernels", "build"]) == 0
    built = capsys.readouterr().out
    assert main(["kernels", "status"]) == 0
    assert capsys.readouterr().out == built
    assert "scalar" in built
    assert main(["kernels", "status", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["built"] is True
    assert Path(record["library"]).stat().st_size == record["bytes"]
    assert record["in_use"] == record["instruction_sets"][-1]
    assert record["instruction_sets"][0] == "scalar"
    assert " " in record["compiler"]  # its version too
    assert set(record["left_out"]) <= {path.name for path in kernel_sources().glob("*.cpp")}


@needs_compiler
@pytest.mark.usefixtures("no_home")
def test_what_is_not_built_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernels", "status"]) == 1
    assert "`ovgen kernels build` does it" in capsys.readouterr().out
    assert main(["kernels", "status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"built": False, "problem": None}


@pytest.mark.usefixtures("no_home")
def test_why_nothing_can_be_built_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main(["kernels", "status"]) == 1
    assert "not built: CXX=no-such-compiler is no program" in capsys.readouterr().out
    assert main(["kernels", "status", "--json"]) == 1
    assert "unset CXX" in json.loads(capsys.readouterr().out)["problem"]
    assert main(["kernels", "build"]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.splitlines()[-1].startswith("ovgen: error: CXX=no-such-compiler is no program that can be run")


@needs_compiler
@pytest.mark.usefixtures("no_home")
def test_clean_says_what_it_removed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tiny.cpp").write_text("int tiny() { return 1; }\n")
    kernel_build.build(tmp_path)
    assert main(["kernels", "clean", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed_bytes"] > 1000
    assert main(["kernels", "clean"]) == 0
    assert capsys.readouterr().out == "removed 0.0 MB\n"
