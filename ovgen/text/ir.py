"""A tokenizer that is an OpenVINO model: openvino_tokenizer.xml and openvino_detokenizer.xml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ovgen.errors import RequestError
from ovgen.text.settings import TokenizerSettings
from ovgen.text.tokenizer import PieceTable

__all__ = ["CompiledTokenizer", "IRTokenizer", "Spelling"]


class Spelling(Protocol):
    """The bytes of each token, where a text is nothing but those in a row."""

    @property
    def special_ids(self) -> frozenset[int]:
        """Special tokens."""

    @property
    def strips_leading_space(self) -> bool:
        """Whether a text that begins with a space loses that one."""

    def spell(self, token_id: int) -> bytes:
        """The bytes of a token; none for an id beyond the vocabulary."""


class CompiledTokenizer(Protocol):
    """What compiling the two models must give; ``ovgen.runtime.tokenizer_ir.compile_tokenizer`` does."""

    @property
    def vocab_size(self) -> int:
        """How many tokens the detokenizer knows."""

    @property
    def bos_token_id(self) -> int | None:
        """As the models' metadata have it."""

    @property
    def eos_token_id(self) -> int | None:
        """As the models' metadata have it."""

    @property
    def spelling(self) -> Spelling | None:
        """The bytes of each token; None where only decoding tells."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """The tokens of ``text``."""

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool) -> str:
        """The text of some tokens, all of them within the vocabulary.

        Raises:
            RequestError: special tokens are to be shown, and the model always leaves them out.
        """


class IRTokenizer:
    """A compiled pair of models with the names of their special tokens.

    Args:
        compiled: the models.
        settings: what their folder says beside; BOS and EOS come from the models where it says nothing.

    Attributes:
        pieces: the bytes of each token, if the models tell them: decoding takes no inference then.
    """

    def __init__(self, compiled: CompiledTokenizer, settings: TokenizerSettings) -> None:
        self._compiled = compiled
        self.pieces = None if compiled.spelling is None else _piece_table(compiled.spelling)
        self._special_tokens = settings.special_tokens
        self._ids = {"bos_token": compiled.bos_token_id, "eos_token": compiled.eos_token_id}
        for name, token_id in self._ids.items():
            if name in settings.named:
                text = self._special_tokens.get(name)
                found = [i for i, token in settings.added.items() if token.content == text]
                self._ids[name] = found[0] if found else token_id
            elif token_id is not None and (text := self._text(token_id)):
                self._special_tokens[name] = text

    @property
    def vocab_size(self) -> int:
        """How many tokens there are."""
        return self._compiled.vocab_size

    @property
    def bos_token_id(self) -> int | None:
        """The token that begins a text, if there is one."""
        return self._ids["bos_token"]

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends a text, if there is one."""
        return self._ids["eos_token"]

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
            text.encode()
        except (AttributeError, UnicodeError) as error:
            raise RequestError(f"cannot tokenize {text!r:.80}: {error}") from error
        return self._compiled.encode(text, add_special_tokens)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of some tokens.

        Raises:
            RequestError: an id is negative, or special tokens are to be shown, which the model cannot.
        """
        if self.pieces is not None:
            return self.pieces.text(token_ids, skip_special_tokens=skip_special_tokens)
        if any(i < 0 for i in token_ids):
            raise RequestError(f"token ids are 0 or more, got {min(token_ids)}")
        known = [i for i in token_ids if i < self._compiled.vocab_size]
        return self._compiled.decode(known, skip_special_tokens) if known else ""

    def _text(self, token_id: int) -> str:
        """A special token as text; empty if the detokenizer always leaves those out."""
        try:
            return self.decode([token_id], skip_special_tokens=False)
        except RequestError:
            return ""


def _piece_table(spelling: Spelling) -> PieceTable:
    return PieceTable(spelling.spell, spelling.special_ids, strips_leading_space=spelling.strips_leading_space)
