"""Between text and token ids: tokenizers, incremental detokenising, chat templates.

The packages that do the work, `tokenizers` and `jinja2`, are imported when a folder or a conversation needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ovgen.text.chat import ChatTemplate, find_chat_template
from ovgen.text.detokenizer import Detokenizer
from ovgen.text.ir import CompiledTokenizer, IRTokenizer
from ovgen.text.settings import read_settings
from ovgen.text.tokenizer import Tokenizer

__all__ = [
    "ChatTemplate",
    "CompiledTokenizer",
    "Detokenizer",
    "Tokenizer",
    "find_chat_template",
    "load_tokenizer",
]

_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "openvino_tokenizer.xml", "tokenizer.model")


def load_tokenizer(folder: Path, compile_ir: Callable[[Path], CompiledTokenizer]) -> Tokenizer | None:
    """The tokenizer of a model folder; None if it has none.

    Of several, the fastest is taken: tokenizer.json, then vocab.json with merges.txt, then the OpenVINO models
    (openvino_tokenizer.xml with openvino_detokenizer.xml), then tokenizer.model.

    Args:
        folder: the model folder.
        compile_ir: compiles the OpenVINO models of a folder.

    Raises:
        TokenizerError: a file is damaged, or of a kind that is not supported; the message names the way out.
    """
    settings = read_settings(folder)
    there = {name for name in _FILES if (folder / name).is_file()}
    if "tokenizer.json" in there:
        from ovgen.text.fast import from_tokenizer_json

        return from_tokenizer_json(folder / "tokenizer.json", settings)
    others = there & {"openvino_tokenizer.xml", "tokenizer.model"}
    if {"vocab.json", "merges.txt"} <= there:
        from ovgen.text.bpe_files import CLASSES, from_vocab_and_merges

        if settings.tokenizer_class in CLASSES or not others:  # else the message says that it cannot be built
            return from_vocab_and_merges(folder, settings)
    if "openvino_tokenizer.xml" in others:
        return IRTokenizer(compile_ir(folder), settings)
    if "tokenizer.model" in others:
        from ovgen.text.sentencepiece import from_tokenizer_model

        return from_tokenizer_model(folder / "tokenizer.model", settings)
    return None
