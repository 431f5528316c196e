"""The tokenizer that a GGUF file carries in its metadata, as llama.cpp reads it.

Two kinds are common: ``tokenizer.ggml.model`` gpt2 is byte-level BPE with merges, llama is a sentencepiece BPE model
with scores. How text is cut into words before BPE is not in the file: ``tokenizer.ggml.pre`` names the way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from ovgen.errors import TokenizerError
from ovgen.text.bpe_files import surround
from ovgen.text.fast import FastTokenizer
from ovgen.text.sentencepiece import from_sentencepiece
from ovgen.text.settings import TokenizerSettings, TokenSpec
from ovgen.text.spm_file import PieceType

__all__ = ["end_token_ids", "from_gguf"]

_NAMED = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
# Ends of a turn that files from before eot_token_id do not name; llama.cpp goes by these texts too.
_END_TEXTS = ("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>")

# In Phi-3's sentencepiece model every other marker takes the white space after it.
_NOT_STRIPPING = ("<unk>", "<s>", "<|endoftext|>")

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_MARKS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_MARKS_AND_SLASHES = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"


@dataclass(frozen=True, slots=True)
class _Splitting:
    """How a byte-level tokenizer treats text before BPE.

    Attributes:
        patterns: each cuts out its matches from what those before have left whole.
        nfc: characters are composed first.
        whole_words: a word that is a token is taken as that, whatever the merges make of it.
        adds_bos: BOS precedes a text unless the file says otherwise.
    """

    patterns: tuple[str, ...]
    nfc: bool = False
    whole_words: bool = False
    adds_bos: bool = False


def _cased_words(ending: str) -> str:
    """Words that are cut where lower case changes to upper case."""
    lead = r"[^\r\n\p{L}\p{N}]?"
    return f"{lead}{_UPPER}*{_LOWER}+{ending}|{lead}{_UPPER}+{_LOWER}*{ending}"


_LLAMA3 = (rf"{_CONTRACTION}|{_WORDS}|\p{{N}}{{1,3}}|{_MARKS}|{_SPACES}",)
_SPLITTINGS = {
    **dict.fromkeys(("gpt-2", "phi-2", "olmo"), _Splitting((_GPT2,))),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r"), _Splitting((r"\p{N}", _GPT2))),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3"), _Splitting(_LLAMA3, whole_words=True, adds_bos=True)
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe"), _Splitting(_LLAMA3)),
    **dict.fromkeys(
        ("qwen2", "deepseek-r1-qwen", "megrez"),
        _Splitting((rf"{_CONTRACTION}|{_WORDS}|\p{{N}}|{_MARKS}|{_SPACES}",), nfc=True),
    ),
    "tekken": _Splitting(
        (rf"{_cased_words('')}|\p{{N}}|{_MARKS_AND_SLASHES}|{_SPACES}",), whole_words=True, adds_bos=True
    ),
    "gpt-4o": _Splitting(
        (rf"{_cased_words(_CONTRACTION + '?')}|\p{{N}}{{1,3}}|{_MARKS_AND_SLASHES}|{_SPACES}",),
    ),
    "default": _Splitting((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")),
}
# What files of these architectures mean that are older than tokenizer.ggml.pre.
_OLDER = {"gpt2": "gpt-2", "qwen2": "qwen2"}


def from_gguf(metadata: Mapping[str, Any], source: str) -> FastTokenizer | None:
    """The tokenizer in a file's metadata; None if it has none.

    Args:
        metadata: by key; arrays are lists of str or numpy arrays of numbers.
        source: what error messages call the file.

    Raises:
        TokenizerError: it is damaged, or of a kind that is not supported.
    """
    keys = _Keys(metadata, source)
    kind = keys.text("model")
    if kind in (None, "none", "no_vocab"):
        return None
    if kind == "gpt2":
        return _byte_level(keys)
    if kind == "llama":
        return _sentencepiece(keys)
    raise keys.error("model", f"is {kind!r:.40}, and only gpt2 and llama are supported; give token ids")


def end_token_ids(metadata: Mapping[str, Any], source: str) -> list[int]:
    """The tokens that end a text or a turn: those that the metadata name, and control tokens known by their text.

    Raises:
        TokenizerError: an id is none of the vocabulary, or the vocabulary is damaged.
    """
    keys = _Keys(metadata, source)
    named = {keys.token_id(name) for name in _ENDS} - {None}
    if "tokenizer.ggml.tokens" in metadata:
        known = zip(keys.tokens, keys.types, strict=True)
        named |= {i for i, (text, its) in enumerate(known) if text in _END_TEXTS and its == PieceType.CONTROL}
    return sorted(i for i in named if i is not None)


class _Keys:
    """Typed access to ``tokenizer.ggml.…``."""

    def __init__(self, metadata: Mapping[str, Any], source: str) -> None:
        self.architecture = str(metadata.get("general.architecture"))
        self._metadata = metadata
        self._source = source

    def error(self, key: str, fault: str) -> TokenizerError:
        """The error to raise for a key."""
        return TokenizerError(f"{self._source}: tokenizer.ggml.{key} {fault}")

    def get(self, key: str) -> Any:
        """Whatever the key has; None where it is absent."""
        return self._metadata.get(f"tokenizer.ggml.{key}")

    def text(self, key: str) -> str | None:
        """A text; None where it is absent."""
        value = self.get(key)
        if not isinstance(value, (str, type(None))):
            raise self.error(key, f"must be a string, got {value!r:.40}")
        return value

    @property
    def tokens(self) -> list[str]:
        """The text of each token."""
        return self.strings("tokens")

    @property
    def types(self) -> list[int]:
        """The `PieceType` of each token."""
        return [int(its) if math.isfinite(its) else 0 for its in self.numbers("token_type", PieceType.NORMAL)]

    def strings(self, key: str) -> list[str]:
        """A list of texts."""
        value = self.get(key)
        if not isinstance(value, list) or not value:
            raise self.error(key, "must be an array of strings")
        return value

    def numbers(self, key: str, default: float | None = None) -> Sequence[float]:
        """A number for each token."""
        value, count = self.get(key), len(self.strings("tokens"))
        if value is None and default is not None:
            return [default] * count
        if value is None or isinstance(value, (str, int, float, list)) or len(value) != count:
            raise self.error(key, f"must have a number for each of {count} tokens")
        numbers: list[float] = value.tolist()
        return numbers

    def flag(self, key: str, default: bool) -> bool:
        """True or False."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, got {value!r:.40}")
        return value

    def token_id(self, key: str, default: int | None = None) -> int | None:
        """A token of the vocabulary."""
        value = self.get(key)
        if value is None:
            return default
        if type(value) is not int or ("tokens" in self and not 0 <= value < len(self.tokens)):
            raise self.error(key, f"must be a token of the vocabulary, got {value!r:.40}")
        return value

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None


