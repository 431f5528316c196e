"""Tokenizers that are OpenVINO models, but for running them: see tests/runtime/test_tokenizer_ir.py."""

from collections.abc import Sequence

import pytest

from ovgen.errors import RequestError
from ovgen.text.ir import IRTokenizer
from ovgen.text.settings import TokenizerSettings, TokenSpec


class Compiled:
    """Knows ten tokens, the digits."""

    vocab_size = 10
    bos_token_id: int | None = 1
    eos_token_id: int | None = 2
    shows_special_tokens = True
    spelling: "Spelling | None" = None

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [1] * add_special_tokens + [int(char) for char in text]

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool) -> str:
        if not (skip_special_tokens or self.shows_special_tokens):
            raise RequestError("not shown")
        assert max(token_ids) < self.vocab_size
        return "".join(str(i) for i in token_ids if not (skip_special_tokens and i in (1, 2)))


class Spelling:
    """Tokens are digits after a space, but that 8 and 9 are the two bytes of é."""

    special_ids = frozenset({1, 2})
    strips_leading_space = True

    def spell(self, token_id: int) -> bytes:
        if token_id > 9:
            return b""
        return bytes(["é".encode()[token_id - 8]]) if token_id > 7 else f" {token_id}".encode()


def test_it_passes_everything_on() -> None:
    tokenizer = IRTokenizer(Compiled(), TokenizerSettings())
    assert tokenizer.encode("34") == [1, 3, 4]
    assert tokenizer.encode("34", add_special_tokens=False) == [3, 4]
    assert tokenizer.decode([1, 3, 4, 2]) == "34"
    assert tokenizer.decode([1, 3, 4, 2], skip_special_tokens=False) == "1342"
    assert tokenizer.vocab_size == 10


def test_bos_and_eos_come_from_the_models() -> None:
    tokenizer = IRTokenizer(Compiled(), TokenizerSettings())
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert tokenizer.special_tokens == {"bos_token": "1", "eos_token": "2"}


def test_bos_and_eos_of_the_folder_come_first() -> None:
    settings = TokenizerSettings(
        named={"bos_token": TokenSpec("<s>"), "eos_token": TokenSpec("<|end|>"), "pad_token": TokenSpec("<pad>")},
        added={7: TokenSpec("<|end|>")},
    )
    tokenizer = IRTokenizer(Compiled(), settings)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 7)
    assert tokenizer.special_tokens == {"bos_token": "<s>", "eos_token": "<|end|>", "pad_token": "<pad>"}


def test_models_may_name_no_tokens() -> None:
    compiled = Compiled()
    compiled.bos_token_id = compiled.eos_token_id = None
    tokenizer = IRTokenizer(compiled, TokenizerSettings())
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.special_tokens) == (None, None, {})


def test_models_may_hide_special_tokens() -> None:
    compiled = Compiled()
    compiled.shows_special_tokens = False
    assert IRTokenizer(compiled, TokenizerSettings()).special_tokens == {}


def test_ids_beyond_the_vocabulary_stand_for_nothing() -> None:
    tokenizer = IRTokenizer(Compiled(), TokenizerSettings())
    assert tokenizer.decode([10, 3, 10**9]) == "3"
    assert tokenizer.decode([10]) == ""
    assert tokenizer.decode([]) == ""


def test_what_is_wrong_is_told() -> None:
    tokenizer = IRTokenizer(Compiled(), TokenizerSettings())
    with pytest.raises(RequestError, match="got -3"):
        tokenizer.decode([5, -3])
    for text in ("\ud800", None):
        with pytest.raises(RequestError, match="cannot tokenize"):
            tokenizer.encode(text)  # type: ignore[arg-type]


def test_where_the_bytes_of_tokens_are_known_nothing_is_inferred() -> None:
    compiled = Compiled()
    compiled.spelling = Spelling()
    compiled.decode = None  # type: ignore[method-assign, assignment]
    tokenizer = IRTokenizer(compiled, TokenizerSettings())
    assert tokenizer.special_tokens == {"bos_token": "1", "eos_token": "2"}
    assert tokenizer.decode([1, 3, 4, 8, 9, 2, 10]) == "3 4é"
    assert tokenizer.decode([1, 3, 8], skip_special_tokens=False) == "1 3\ufffd"
    with pytest.raises(RequestError, match="got -3"):
        tokenizer.decode([5, -3])
