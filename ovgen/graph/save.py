"""Writing a causal LM as an IR folder that ovgen, openvino.genai and optimum-intel load."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import openvino as ov

from ovgen.errors import ConfigError
from ovgen.graph.ir import IR_WEIGHTS, IR_XML
from ovgen.graph.staging import ASIDE, staging

__all__ = ["COMPANIONS", "check_destination", "save_ir"]

COMPANIONS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "openvino_tokenizer.xml",
    "openvino_tokenizer.bin",
    "openvino_detokenizer.xml",
    "openvino_detokenizer.bin",
)
"""What may stand beside a model and says how to use it: Hugging Face's tokenizer files, and OpenVINO's."""

_OWN_FILES = {IR_XML, IR_WEIGHTS, "config.json", "openvino_config.json", *COMPANIONS}


def check_destination(folder: Path, *, force: bool = False) -> None:
    """Refuse to write where something is.

    Args:
        folder: the folder to write.
        force: it may be an IR folder with nothing else in it, which will be replaced as a whole.

    Raises:
        ConfigError: ``folder`` exists and is neither empty nor to be replaced, or there cannot be a folder.
    """
    place = next(parent for parent in folder.parents if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise ConfigError(f"{folder} cannot be made: {place} is no folder that can be written to")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / IR_XML).is_file():
        raise ConfigError(f"{folder} exists and is not an empty folder: choose another or remove it first")
    if not force:
        raise ConfigError(f"{folder} exists and is not an empty folder: choose another, or replace it by --force")
    foreign = sorted(file.name for file in folder.iterdir() if not file.is_file() or file.name not in _OWN_FILES)
    if foreign:
        raise ConfigError(f"{folder} holds {foreign[0]!r}, which is no part of an IR: move it away before --force")


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
    folder = Path(os.path.realpath(folder))  # "." has no name to put a temporary folder beside, and links lead on
    check_destination(folder, force=force)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with staging(folder) as temporary:
        new = temporary / "new"  # made by mkdir, not mkdtemp, so that others may read it
        new.mkdir()
        for name, content in {IR_XML: model, **files}.items():
            _write(new / name, content)
        _replace(new, folder, temporary / ASIDE, force=force)
    return folder


def _write(path: Path, content: ov.Model | Path | str) -> None:
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    elif isinstance(content, str):
        path.write_text(content, "utf-8")
    else:
        try:
            ov.save_model(content, path, compress_to_fp16=False)
        except RuntimeError as error:
            raise OSError(f"{path} cannot be written, perhaps because the disk is full: {error}") from error


def _replace(new: Path, folder: Path, aside: Path, *, force: bool) -> None:
    """Rename ``new`` to ``folder``. An IR that is to be replaced goes ``aside``, and comes back if that fails."""
    check_destination(folder, force=force)  # again: something may have come there meanwhile
    try:
        if folder.exists() and any(folder.iterdir()):
            os.replace(folder, aside)
        elif folder.exists():
            folder.rmdir()  # Windows does not rename onto a folder
        os.replace(new, folder)
    except BaseException:  # Ctrl-C, too
        if aside.exists() and not folder.exists():
            os.replace(aside, folder)
        raise