def _byte_level(keys: _Keys) -> FastTokenizer:
    tokens, types = keys.tokens, keys.types
    splitting = _splitting(keys)
    merges = [_merge(keys, line) for line in keys.strings("merges")]
    vocab = {token: i for i, token in reversed(list(enumerate(tokens)))}  # of equals the first
    try:
        backend = Tokenizer(BPE(vocab=vocab, merges=merges, ignore_merges=splitting.whole_words))
    except Exception as error:  # `tokenizers` raises nothing more precise
        raise keys.error("merges", f"do not fit the tokens ({error}): convert the model anew") from error
    if splitting.nfc:
        backend.normalizer = normalizers.NFC()
    cuts = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in splitting.patterns]
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    return _finished(keys, backend, tokens, types, adds_bos=splitting.adds_bos, defaults={})


def _splitting(keys: _Keys) -> _Splitting:
    name = keys.text("pre") or _OLDER.get(keys.architecture)
    if name is None:
        raise keys.error("pre", "is missing, so how to split text is not known: convert the model anew")
    if name not in _SPLITTINGS:
        raise keys.error(
            "pre",
            f"is {name!r:.40}, a way to split text that is not known; there are {', '.join(_SPLITTINGS)}: "
            "convert the model from its Hugging Face folder, which has tokenizer.json",
        )
    return _SPLITTINGS[name]


def _merge(keys: _Keys, line: str) -> tuple[str, str]:
    at = line.find(" ", 1)  # a token may begin with a space
    if at < 0:
        raise keys.error("merges", f"must be pairs, got {line!r:.40}")
    return line[:at], line[at + 1 :]


def _sentencepiece(keys: _Keys) -> FastTokenizer:
    types = keys.types
    # Converters write the spaces of user-defined pieces in either way; they are looked for in the text as it is.
    tokens = [
        token.replace("▁", " ") if its == PieceType.USER_DEFINED else token
        for token, its in zip(keys.tokens, types, strict=True)
    ]
    # As in llama.cpp, text is split at these first and every part gets its space: they are left to `_finished`.
    # Sentencepiece would look for user-defined pieces after it has put one space before the whole text.
    whole = (PieceType.USER_DEFINED, PieceType.CONTROL)
    left_out = [PieceType.UNUSED if its in whole else its for its in types]
    prefix = keys.flag("add_space_prefix", True)
    try:
        backend = from_sentencepiece(tokens, keys.numbers("scores"), left_out, add_dummy_prefix=prefix)
    except Exception as error:  # `tokenizers` raises nothing more precise
        raise keys.error("tokens", f"are no sentencepiece model ({error}): convert the model anew") from error
    defaults = {name: i for name, i in {"bos_token": 1, "eos_token": 2, "unk_token": 0}.items() if i < len(tokens)}
    return _finished(keys, backend, tokens, types, adds_bos=True, defaults=defaults)


def _finished(
    keys: _Keys,
    backend: Tokenizer,
    tokens: Sequence[str],
    types: Sequence[int],
    *,
    adds_bos: bool,
    defaults: Mapping[str, int],
) -> FastTokenizer:
    """With the tokens that are recognised in text as a whole, and BOS and EOS around a text."""
    named_ids = {name: keys.token_id(key, defaults.get(name)) for name, key in _NAMED.items()}
    strips = keys.architecture == "phi3" and keys.get("model") == "llama"
    added = {
        i: TokenSpec(token, special=its == PieceType.CONTROL, rstrip=strips and token not in _NOT_STRIPPING)
        for i, (token, its) in enumerate(zip(tokens, types, strict=True))
        if its in (PieceType.CONTROL, PieceType.USER_DEFINED) and token
    }
    named = {name: added.get(i) or TokenSpec(tokens[i]) for name, i in named_ids.items() if i is not None}
    tokenizer = FastTokenizer(backend, TokenizerSettings(named=named, added=added))
    surround(tokenizer, add_bos=keys.flag("add_bos_token", adds_bos), add_eos=keys.flag("add_eos_token", False))
    return tokenizer
