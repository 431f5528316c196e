"""Text that has to have a form: JSON, a regular expression, a grammar.

`llguidance` follows the grammar and says which tokens may come next; it is imported when a request asks for this.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from itertools import takewhile
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ovgen.config import StructuredOutputs
from ovgen.errors import GenerationError, RequestError
from ovgen.text.tokenizer import PieceTable, Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

__all__ = ["Constraints", "GrammarConstraint", "check_structure"]

_KEPT = 32  # compiled grammars

# Places in a grammar at which a text may be, four for each optional property. With so many, a token takes 0.1 s.
_MOST_ITEMS = 10_000

# White space in JSON has an end here, as a model may get lost in it. llama.cpp's grammars have nearly the same.
_WHITE_SPACE = r" |\r?\n[ \t]{0,40}"

# Why a text cannot go on, if it is because it is complete.
_COMPLETE = ("NoExtension", "EndOfSentence")

# byte -> the most that eight logits may be, the lowest bit first: minus infinity for a bit that is not set.
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")  # (256, 8)
_CEILINGS = np.where(_BITS == 1, np.float32(np.inf), np.float32(-np.inf))  # (256, 8) float32


class Constraints:
    """Makes the constraints of a model's requests.

    The vocabulary is read when it is first needed, which takes 0.2 s for 50,000 tokens and 1 s for 150,000.
    The grammars used last are kept compiled. Calls from several threads take turns.

    Args:
        tokenizer: the model's; None if there is none.
        vocab_size: how many logits the model gives; tokens that the tokenizer does not know are never allowed.
        eos_token_ids: the model's end-of-sequence tokens.
    """

    def __init__(self, tokenizer: Tokenizer | None, vocab_size: int, eos_token_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._eos_token_ids = frozenset(i for i in eos_token_ids if i < vocab_size)
        self._lock = Lock()
        self._compiled: dict[tuple[str, str, frozenset[int]], GrammarConstraint] = {}  # the one used last is last

    def constraint(self, wanted: StructuredOutputs, *, ignore_eos: bool = False) -> GrammarConstraint:
        """One that is at the beginning of a text.

        Args:
            wanted: what the text has to be.
            ignore_eos: no end-of-sequence token may come.

        Raises:
            RequestError: `llguidance` is missing, the bytes of tokens are not known, or the form cannot be used.
        """
        key = (wanted.kind, _grammar(wanted), frozenset() if ignore_eos else self._eos_token_ids)
        with self._lock:
            start = self._compiled.pop(key, None) or self._compile(*key)
            self._compiled[key] = start
            if len(self._compiled) > _KEPT:
                del self._compiled[next(iter(self._compiled))]
        return start.fork()

    def _compile(self, kind: str, grammar: str, ends: frozenset[int]) -> GrammarConstraint:
        vocabulary = self._vocabulary
        matcher = _matcher(vocabulary, kind, grammar)
        start = GrammarConstraint(matcher, self._vocab_size, vocabulary.eos_token, ends)
        start.prepare()  # which is the same for all texts
        return start

    @cached_property
    def _vocabulary(self) -> LLTokenizer:
        from llguidance import LLTokenizer, TokenizerWrapper

        tokenizer = self._tokenizer
        pieces: PieceTable | None = getattr(tokenizer, "pieces", None)
        if tokenizer is None or pieces is None:
            lacks = "no tokenizer" if tokenizer is None else "a tokenizer that does not tell the bytes of its tokens"
            raise RequestError(
                f"structured_outputs: the model has {lacks}; byte-level BPE and sentencepiece tokenizers can be used"
            )
        return LLTokenizer(TokenizerWrapper(_Vocabulary(tokenizer, pieces, self._vocab_size, self._eos_token_ids)))


class GrammarConstraint:
    """A `Constraint` by a compiled grammar.

    Args:
        matcher: follows the text; it knows the model's tokens and then some of its own.
        vocab_size: how many logits the model gives.
        end: the matcher's token for the end of a text.
        ends: the model's tokens for that.
    """

    def __init__(self, matcher: LLMatcher, vocab_size: int, end: int, ends: frozenset[int]) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._end = end
        self._ends = ends
        self._ceiling: NDArray[np.float32] | None = None  # (vocab,): never written to, as forks share it
        self._fault = ""

    @property
    def complete(self) -> bool:
        """Whether nothing may come but the end."""
        return self._matcher.stop_reason() in _COMPLETE

    def prepare(self) -> None:
        """Find out which tokens may come next."""
        if self._ceiling is not None:
            return
        matcher = self._matcher
        mask = np.frombuffer(matcher.compute_bitmask(), np.uint8)  # a bit for each token
        ceiling: NDArray[np.float32] = np.take(_CEILINGS, mask, axis=0).reshape(-1)
        ceiling[list(self._ends)] = ceiling[self._end]
        self._ceiling = ceiling[: self._vocab_size]
        if self.complete and not self._ends:
            self._fault = "it is complete, and there is no end-of-sequence token to say so"
        elif self._ceiling.max() < 0 or (matcher.is_stopped() and not self.complete):
            self._fault = _reason(matcher, "no token of the model goes on with it")

    def apply(self, logits: NDArray[np.float32]) -> None:
        """Set the logits ``(vocab,)`` float32 of tokens that may not come to minus infinity.

        Raises:
            GenerationError: there is no token that may come next.
        """
        self.prepare()
        if self._fault:
            raise GenerationError(f"structured_outputs: the text cannot go on: {self._fault}")
        assert self._ceiling is not None
        np.minimum(logits, self._ceiling, out=logits)  # a tenth of the time that a boolean mask takes

    def append(self, token_id: int) -> None:
        """Go on by a token."""
        self._matcher.consume_token(self._end if token_id in self._ends else token_id)
        self._ceiling = None

    def forced(self) -> Sequence[int]:
        """Tokens that must come next, as the tokenizer would spell the text that they make."""
        return list(takewhile(lambda token_id: token_id < self._vocab_size, self._matcher.compute_ff_tokens()))

    def fork(self) -> GrammarConstraint:
        """One that goes on from here on its own."""
        twin = GrammarConstraint(self._matcher.deep_copy(), self._vocab_size, self._end, self._ends)
        twin._ceiling, twin._fault = self._ceiling, self._fault
        return twin


class _Vocabulary:
    """A tokenizer as `TokenizerWrapper` wants it, with tokens of its own after the model's.

    There is one for each byte that no other token is, so that every text can be spelt, and the last one, which
    llguidance adds, ends a text: the model may have several tokens for that, or none.
    """

    bos_token_id = eos_token_id = None

    # Before a text, it takes the space that sentencepiece would put before the first word.
    _MARK = "\x02"

    def __init__(self, tokenizer: Tokenizer, pieces: PieceTable, size: int, eos_token_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._size = size
        self._before = self._MARK if pieces.strips_leading_space else ""
        self._skipped = len(tokenizer.encode(self._before, add_special_tokens=False))
        self._special = pieces.special_ids | eos_token_ids
        self.special_token_ids = sorted(self._special)
        self.tokens = [pieces.spell(token_id) for token_id in range(size)]
        there = {piece for i, piece in enumerate(self.tokens) if len(piece) == 1 and i not in self._special}
        self.tokens += {bytes([byte]) for byte in range(255)} - there  # 255 marks special tokens, and is no UTF-8

    def __call__(self, text: str) -> list[int]:
        """The tokens of a text that must come. Their bytes have to be exactly those of the text."""
        ids = self._tokenizer.encode(self._before + text, add_special_tokens=False)[self._skipped :]
        ordinary = all(i < self._size and i not in self._special for i in ids)
        if ordinary and b"".join(self.tokens[i] for i in ids) == text.encode():
            return ids
        return self._longest(text.encode())  # text that is normalised, or written like a special token

    def _longest(self, text: bytes) -> list[int]:
        """The longest token at each place."""
        ids = []
        while text:
            sizes = range(min(len(text), self._length), 0, -1)
            size = next(size for size in sizes if text[:size] in self._by_bytes)
            ids.append(self._by_bytes[text[:size]])
            text = text[size:]
        return ids

    @cached_property
    def _by_bytes(self) -> dict[bytes, int]:
        return {piece: i for i, piece in enumerate(self.tokens) if i not in self._special}

    @cached_property
    def _length(self) -> int:
        return max(map(len, self._by_bytes))


def check_structure(wanted: StructuredOutputs) -> None:
    """Find errors before there is a model. A grammar that may name tokens (``<[5]>``, ``<|end|>``) waits for it.

    Raises:
        RequestError: `llguidance` is missing, or the form cannot be used; the message has its reason.
    """
    grammar = _grammar(wanted)
    if "<" in (wanted.grammar or ""):
        return
    from llguidance import LLTokenizer

    _matcher(LLTokenizer("byte"), wanted.kind, grammar)


def _grammar(wanted: StructuredOutputs) -> str:
    """What `LLMatcher` takes."""
    try:
        from llguidance import LLMatcher, grammar_from, regex_to_lark
    except ImportError as error:
        hint = "pip install 'ovgen[structured]', or '.[structured]' in a clone"
        raise RequestError(f"structured_outputs takes llguidance ({error}): {hint}") from error
    try:
        if wanted.json is not None:
            return LLMatcher.grammar_from_json_schema(wanted.schema(), {"whitespace_pattern": _WHITE_SPACE})
        if wanted.json_object:
            return LLMatcher.grammar_from_json_schema('{"type": "object"}', {"whitespace_pattern": _WHITE_SPACE})
        if wanted.regex is not None:
            if (len(wanted.regex) - len(wanted.regex.rstrip("\\"))) % 2:
                raise ValueError("it ends with a backslash")  # which llguidance drops without a word
            return LLMatcher.grammar_from_lark(f"start: /{regex_to_lark(wanted.regex, 'd')}/")
        if wanted.choice:  # one terminal: as rules, each would be followed by itself
            return LLMatcher.grammar_from_lark("start: ONE\nONE: " + " | ".join(map(json.dumps, wanted.choice)))
        assert wanted.grammar is not None
        return grammar_from("grammar", wanted.grammar)  # of either notation
    except ValueError as error:
        raise _unusable(wanted.kind, str(error)) from error


def _matcher(vocabulary: LLTokenizer, kind: str, grammar: str) -> LLMatcher:
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(max_items_in_row=_MOST_ITEMS, verbose_errors=False)
    matcher = LLMatcher(vocabulary, grammar, log_level=0, limits=limits)
    mask = np.frombuffer(matcher.compute_bitmask(), np.uint8)  # which finds out whether there is any text of the form
    if matcher.is_stopped() and matcher.stop_reason() not in _COMPLETE:
        raise _unusable(kind, _reason(matcher, "no text is of this form"))
    step = matcher.deep_copy()  # most grammars that are too large are so after the first token
    step.try_consume_tokens(np.flatnonzero(np.unpackbits(mask, bitorder="little"))[:1].tolist())
    step.compute_bitmask()
    if reason := _reason(step, ""):  # but none if that token leads nowhere, as others may
        raise _unusable(kind, reason)
    return matcher


def _reason(matcher: LLMatcher, otherwise: str) -> str:
    """Why a matcher has stopped, or that there is no token, which it calls by no better name."""
    reason = matcher.get_error().removesuffix("<non-verbose/>").strip()
    return otherwise if reason in ("", "NoExtensionBias") else reason


def _unusable(kind: str, reason: str) -> RequestError:
    return RequestError(f"structured_outputs: this {kind} cannot be used: {reason.strip():.1000}")
