"""Writing a causal LM as an IR folder that ovgen, openvino.genai and optimum-intel load."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import openvino as ov

from ovgen.errors import ConfigError
from ovgen.graph.ir import IR_XML

__all__ = ["check_destination", "save_ir"]


def check_destination(folder: Path, *, force: bool = False) -> None:
    """Refuse to write where something is.

    Args:
        folder: the folder to write.
        force: it may be an IR folder, which will be replaced as a whole; nothing else ever is.

    Raises:
        ConfigError: ``folder`` exists and is neither empty nor to be replaced.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / IR_XML).is_file():
        raise ConfigError(f"{folder} exists and is not an empty folder: choose another or remove it first")
    if not force:
        raise ConfigError(f"{folder} exists and is not an empty folder: choose another, or replace it by --force")


def save_ir(
    model: ov.Model,
    folder: Path,
    files: Mapping[str, ov.Model | Path | str] = MappingProxyType({}),
    *,
    force: bool = False,
) -> Path:
    """Write ``model`` as ``openvino_model.xml`` and ``.bin``; weights keep their precision.

    Everything is written to a temporary folder beside ``folder``, which is then renamed: ``folder`` appears
    whole or not at all.

    Args:
        model: the causal LM form.
        folder: where to; may be an empty folder.
        files: what else belongs in it, by name: a file to copy, a text, or a further model to write.
        force: an IR folder that is there is replaced.

    Returns:
        ``folder``, absolute.

    Raises:
        ConfigError: see `check_destination`.
        OSError: the disk is full, or the place cannot be written to.
    """
    folder = Path(os.path.abspath(folder))  # "." has no name to put a temporary folder beside
    check_destination(folder, force=force)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        staging = Path(temporary) / "new"  # made by mkdir, not mkdtemp, so that others may read it
        staging.mkdir()
        for name, content in {IR_XML: model, **files}.items():
            _write(staging / name, content)
        _replace(staging, folder, Path(temporary) / "old")
    return folder


def _write(path: Path, content: ov.Model | Path | str) -> None:
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    elif isinstance(content, str):
        path.write_text(content, "utf-8")
    else:
        ov.save_model(content, path, compress_to_fp16=False)


def _replace(new: Path, folder: Path, aside: Path) -> None:
    """Rename ``new`` to ``folder``; what is there goes ``aside``, and comes back if that fails."""
    if folder.exists():
        os.replace(folder, aside)
    try:
        os.replace(new, folder)
    except OSError:
        if aside.exists():
            os.replace(aside, folder)
        raise
