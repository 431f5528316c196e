"""Writing a model to disk as an OpenVINO IR folder."""

from __future__ import annotations

import os
from pathlib import Path

from ovgen.graph import save_ir
from ovgen.loader import load

__all__ = ["convert"]


def convert(source: str | os.PathLike[str], destination: str | os.PathLike[str]) -> Path:
    """Write the model at ``source`` as an IR folder that ovgen, openvino.genai and optimum-intel load.

    Weights keep their precision. The folder is written whole or not at all. Returns its path.

    Raises:
        ModelError: there is no model at ``source``, it is damaged, or it is not supported.
        ConfigError: ``destination`` exists and is not an empty folder.
    """
    found = load(Path(source))
    return save_ir(found.model, Path(destination), found.config, found.path)
