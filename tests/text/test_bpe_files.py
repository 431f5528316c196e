"""Tokenizers from vocab.json and merges.txt."""

import json
from pathlib import Path

import pytest

from ovgen.errors import TokenizerError
from ovgen.text.bpe_files import from_vocab_and_merges
from ovgen.text.fast import FastTokenizer
from ovgen.text.settings import TokenizerSettings, TokenSpec
from tests.text import toys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Vocabulary and merges of the toy tokenizer."""
    model = json.loads(toys.byte_level_json())["model"]
    toys.write_json(tmp_path, vocab=model["vocab"])
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    return tmp_path


def words(tokenizer: FastTokenizer, text: str) -> list[str]:
    """How the text is split before anything is merged."""
    assert tokenizer.backend.pre_tokenizer is not None
    return [word for word, _ in tokenizer.backend.pre_tokenizer.pre_tokenize_str(text)]


def test_gpt2_is_the_tokenizer_that_the_files_were_made_from(folder: Path) -> None:
    tokenizer = from_vocab_and_merges(folder, TokenizerSettings("GPT2Tokenizer"))
    for text in toys.STRINGS:
        ids = tokenizer.encode(text)
        assert ids == toys.byte_level().encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids) == text


def test_gpt2_ends_texts_with_a_token_of_its_own(folder: Path) -> None:
    tokenizer = from_vocab_and_merges(folder, TokenizerSettings("GPT2Tokenizer"))
    assert set(tokenizer.special_tokens) == {"bos_token", "eos_token", "unk_token"}
    assert tokenizer.eos_token_id == tokenizer.encode("<|endoftext|>")[0] == 400


def test_qwen2_takes_digits_one_by_one_and_capital_contractions(folder: Path) -> None:
    gpt2 = from_vocab_and_merges(folder, TokenizerSettings("GPT2Tokenizer"))
    qwen2 = from_vocab_and_merges(folder, TokenizerSettings("Qwen2Tokenizer"))
    assert words(gpt2, "We'RE 127") == ["We", "'", "RE", "Ġ127"]
    assert words(qwen2, "We'RE 127") == ["We", "'RE", "Ġ", "1", "2", "7"]
    assert qwen2.encode("e\u0301") == qwen2.encode("é")
    assert qwen2.bos_token_id is None


def test_the_configuration_decides_what_surrounds_a_text(folder: Path) -> None:
    settings = TokenizerSettings(
        "Qwen2Tokenizer", named={"bos_token": TokenSpec("<|bos|>")}, add_bos_token=True, add_eos_token=True
    )
    tokenizer = from_vocab_and_merges(folder, settings)
    assert tokenizer.encode("") == [0, 400]
    assert tokenizer.encode("", add_special_tokens=False) == []


def test_a_token_that_there_is_not_surrounds_nothing(folder: Path) -> None:
    settings = TokenizerSettings("Qwen2Tokenizer", named={"eos_token": None}, add_bos_token=True, add_eos_token=True)
    tokenizer = from_vocab_and_merges(folder, settings)
    assert tokenizer.encode("") == []
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (None, None)


def test_prefix_space(folder: Path) -> None:
    tokenizer = from_vocab_and_merges(folder, TokenizerSettings("GPT2Tokenizer", add_prefix_space=True))
    assert tokenizer.encode("the sea") == tokenizer.encode(" the sea")


@pytest.mark.parametrize("name", [None, "RobertaTokenizer"])
def test_another_class_is_refused_with_the_way_out(folder: Path, name: str | None) -> None:
    with pytest.raises(TokenizerError, match=f"is {name}; only GPT2Tokenizer .* writes tokenizer.json"):
        from_vocab_and_merges(folder, TokenizerSettings(name))


@pytest.mark.parametrize(
    ("name", "content"),
    [("vocab.json", "{"), ("vocab.json", '{"a": "b"}'), ("merges.txt", "nonsense"), ("merges.txt", "zz qq\n")],
)
def test_damaged_files_are_named(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"vocab\.json and merges\.txt beside it cannot be read"):
        from_vocab_and_merges(folder, TokenizerSettings("GPT2Tokenizer"))
