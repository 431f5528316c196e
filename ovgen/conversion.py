"""Writing a model to disk as an OpenVINO IR folder."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import openvino as ov

from ovgen.errors import TokenizerError
from ovgen.graph import check_destination, save_ir
from ovgen.loader import Source, load

__all__ = ["convert"]

_log = logging.getLogger("ovgen")

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


def convert(source: str | os.PathLike[str], destination: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write the model at ``source`` as an IR folder that ovgen, openvino.genai and optimum-intel load.

    Weights keep their precision. The tokenizer goes along, as OpenVINO models too, which openvino.genai takes text
    by; where those cannot be made, a warning says why. The folder is written whole or not at all. Returns its path.

    Raises:
        ModelError: there is no model at ``source``, it is damaged, or it is not supported.
        ConfigError: ``destination`` exists and is not an empty folder; with ``force``, it is no IR folder either.
        OSError: the place cannot be written to.
    """
    folder = Path(destination).expanduser()
    check_destination(folder, force=force)  # now, not only after minutes of work
    found = load(Path(source))
    return save_ir(found.build(), folder, _companions(found) | _tokenizer_models(found), force=force)


def _companions(source: Source) -> dict[str, ov.Model | Path | str]:
    """What goes along with a model, by file name."""
    files: dict[str, ov.Model | Path | str] = {}
    if source.config:
        files["config.json"] = _json(source.config)
    there = (source.path / name for name in _COMPANIONS)
    return files | {file.name: file for file in there if file.is_file()}


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _tokenizer_models(source: Source) -> dict[str, ov.Model | Path | str]:
    """The tokenizer as OpenVINO models, by file name; none if the folder has them, or they cannot be made."""
    if source.tokenizer is None or (source.path / "openvino_tokenizer.xml").exists():
        return {}
    from ovgen.graph.tokenizer_export import tokenizer_models  # imports openvino_tokenizers, only needed here
    from ovgen.text.fast import FastTokenizer

    if not isinstance(source.tokenizer, FastTokenizer):
        return {}
    try:
        tokenizer, detokenizer = tokenizer_models(
            json.loads(source.tokenizer.backend.to_str()),
            bos_token_id=source.tokenizer.bos_token_id,
            eos_token_id=source.tokenizer.eos_token_id,
            pad_token_id=source.tokenizer.eos_token_id,
            chat_template=None if source.chat_template is None else source.chat_template.source,
        )
    except TokenizerError as error:
        _log.warning("no openvino_tokenizer.xml is written, so openvino.genai will need token ids: %s", error)
        return {}
    return {"openvino_tokenizer.xml": tokenizer, "openvino_detokenizer.xml": detokenizer}
