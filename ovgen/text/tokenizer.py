"""What every tokenizer offers, whatever file it was read from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ovgen.errors import RequestError

__all__ = ["PieceTable", "Tokenizer"]


class Tokenizer(Protocol):
    """Text to token ids and back.

    One that has an attribute ``pieces``, a `PieceTable`, is detokenized by that.
    """

    @property
    def vocab_size(self) -> int:
        """How many tokens it knows, those added to the model's own vocabulary included."""

    @property
    def bos_token_id(self) -> int | None:
        """The token that begins a text, if there is one."""

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends a text, if there is one."""

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """``bos_token``, ``eos_token``, ``unk_token``, ``pad_token`` and the like -> the token's own text, which
        is what a chat template wants."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The tokens of ``text``. Special tokens written out in the text are recognised in either case.

        Args:
            text: what to encode.
            add_special_tokens: put the tokens around it with which the model was trained (BOS, mostly).

        Raises:
            RequestError: ``text`` is not a string of valid Unicode.
        """

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of some tokens. Ids beyond the vocabulary stand for nothing, bytes that are not UTF-8 for
        U+FFFD.

        Args:
            token_ids: what to decode.
            skip_special_tokens: leave special tokens (BOS, EOS, the markers of a chat) out of the text.

        Raises:
            RequestError: an id is negative, or special tokens cannot be shown by this tokenizer.
        """


class PieceTable:
    """The bytes that each token stands for, of a tokenizer whose text is nothing but those bytes in a row.

    This is so for byte-level BPE and for sentencepiece. Decoding token by token is then a look-up each,
    and a UTF-8 decoder knows by itself when a character is complete.
    """

    def __init__(
        self, spell: Callable[[int], bytes], special_ids: frozenset[int], *, strips_leading_space: bool
    ) -> None:
        self.spell = spell
        """The bytes of one token; none for an id beyond the vocabulary."""
        self.special_ids = special_ids
        """Special tokens, whose bytes are no part of a text unless they are asked for."""
        self._bytes: dict[int, bytes] = {}  # filled as tokens occur: a whole vocabulary takes 0.1 s to spell
        self.strips_leading_space = strips_leading_space
        """Whether a text that begins with a space loses that one (sentencepiece puts it there)."""

    def join(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> bytes:
        """The bytes of some tokens in a row, the leading space included.

        Raises:
            RequestError: an id is negative.
        """
        known = self._bytes
        skipped = self.special_ids if skip_special_tokens else ()
        return b"".join([known[i] if i in known else self._look_up(i) for i in token_ids if i not in skipped])

    def text(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """The text of some tokens.

        Raises:
            RequestError: an id is negative.
        """
        text = self.join(token_ids, skip_special_tokens=skip_special_tokens).decode("utf-8", "replace")
        return text[1:] if self.strips_leading_space and text.startswith(" ") else text

    def _look_up(self, token_id: int) -> bytes:
        if token_id < 0:
            raise RequestError(f"token ids are 0 or more, got {token_id}")
        piece = self._bytes[token_id] = self.spell(token_id)
        return piece
