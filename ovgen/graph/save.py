"""Writing a causal LM as an IR folder that ovgen, openvino.genai and optimum-intel load."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import openvino as ov

from ovgen.errors import ConfigError
from ovgen.graph.ir import IR_XML

__all__ = ["save_ir"]

# What may stand beside a model and says how to use it: Hugging Face's tokenizer files, and OpenVINO's.
_COMPANIONS = (
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


def save_ir(
    model: ov.Model,
    folder: Path,
    config: Mapping[str, Any],
    source_folder: Path,
    others: Mapping[str, ov.Model] = MappingProxyType({}),
) -> Path:
    """Write ``model`` with its configuration, and copies of the tokenizer's files in ``source_folder``.

    Everything is written to a temporary folder beside ``folder``, which is then renamed: ``folder`` appears
    whole or not at all. Weights keep their precision.

    Args:
        model: the causal LM form.
        folder: where to; may be an empty folder.
        config: the object of ``config.json``; empty to write none.
        source_folder: where the model came from.
        others: further models, by the name of their file: ``openvino_tokenizer.xml``, for one.

    Returns:
        ``folder``.

    Raises:
        ConfigError: ``folder`` exists and is not an empty folder.
        OSError: the disk is full, or the place cannot be written to.
    """
    folder = Path(os.path.abspath(folder))  # "." has no name to put a temporary folder beside
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists and is not an empty folder: choose another or remove it first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        staging = Path(temporary) / folder.name  # made by mkdir, not mkdtemp, so that others may read it
        staging.mkdir()
        for name, each in {IR_XML: model, **others}.items():
            ov.save_model(each, staging / name, compress_to_fp16=False)
        if config:
            text = json.dumps(dict(config), indent=2, ensure_ascii=False)
            (staging / "config.json").write_text(text + "\n", "utf-8")
        for name in _COMPANIONS:
            if (source_folder / name).is_file() and not (staging / name).exists():
                shutil.copyfile(source_folder / name, staging / name)
        if folder.exists():
            folder.rmdir()  # empty, as checked; Windows does not rename onto a folder
        os.replace(staging, folder)
    return folder
