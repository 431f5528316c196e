"""Text from tokens as they come, one step at a time."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import Protocol

from ovgen.text.tokenizer import PieceTable, Tokenizer

__all__ = ["Detokenizer"]


class Detokenizer:
    """The text of one sequence of tokens, handed out as soon as later tokens cannot change it.

    What `push` returned so far never ends within a character, and with `flush` at the end it is exactly what the
    tokenizer's ``decode`` gives for all tokens at once. A token costs the same however many came before.

    Args:
        tokenizer: any tokenizer.
        skip_special_tokens: leave special tokens out of the text.
        exact: keep a space with which the text begins, where the tokenizer tells the bytes of its tokens.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = True, *, exact: bool = False) -> None:
        pieces: PieceTable | None = getattr(tokenizer, "pieces", None)
        self._stream: _Stream = (
            _WindowStream(tokenizer, skip_special_tokens)
            if pieces is None
            else _PieceStream(pieces, skip_special_tokens, strip=pieces.strips_leading_space and not exact)
        )

    def push(self, token_ids: Sequence[int]) -> str:
        """The text that these tokens complete; empty while a character is still incomplete.

        Raises:
            RequestError: an id is negative.
        """
        return self._stream.push(token_ids)

    def flush(self) -> str:
        """What has been held back; to be called once, after the last token.

        Raises:
            RequestError: an id is negative.
        """
        return self._stream.flush()


class _Stream(Protocol):
    def push(self, token_ids: Sequence[int]) -> str: ...

    def flush(self) -> str: ...


class _PieceStream:
    """For tokenizers that know the bytes of their tokens: those bytes through a UTF-8 decoder."""

    def __init__(self, pieces: PieceTable, skip_special_tokens: bool, *, strip: bool) -> None:
        self._pieces = pieces
        self._skip = skip_special_tokens
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._strip_next = strip

    def push(self, token_ids: Sequence[int]) -> str:
        data = self._pieces.join(token_ids, skip_special_tokens=self._skip)
        return self._strip(self._utf8.decode(data))

    def flush(self) -> str:
        return self._strip(self._utf8.decode(b"", final=True))

    def _strip(self, text: str) -> str:
        if self._strip_next and text:
            self._strip_next = False
            return text[1:] if text[0] == " " else text
        return text


# What later tokens may still change, at the end of a text. U+FFFD may be the first one to three bytes of a character.
# A space, alone or before the beginning of a contraction, may be cleaned up: decoders made for word pieces turn
# " ." into "." and " n't" into "n't".
_UNSETTLED = re.compile("(?:\ufffd{1,3}| (?:n'?|'[rv]?)?)$")


class _WindowStream:
    """For any other tokenizer: decodes the last few tokens again at each step and returns what has been added.

    Tokens before the new ones are decoded along, as what a token looks like depends on its place: the first word
    of a text has no space before it.
    """

    _LONG = 24  # tokens; beyond this the window is cut as soon as its text is settled
    _TOO_LONG = 4 * _LONG  # it is cut all the same: tokens without text, or bytes that are no text, go on and on

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._window: list[int] = []
        self._done = 0  # characters of the window's text that have been returned

    def push(self, token_ids: Sequence[int]) -> str:
        self._window.extend(token_ids)
        text = self._decode(self._window)
        unsettled = _UNSETTLED.search(text)
        end = unsettled.start() if unsettled else len(text)
        new = text[self._done : end]
        self._done = max(self._done, end)
        if len(self._window) > self._LONG:
            self._cut(text[self._done :])
        return new

    def flush(self) -> str:
        return self._decode(self._window)[self._done :]

    def _cut(self, held: str) -> None:
        """Drop tokens from the front; ``held`` is the text of the window that has not been returned."""
        if not held:
            for length in (self._LONG // 3, self._LONG // 2):
                text = self._decode(self._window[-length:])
                # Without text the next token would be the first of a text, and lose its space.
                if text and not _UNSETTLED.search(text):
                    self._window, self._done = self._window[-length:], len(text)
                    return
        if len(self._window) > self._TOO_LONG:
            # Twice, as a space alone may vanish from the start of a text but not from within.
            with_text = [token for token in self._window if self._decode([token, token])]
            self._window = with_text[-self._LONG :]
            self._done = max(0, len(self._decode(self._window)) - len(held))

    def _decode(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=self._skip)
