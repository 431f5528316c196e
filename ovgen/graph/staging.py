"""Folders that are written aside and renamed when they are whole; and what is left of those whose process was killed.

Beside ``NAME`` a folder ``.NAME.xxxxxxxx`` is made, with a file in it that its process holds open as long as it lives:
locked, or, on Windows, such that nobody else can delete it. Where nobody holds that file, the folder is a leftover.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["ASIDE", "remove_leftovers", "staging"]

ASIDE = "old"
"""Within a staging folder, where a folder is moved that is to be replaced."""

_HELD = ".ovgen-writes-here"


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder``, whose parent exists. It is removed at the end, however that comes.

    Raises:
        OSError: the place cannot be written to.
    """
    temporary = tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.")
    with temporary as path, _held(Path(path) / _HELD):
        yield Path(path)


def remove_leftovers(parent: Path) -> None:
    """Remove the staging folders in ``parent`` whose process has ended; what lies aside in one goes back to its place.

    What cannot be removed stays, without an error.
    """
    with suppress(OSError):
        for folder in parent.glob(".*"):
            if (folder / _HELD).is_file() and not _is_held(folder / _HELD):
                place = parent / folder.name[1:].rpartition(".")[0]
                if (folder / ASIDE).exists() and not place.exists():  # killed between two renames
                    os.replace(folder / ASIDE, place)
                shutil.rmtree(folder, ignore_errors=True)


if sys.platform == "win32":

    @contextmanager
    def _held(path: Path) -> Iterator[None]:
        with path.open("wb"):
            yield

    def _is_held(path: Path) -> bool:
        try:
            path.unlink()
        except OSError:
            return True
        return False

else:
    import fcntl

    @contextmanager
    def _held(path: Path) -> Iterator[None]:
        unnamed = path.with_suffix(".new")
        with unnamed.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.replace(unnamed, path)  # locked when it appears: there is no moment in which it looks left
            yield

    def _is_held(path: Path) -> bool:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False
