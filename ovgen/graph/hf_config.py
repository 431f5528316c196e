"""``config.json`` of a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from ovgen.errors import ModelNotFoundError
from ovgen.weights.json_file import Config, read_json

__all__ = ["read_config"]


def read_config(folder: Path) -> Config:
    """The object in ``folder/config.json``.

    Raises:
        ModelNotFoundError: there is no such folder, or no ``config.json`` in it.
        CorruptFileError: the file is not a JSON object; the message says where.
    """
    if not folder.is_dir():
        raise ModelNotFoundError(f"{folder} is not a folder: give the path of a model's folder")
    path = folder / "config.json"
    return Config(read_json(path), str(path))
