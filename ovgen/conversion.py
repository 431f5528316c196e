"""Writing a model to disk as an OpenVINO IR folder."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import openvino as ov

from ovgen.errors import TokenizerError
from ovgen.graph import save_ir
from ovgen.loader import Source, load

__all__ = ["convert"]

_log = logging.getLogger("ovgen")


def convert(source: str | os.PathLike[str], destination: str | os.PathLike[str]) -> Path:
    """Write the model at ``source`` as an IR folder that ovgen, openvino.genai and optimum-intel load.

    Weights keep their precision. The tokenizer goes along, as OpenVINO models too, which openvino.genai takes text
    by; where those cannot be made, a warning says why. The folder is written whole or not at all. Returns its path.

    Raises:
        ModelError: there is no model at ``source``, it is damaged, or it is not supported.
        ConfigError: ``destination`` exists and is not an empty folder.
        OSError: the place cannot be written to.
    """
    found = load(Path(source))
    return save_ir(found.model, Path(destination).expanduser(), found.config, found.path, _tokenizer(found))


def _tokenizer(source: Source) -> dict[str, ov.Model]:
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
