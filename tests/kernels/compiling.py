"""The kernels compiled for the tests: as users get them, and with an instruction set emulated."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import openvino
import pytest

from tests.kernels.library import Library

__all__ = ["SOURCES", "compile_with", "compiler", "emulating_library", "flags_of", "users_library"]

SOURCES = Path(__file__).resolve().parents[2] / "kernels" / "cpu"
_OPENVINO = Path(openvino.__file__).parent


def compiler() -> str:
    """The C++ compiler; a test is skipped where there is none."""
    found = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if found is None:
        pytest.skip("there is no C++ compiler")
    return found


def compile_with(*arguments: str | Path) -> str:
    """Call the C++ compiler; what it prints."""
    command = [compiler(), "-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", f"-I{_OPENVINO / 'include'}"]
    result = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def flags_of(source: Path) -> list[str]:
    """What a source says in its first line."""
    with source.open() as file:
        mark, _, flags = file.readline().partition("// flags:")
    return [] if mark else flags.split()


@cache
def users_library(folder: Path) -> Library:
    """The library as users get it."""
    objects: list[Path] = []
    for source in sorted(SOURCES.glob("*.cpp")):
        objects.append(folder / f"{source.stem}.o")
        compile_with("-c", *flags_of(source), source, "-o", objects[-1])
    libs = _OPENVINO / "libs"
    libraries: list[str | Path] = [next(libs.glob("libopenvino.so.*")), libs / "libtbb.so.12", f"-Wl,-rpath,{libs}"]
    compile_with("-shared", *objects, *libraries, "-o", folder / "kernels.so")
    return Library(folder / "kernels.so")


def emulating_library(folder: Path) -> Library:
    """A library whose AVX-VNNI runs on AVX2, its one instruction written out."""
    target, tbb = folder / "emulating.so", _OPENVINO / "libs" / "libtbb.so.12"
    sources = [SOURCES / f"{name}.cpp" for name in ("dispatch", "linear", "pack", "scalar", "avx2", "avx_vnni")]
    flags = ["-O1", *flags_of(SOURCES / "avx2.cpp"), "-DOVGEN_EMULATE_VNNI"]
    compile_with("-shared", *flags, *sources, tbb, f"-Wl,-rpath,{tbb.parent}", "-o", target)
    return Library(target)
