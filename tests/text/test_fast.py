"""Tokenizers from tokenizer.json."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders

from ovgen.errors import RequestError, TokenizerError
from ovgen.text.fast import FastTokenizer, from_tokenizer_json
from ovgen.text.settings import TokenizerSettings, TokenSpec, read_settings
from tests.text import toys

BYTE_LEVEL = toys.byte_level()


def load(folder: Path, tokenizer_json: str = "", **files: Any) -> FastTokenizer:
    (folder / "tokenizer.json").write_text(tokenizer_json or toys.byte_level_json(), encoding="utf-8")
    return from_tokenizer_json(folder / "tokenizer.json", read_settings(toys.write_json(folder, **files)))


@given(st.text())
def test_round_trip(text: str) -> None:
    assert BYTE_LEVEL.decode(BYTE_LEVEL.encode(text)) == text


@given(st.lists(st.integers(0, 420)), st.booleans())
def test_decoding_is_that_of_the_tokenizers_package(ids: list[int], skip: bool) -> None:
    expected = BYTE_LEVEL.backend.decode(ids, skip_special_tokens=skip)
    assert BYTE_LEVEL.decode(ids, skip_special_tokens=skip) == expected


def test_special_tokens_are_added_and_skipped_on_demand() -> None:
    bare = BYTE_LEVEL.encode("the sea", add_special_tokens=False)
    assert BYTE_LEVEL.encode("the sea") == [0, *bare]
    assert BYTE_LEVEL.decode([0, *bare, 1]) == "the sea"
    assert BYTE_LEVEL.decode([0, *bare, 1], skip_special_tokens=False) == "<|bos|>the sea<|eos|>"


def test_special_tokens_in_the_text_are_recognised() -> None:
    assert BYTE_LEVEL.encode("<|user|>a<|eos|>", add_special_tokens=False)[::2] == [2, 1]


def test_names_and_numbers() -> None:
    assert BYTE_LEVEL.vocab_size == 400
    assert (BYTE_LEVEL.bos_token_id, BYTE_LEVEL.eos_token_id) == (0, 1)
    assert BYTE_LEVEL.special_tokens == {"bos_token": "<|bos|>", "eos_token": "<|eos|>"}


def test_without_settings_there_is_no_bos(tmp_path: Path) -> None:
    tokenizer = load(tmp_path)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.special_tokens) == (None, None, {})


def test_the_post_processor_outranks_add_bos_token(tmp_path: Path) -> None:
    config = {"add_bos_token": False, "add_eos_token": True, "eos_token": "<|eos|>"}
    assert load(tmp_path, tokenizer_config=config).encode("a")[0] == 0
    assert load(tmp_path, tokenizer_config=config).encode("a")[-1] != 1


def test_a_named_token_becomes_special_or_is_added(tmp_path: Path) -> None:
    config = {"bos_token": "ing", "pad_token": {"content": "<|pad|>", "lstrip": False}, "unk_token": None}
    tokenizer = load(tmp_path, tokenizer_config=config)
    assert tokenizer.special_tokens == {"bos_token": "ing", "pad_token": "<|pad|>"}
    assert tokenizer.vocab_size == 401
    assert tokenizer.bos_token_id == tokenizer.backend.token_to_id("ing")
    ids = tokenizer.encode("a<|pad|>b", add_special_tokens=False)
    assert ids[1] == 400
    assert tokenizer.decode(ids) == "ab"


def test_added_tokens_of_the_settings(tmp_path: Path) -> None:
    decoder = {"400": {"content": "<x>", "rstrip": True, "special": False}, "401": {"content": "<y>", "special": True}}
    tokenizer = load(tmp_path, tokenizer_config={"added_tokens_decoder": decoder})
    ids = tokenizer.encode("<x>   a<y>", add_special_tokens=False)
    assert (ids[0], ids[-1], len(ids)) == (400, 401, 3)
    assert tokenizer.decode(ids) == "<x>a"


def test_tokens_of_older_folders(tmp_path: Path) -> None:
    special = {"eos_token": {"content": "<|eos|>"}, "additional_special_tokens": ["<y>"]}
    tokenizer = load(tmp_path, special_tokens_map=special, added_tokens={"<x>": 400, "<y>": 401})
    assert tokenizer.eos_token_id == 1
    ids = tokenizer.encode("<x>a<y>", add_special_tokens=False)
    assert (ids[0], ids[-1]) == (400, 401)
    assert tokenizer.decode(ids) == "<x>a"


def test_older_files_are_out_of_date_beside_added_tokens_decoder(tmp_path: Path) -> None:
    new = {"eos_token": "<|eos|>", "added_tokens_decoder": {}}
    tokenizer = load(tmp_path, tokenizer_config=new, special_tokens_map={"eos_token": "<|bos|>"})
    assert tokenizer.eos_token_id == 1


def test_truncation_and_padding_are_switched_off(tmp_path: Path) -> None:
    backend = Tokenizer.from_str(toys.byte_level_json())
    backend.enable_truncation(2)
    backend.enable_padding(length=50)
    tokenizer = load(tmp_path, backend.to_str())
    assert tokenizer.encode(toys.TEXT) == BYTE_LEVEL.encode(toys.TEXT)


def test_ids_beyond_the_vocabulary_stand_for_nothing() -> None:
    ids = BYTE_LEVEL.encode("sea", add_special_tokens=False)
    assert BYTE_LEVEL.decode([400, *ids, 10**9]) == "sea"


@pytest.mark.parametrize("own_decoder", [True, False])
def test_a_negative_id_is_an_error(own_decoder: bool) -> None:
    backend = Tokenizer.from_str(toys.byte_level_json())
    if not own_decoder:
        backend.decoder = decoders.WordPiece()
    tokenizer = FastTokenizer(backend, TokenizerSettings())
    assert (tokenizer.pieces is not None) is own_decoder
    with pytest.raises(RequestError, match="got -7"):
        tokenizer.decode([5, -7])


def test_text_that_is_not_unicode_is_an_error() -> None:
    for text in ("\ud800", b"bytes", None):
        with pytest.raises(RequestError, match="cannot tokenize"):
            BYTE_LEVEL.encode(text)  # type: ignore[arg-type]


def test_an_added_token_outside_the_byte_alphabet_is_spelt_as_it_is() -> None:
    backend = Tokenizer.from_str(toys.byte_level_json())
    tokenizer = FastTokenizer(backend, TokenizerSettings(unnamed=(TokenSpec("<|end▁of|>"),)))
    assert tokenizer.decode([400], skip_special_tokens=False) == "<|end▁of|>"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": {}}', toys.byte_level_json()[:-900]])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is not a tokenizer .*fetch it again"):
        from_tokenizer_json(tmp_path / "tokenizer.json", TokenizerSettings())


def test_the_description_is_the_one_that_was_read(tmp_path: Path) -> None:
    assert json.loads(load(tmp_path).backend.to_str()) == json.loads(toys.byte_level_json())
