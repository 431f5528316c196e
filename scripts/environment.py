"""The project's own virtual environment, made when first needed; shared by `demo`, `test` and `check`."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

__all__ = ["ROOT", "python", "run"]

ROOT = Path(__file__).resolve().parent.parent
_VENV = ROOT / ".venv"


def python(extra: str = "") -> str:
    """Path of the environment's Python, with ovgen installed (editable) and, if named, an extra of its.

    Made on the first call and brought up to date whenever ``pyproject.toml`` has changed.
    """
    if sys.version_info < (3, 10):  # noqa: UP036 - this file runs on whatever Python is there
        sys.exit(f"ovgen needs Python 3.10 or newer; this is {sys.version.split()[0]}")
    folder = "Scripts" if sys.platform == "win32" else "bin"
    interpreter = _VENV / folder / ("python.exe" if sys.platform == "win32" else "python")
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    stamp = _VENV / f".installed-{extra or 'base'}"
    if not interpreter.exists():
        print(f"making {_VENV.name} ...", file=sys.stderr)
        _create()
    if not stamp.exists() or stamp.read_text() != wanted:
        target = f"{ROOT}[{extra}]" if extra else str(ROOT)
        print(f"installing ovgen{f'[{extra}]' if extra else ''} into {_VENV.name} ...", file=sys.stderr)
        command = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # Puts the clone on the path itself. The default, an import hook, loses to a folder called "ovgen", such as the
        # clone, where Python is started beside it.
        command += ["--config-settings", "editable_mode=compat"]
        if subprocess.call([*command, "--editable", target]):
            sys.exit("the installation failed: see pip's message above")
        stamp.write_text(wanted)
    return str(interpreter)


def _create() -> None:
    """Make the environment, or leave nothing: half of one would be taken for a whole one the next time."""
    try:
        venv.create(_VENV, with_pip=True)
    except BaseException as error:
        shutil.rmtree(_VENV, ignore_errors=True)
        if isinstance(error, subprocess.CalledProcessError):
            sys.exit("this Python cannot make virtual environments: install its venv and pip (Debian: python3-venv)")
        raise


def run(*command: str) -> None:
    """Run a command in the project's folder; ends this program if it fails."""
    status = subprocess.call(command, cwd=ROOT)
    if status:
        sys.exit(status)
