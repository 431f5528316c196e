"""A tokenizer that the `tokenizers` package runs, and reading one from tokenizer.json.

Importing this module imports `tokenizers`, which is why nothing does so before a folder asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from ovgen.errors import RequestError, TokenizerError
from ovgen.text.settings import TokenizerSettings, TokenSpec
from ovgen.text.tokenizer import PieceTable

__all__ = ["FastTokenizer", "from_tokenizer_json"]


class FastTokenizer:
    """A `tokenizers.Tokenizer` with the names of its special tokens.

    Args:
        backend: the tokenizer; truncation and padding are switched off, and tokens that ``settings`` name and
            it does not know are added to it.
        settings: what its folder says beside.

    Attributes:
        backend: the tokenizer in use, for what this class does not offer.
        pieces: the bytes of each token; None for tokenizers whose text is more than those in a row.
    """

    def __init__(self, backend: Tokenizer, settings: TokenizerSettings) -> None:
        backend.no_truncation()
        backend.no_padding()
        _add_tokens(backend, settings)
        self.backend = backend
        self.pieces = _piece_table(backend)
        self._special_tokens = settings.special_tokens

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, added ones included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    @property
    def bos_token_id(self) -> int | None:
        """The token that begins a text, if there is one."""
        return self._id("bos_token")

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends a text, if there is one."""
        return self._id("eos_token")

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """``bos_token`` and the like -> the token's own text."""
        return self._special_tokens

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The tokens of ``text``.

        Raises:
            RequestError: ``text`` is not a string of valid Unicode.
        """
        try:
            return self.backend.encode(text, add_special_tokens=add_special_tokens).ids
        except (TypeError, UnicodeError) as error:
            raise RequestError(f"cannot tokenize {text!r:.80}: {error}") from error

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of some tokens.

        Byte tokens that are not UTF-8 become U+FFFD where they stand. (Hugging Face's decoder for sentencepiece
        gives up the whole run of byte tokens then, which would change text that has been streamed already.)

        Raises:
            RequestError: an id is negative.
        """
        if self.pieces is not None:
            return self.pieces.text(token_ids, skip_special_tokens=skip_special_tokens)
        try:
            return self.backend.decode(token_ids, skip_special_tokens=skip_special_tokens)
        except OverflowError as error:
            raise RequestError(f"token ids are 0 or more, got {min(token_ids)}") from error

    def _id(self, name: str) -> int | None:
        token = self._special_tokens.get(name)
        return None if token is None else self.backend.token_to_id(token)


def from_tokenizer_json(path: Path, settings: TokenizerSettings) -> FastTokenizer:
    """A tokenizer.json, taken at its word: its post-processor alone says which special tokens surround a text,
    whatever ``add_bos_token`` the configuration has. So Hugging Face's transformers 5 reads it.

    Raises:
        TokenizerError: the file is damaged.
    """
    try:
        backend = Tokenizer.from_file(str(path))
    except Exception as error:  # `tokenizers` raises nothing more precise
        raise TokenizerError(f"{path} is not a tokenizer that can be read ({error}): fetch it again") from error
    return FastTokenizer(backend, settings)


def _add_tokens(backend: Tokenizer, settings: TokenizerSettings) -> None:
    """Make every token that the settings name known; one that is known already keeps its id."""
    backend.add_tokens([_added_token(token) for _, token in sorted(settings.added.items())])
    known = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    special = [token for token in (*settings.named.values(), *settings.unnamed) if token is not None]
    backend.add_special_tokens([known.get(token.content) or _added_token(token) for token in special])


def _added_token(token: TokenSpec) -> AddedToken:
    return AddedToken(
        token.content,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=token.special,
    )


def _piece_table(backend: Tokenizer) -> PieceTable | None:
    """How tokens are spelt, if the tokenizer's decoder is one of the two common ones."""
    steps = _decoder_steps(backend)
    special = frozenset(i for i, token in backend.get_added_tokens_decoder().items() if token.special)
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return PieceTable(lambda i: _byte_level(backend.id_to_token(i)), special, strips_leading_space=False)
    metaspace = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    if kinds[:3] == ["Replace", "ByteFallback", "Fuse"] and steps[0] == metaspace and steps[3:] in ([], [strip]):
        return PieceTable(
            lambda i: _sentencepiece(backend.id_to_token(i)), special, strips_leading_space=bool(steps[3:])
        )
    return None


def _decoder_steps(backend: Tokenizer) -> list[dict[str, Any]]:
    if backend.decoder is None:
        return []
    decoder = json.loads(backend.decoder.__getstate__())
    steps: list[dict[str, Any]] = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    return steps


def _byte_alphabet() -> dict[str, int]:
    """The printable character that GPT-2's byte-level BPE writes for each byte -> that byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}


_BYTES = _byte_alphabet()


def _byte_level(token: str | None) -> bytes:
    if token is None:
        return b""
    try:
        return bytes([_BYTES[char] for char in token])
    except KeyError:  # an added token, written as it is
        return token.encode()


def _sentencepiece(token: str | None) -> bytes:
    if token is None:
        return b""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes.fromhex(token[3:5])
    return token.replace("▁", " ").encode()
