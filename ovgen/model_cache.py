"""Models that were compressed while loading, kept for the next time."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from ovgen.conversion import convert
from ovgen.env import home
from ovgen.errors import ConfigError, ModelError
from ovgen.graph import IR_XML, read_ir
from ovgen.graph.staging import ASIDE, staging
from ovgen.loader import digest
from ovgen.weights import Compression

__all__ = ["compressed_copy"]

_ORIGIN = "ovgen_origin.txt"  # in each copy: the path of the model and the options
_log = logging.getLogger("ovgen")


def compressed_copy(path: Path, compression: Compression) -> Path:
    """The IR folder of the model at ``path`` with its weights compressed: made when it is first asked for.

    It lies in ``OVGEN_HOME/models`` under a name that stands for the files, the options and the version of ovgen, so
    one that fits no more is not taken; a damaged one is made again. Two processes may make the same one at a time:
    the first to finish puts it there, whole, and the other takes that. A copy that was made from the same path with the
    same options, when other files were there, is removed.

    Raises:
        ModelError: there is no model at ``path``, it is damaged, or it is not supported.
        ConfigError: there is too little room on the disk.
        OSError: ``OVGEN_HOME`` cannot be written to.
    """
    path = path.expanduser().absolute()
    key = hashlib.sha256(f"{digest(path, times=True)} {compression} {version('ovgen')}".encode()).hexdigest()
    name = path.stem if path.is_file() else path.name
    folder = home() / "models" / f"{name}-{compression.weights}-{key[:16]}"
    if folder.exists():
        damage = _damage(folder)
        if damage is not None:
            _log.warning("a compressed copy is made again: %s", damage)
            _discard(folder)
        if folder.exists():
            return folder
    _log.info("compressing %s to %s, kept in %s", path, compression.weights, folder)
    try:
        convert(path, folder, compression)
    except (ConfigError, OSError):
        if not (folder / IR_XML).is_file():
            raise  # else another process was faster
    with suppress(OSError):  # of housekeeping, which another process may do at the same time
        _remove_older(folder, f"{path}\n{compression}\n")
    return folder


def _damage(folder: Path) -> ModelError | None:
    try:
        read_ir(folder)
    except ModelError as error:
        return error
    return None


def _discard(folder: Path) -> None:
    """Remove a damaged copy. Of several processes one gets hold of it; a sound one, made meanwhile, goes back."""
    with staging(folder) as temporary:
        aside = temporary / ASIDE
        with suppress(FileNotFoundError):  # another process was faster
            os.replace(folder, aside)
            if _damage(aside) is None:
                with suppress(OSError):  # a third has put one there
                    os.replace(aside, folder)


def _remove_older(folder: Path, origin: str) -> None:
    """Note down where a copy comes from, and remove the others that come from there."""
    (folder / _ORIGIN).write_text(origin, "utf-8")
    for other in folder.parent.iterdir():
        note = other / _ORIGIN
        if other != folder and note.is_file() and note.read_text("utf-8") == origin:
            _log.info("the model or ovgen has changed: removing the older copy %s", other)
            shutil.rmtree(other, ignore_errors=True)
