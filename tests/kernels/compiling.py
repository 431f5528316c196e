"""The kernels compiled for the tests: as users get them, and with an instruction set emulated."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import openvino
import pytest

from ovgen.resources import kernel_sources
from ovgen.runtime.kernel_build import build
from tests.kernels.library import Library

__all__ = ["SOURCES", "compile_with", "compiler", "emulating_library", "flags_of", "users_library"]

SOURCES = kernel_sources()
_OPENVINO = Path(openvino.__file__).parent


def compiler() -> str:
    """The C++ compiler; a test is skipped where there is none."""
    found = next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)
    if found is None:
        pytest.skip("there is no C++ compiler")
    return found


def compile_with(*arguments: str | Path) -> str:
    """Call the C++ compiler; what it prints."""
    command = [compiler(), "-std=c++17", "-O1", "-fPIC", "-isystem", _OPENVINO / "include", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def flags_of(source: Path) -> list[str]:
    """What a source says in its first line."""
    return source.read_text().splitlines()[0].partition("// flags:")[2].split()


def users_library() -> Library:
    """The library as users get it; it is built once for all tests."""
    compiler()
    return Library(build().path)


def emulating_library(folder: Path) -> Library:
    """A library whose VNNI kernels run on AVX2, their one instruction written out."""
    target, tbb = folder / "emulating.so", next((_OPENVINO / "libs").glob("libtbb.so.*"))
    names = ("dispatch", "linear", "pack", "scalar", "avx2", "avx_vnni", "avx512_vnni")
    sources = [SOURCES / f"{name}.cpp" for name in names]
    flags = [*flags_of(SOURCES / "avx2.cpp"), "-DOVGEN_EMULATE_VNNI"]
    compile_with("-shared", *flags, *sources, tbb, f"-Wl,-rpath,{tbb.parent}", "-o", target)
    return Library(target)
