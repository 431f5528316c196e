"""``ovgen kernels``: the native CPU kernels, built, looked at, removed."""

from __future__ import annotations

import argparse
from typing import Any

from ovgen.cli.options import to_json
from ovgen.cli.terminal import status
from ovgen.errors import ConfigError, KernelError
from ovgen.runtime.kernel_build import KernelBuild, build, clean, find_build, find_compiler
from ovgen.runtime.kernel_library import KernelLibrary

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "build, show or remove the native CPU kernels, which compute linear layers"
EXAMPLE = """They are built by themselves when they are first needed: a C++ compiler is all that must be there.

examples:
  ovgen kernels build
  ovgen kernels status --json
  CXX=clang++ ovgen kernels build --force
  ovgen kernels clean

`status` ends with status 1 if nothing is built.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("action", choices=("build", "status", "clean"), help="what to do")
    parser.add_argument("--force", action="store_true", help="build: even if there is a library")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Do it; the exit status of ``status`` is 1 if nothing is built."""
    if options.force and options.action != "build":
        raise ConfigError(f"--force is for `ovgen kernels build`, not for {options.action}")
    if options.action == "clean":
        size = clean()
        print(to_json({"removed_bytes": size}) if options.json else f"removed {size / 1e6:.1f} MB")
        return 0
    if options.action == "build":
        with status("Building the kernels"):
            build(force=options.force)
    found, problem = _look()
    report = {"built": False, "problem": problem} if found is None else {"built": True, **_report(found)}
    if options.json:
        print(to_json(report))
    elif report["built"]:
        _show(report)
    elif report["problem"]:
        print(f"not built: {report['problem']}")
    else:
        print("not built: `ovgen kernels build` does it, or loading a model on a CPU")
    return 0 if found is not None else 1


def _look() -> tuple[KernelBuild | None, str | None]:
    """What is built; if nothing, what is wrong: with the library that is there, or with the compiler."""
    try:
        found = find_build()
        if found is None:
            find_compiler()
    except KernelError as error:
        return None, str(error)
    return found, None


def _report(found: KernelBuild) -> dict[str, Any]:
    try:
        library = KernelLibrary(found.path)
    except (OSError, RuntimeError) as error:
        raise KernelError(f"{found.path} cannot be loaded: {error}. `ovgen kernels build --force` may help") from error
    return {
        "library": str(found.path),
        "bytes": found.path.stat().st_size,
        "compiler": found.compiler,
        "seconds": found.seconds,
        "instruction_sets": library.instruction_sets,
        "in_use": library.instruction_set,
        "left_out": dict(found.left_out),
    }


def _show(report: dict[str, Any]) -> None:
    print(f"library           {report['library']} ({report['bytes'] / 1e6:.1f} MB)")
    print(f"built             by {report['compiler']} in {report['seconds']:.1f} s")
    print(f"instruction sets  {', '.join(report['instruction_sets'])}; {report['in_use']} is used")
    for name, reason in report["left_out"].items():
        print(f"left out          {name}: {reason}")
