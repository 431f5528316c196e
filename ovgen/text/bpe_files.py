"""Folders with vocab.json and merges.txt, as GPT-2's and Qwen2's were published, and no tokenizer.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from ovgen.errors import TokenizerError
from ovgen.text.fast import FastTokenizer
from ovgen.text.settings import TokenizerSettings, TokenSpec

__all__ = ["CLASSES", "from_vocab_and_merges", "surround"]

# Qwen2's own: contractions, words with one leading mark, single digits, punctuation, line breaks, spaces.
_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_END_OF_TEXT = TokenSpec("<|endoftext|>")


def from_vocab_and_merges(folder: Path, settings: TokenizerSettings) -> FastTokenizer:
    """Build a byte-level BPE tokenizer; how it splits text into words follows from its class.

    Raises:
        TokenizerError: a file is damaged, or the class is not known.
    """
    name = settings.tokenizer_class
    if name is None or name not in CLASSES:
        raise TokenizerError(
            f"{folder} has vocab.json and merges.txt but no tokenizer.json, and the tokenizer_class in its "
            f"tokenizer_config.json is {name}; only {' and '.join(CLASSES)} can be built from these two files: "
            "load the tokenizer with transformers and save it, which writes tokenizer.json"
        )
    split, defaults = CLASSES[name]
    settings = replace(settings, named={**dict.fromkeys(defaults, _END_OF_TEXT), **settings.named})
    try:
        backend = Tokenizer(BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    except Exception as error:  # `tokenizers` raises nothing more precise
        raise TokenizerError(
            f"{folder / 'vocab.json'} and merges.txt beside it cannot be read ({error}): fetch them again"
        ) from error
    split(backend, settings.add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    tokenizer = FastTokenizer(backend, settings)
    surround(tokenizer, add_bos=bool(settings.add_bos_token), add_eos=bool(settings.add_eos_token))
    return tokenizer


def surround(tokenizer: FastTokenizer, *, add_bos: bool, add_eos: bool) -> None:
    """Let a tokenizer put BOS before and EOS after each text, of those that it has."""
    special = tokenizer.special_tokens
    before = [special["bos_token"]] if add_bos and "bos_token" in special else []
    after = [special["eos_token"]] if add_eos and "eos_token" in special else []
    tokenizer.backend.post_processor = processors.TemplateProcessing(
        single=[*before, "$A", *after],
        special_tokens=[(token, tokenizer.backend.token_to_id(token)) for token in {*before, *after}],
    )


def _split_as_gpt2(backend: Tokenizer, add_prefix_space: bool) -> None:
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)


def _split_as_qwen2(backend: Tokenizer, add_prefix_space: bool) -> None:
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=False),
        ]
    )


CLASSES: Mapping[str, tuple[Callable[[Tokenizer, bool], None], tuple[str, ...]]] = {
    "GPT2Tokenizer": (_split_as_gpt2, ("bos_token", "eos_token", "unk_token")),
    "Qwen2Tokenizer": (_split_as_qwen2, ("eos_token", "unk_token", "pad_token")),
}
"""Class of tokenizer -> how it splits text, and its special tokens that are ``<|endoftext|>`` unless said otherwise."""
