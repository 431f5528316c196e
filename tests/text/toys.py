"""Small tokenizers, made in a moment, and the folders in which they lie."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import openvino as ov
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from ovgen.graph.tokenizer_export import tokenizer_models
from ovgen.runtime.tokenizer_ir import compile_tokenizer
from ovgen.text.fast import FastTokenizer
from ovgen.text.ir import IRTokenizer
from ovgen.text.sentencepiece import from_tokenizer_model
from ovgen.text.settings import TokenizerSettings, TokenSpec

TEXT = """Once upon a time, there was a little fox named Pip. Pip's friends said: "We're going to the sea!"
    They'd seen 3 whales, 15 dolphins & 127 herrings — all of them singing... the the the same old song?
Der Führer fährt über Brücken. нещо на Български. 你好世界 🦙🦙 👩‍👩‍👧 ½ ①
"""
STRINGS = ["", " ", "a", " the sea", "the  sea\n\n  was ", "\tPip's 127 fishes!!", "Ünïcödé 你好 🦙👩‍👩‍👧", TEXT]
NAMED = {"bos_token": TokenSpec("<|bos|>"), "eos_token": TokenSpec("<|eos|>")}
SPM_GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "sentencepiece.json").read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def byte_level_json() -> str:
    """The tokenizer.json of a byte-level BPE tokenizer with 400 tokens, which begins texts with BOS."""
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=400,
        special_tokens=["<|bos|>", "<|eos|>", "<|user|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([TEXT], trainer)
    backend.post_processor = processors.TemplateProcessing(single=["<|bos|>", "$A"], special_tokens=[("<|bos|>", 0)])
    return backend.to_str()


def byte_level() -> FastTokenizer:
    """A byte-level BPE tokenizer."""
    return FastTokenizer(Tokenizer.from_str(byte_level_json()), TokenizerSettings(named=NAMED))


def spm_file(folder: Path, name: str = "as Llama") -> Path:
    """A tokenizer.model, trained by sentencepiece itself."""
    path = folder / "tokenizer.model"
    path.write_bytes(base64.b64decode(SPM_GOLDEN["models"][name]["model"]))
    return path


def sentencepiece(folder: Path, name: str = "as Llama") -> FastTokenizer:
    """A sentencepiece tokenizer, read from a tokenizer.model."""
    return from_tokenizer_model(spm_file(folder, name), TokenizerSettings())


def write_ir(folder: Path, tokenizer: FastTokenizer, chat_template: str | None = None) -> Path:
    """The OpenVINO models of a tokenizer."""
    models = tokenizer_models(
        json.loads(tokenizer.backend.to_str()),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
        chat_template=chat_template,
    )
    for model, name in zip(models, ("tokenizer", "detokenizer"), strict=True):
        ov.save_model(model, folder / f"openvino_{name}.xml")
    return folder


def ir(folder: Path, tokenizer: FastTokenizer, *, inferring: bool = False) -> IRTokenizer:
    """The same tokenizer, run by OpenVINO; by inference even where the bytes of tokens are known."""
    compiled = compile_tokenizer(write_ir(folder, tokenizer))
    if inferring:
        compiled.spelling = None
    return IRTokenizer(compiled, TokenizerSettings())


def write_json(folder: Path, **files: Any) -> Path:
    """JSON files in a folder: ``tokenizer_config={...}`` is tokenizer_config.json."""
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def edited(json_text: str, edit: Callable[[dict[str, Any]], None]) -> str:
    """A tokenizer.json with changes."""
    content = json.loads(json_text)
    edit(content)
    return json.dumps(content)


class Doubled:
    """A tokenizer with a decoder of its own, which tells its tokens by their texts alone."""

    vocab_size = 0
    bos_token_id = eos_token_id = None
    special_tokens: Mapping[str, str] = {}

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self.longest = 0

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        raise NotImplementedError

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        self.longest = max(self.longest, len(token_ids))
        return self._decode(token_ids)
