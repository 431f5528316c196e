"""tokenizer.model, against what sentencepiece itself made of the same strings."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovgen.errors import TokenizerError
from ovgen.text.sentencepiece import from_sentencepiece, from_tokenizer_model
from ovgen.text.settings import TokenizerSettings, TokenSpec
from ovgen.text.spm_file import PieceType, read_pieces
from tests.text import toys

MODELS = toys.SPM_GOLDEN["models"]
STRINGS = toys.SPM_GOLDEN["strings"]


@pytest.mark.parametrize("name", MODELS)
def test_ids_are_those_of_sentencepiece(name: str, tmp_path: Path) -> None:
    tokenizer = toys.sentencepiece(tmp_path, name)
    for text, ids in zip(STRINGS, MODELS[name]["ids"], strict=True):
        assert tokenizer.encode(text, add_special_tokens=False) == ids, text


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"no byte fallback"}))
def test_texts_are_those_of_sentencepiece(name: str, tmp_path: Path) -> None:
    tokenizer = toys.sentencepiece(tmp_path, name)
    for ids, text in zip(MODELS[name]["ids"], MODELS[name]["texts"], strict=True):
        assert tokenizer.decode(ids) == text


def test_what_is_not_known_is_the_unknown_token(tmp_path: Path) -> None:
    tokenizer = toys.sentencepiece(tmp_path, "no byte fallback")
    ids = tokenizer.encode("zebra", add_special_tokens=False)
    assert ids.count(0) == 1
    assert tokenizer.decode(ids) == "ebra"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<unk>ebra"


@given(st.text())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    tokenizer = toys.sentencepiece(tmp_path_factory.getbasetemp())
    assert tokenizer.decode(tokenizer.encode(text)) == text.replace("▁", " ")


def test_bos_precedes_a_text_by_default(tmp_path: Path) -> None:
    tokenizer = toys.sentencepiece(tmp_path)
    bare = tokenizer.encode("the sea", add_special_tokens=False)
    assert tokenizer.encode("the sea") == [1, *bare]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert tokenizer.special_tokens == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def test_the_configuration_decides_what_surrounds_a_text(tmp_path: Path) -> None:
    settings = TokenizerSettings(add_bos_token=False, add_eos_token=True)
    tokenizer = from_tokenizer_model(toys.spm_file(tmp_path), settings)
    assert tokenizer.encode("") == [2]


def test_the_configuration_may_rename_and_add_tokens(tmp_path: Path) -> None:
    settings = TokenizerSettings(named={"eos_token": TokenSpec("<|end|>")}, added={400: TokenSpec("<|end|>")})
    tokenizer = from_tokenizer_model(toys.spm_file(tmp_path), settings)
    assert tokenizer.eos_token_id == 400
    assert tokenizer.encode("<|end|>") == [1, 400]


def test_control_pieces_are_recognised_and_text_after_them_gets_its_space(tmp_path: Path) -> None:
    tokenizer = toys.sentencepiece(tmp_path)
    sea = tokenizer.encode("the sea", add_special_tokens=False)
    assert tokenizer.encode("</s>the sea") == [1, 2, *sea]
    assert tokenizer.decode([1, 2, *sea], skip_special_tokens=False) == "<s></s> the sea"


def test_bytes_that_are_no_text_leave_the_rest_alone(tmp_path: Path) -> None:
    tokenizer = toys.sentencepiece(tmp_path)
    byte = 3  # the token of byte 0
    euro = [byte + b for b in "€".encode()]
    assert tokenizer.decode([*euro, byte + 0xFF, *euro, byte + 0xE2]) == "€\ufffd€\ufffd"


def test_the_first_of_equal_pieces_counts() -> None:
    pieces = ["<unk>", "▁", "a", "a"]
    types = [PieceType.UNKNOWN, *[PieceType.NORMAL] * 3]
    backend = from_sentencepiece(pieces, [0, -1, -2, -3], types)
    assert backend.encode("a").ids == [1, 2]


def test_the_best_score_is_joined_first() -> None:
    pieces = ["a", "b", "c", "ab", "bc"]
    types = [PieceType.NORMAL] * 5
    for scores, expected in (([0, 0, 0, -1, -2], ["ab", "c"]), ([0, 0, 0, -2, -1], ["a", "bc"])):
        backend = from_sentencepiece(pieces, scores, types, add_dummy_prefix=False)
        assert backend.encode("abc").tokens == expected


def test_user_defined_pieces_with_a_space_before_texts_are_refused() -> None:
    types = [PieceType.NORMAL, PieceType.USER_DEFINED]
    with pytest.raises(TokenizerError, match=r"user-defined pieces such as '<sep>'.*tokenizer\.json"):
        from_sentencepiece(["a", "<sep>"], [0, 0], types)


def test_reading(tmp_path: Path) -> None:
    model = read_pieces(toys.spm_file(tmp_path, "no space before a text, pieces of its own"))
    assert len(model.pieces) == len(model.scores) == len(model.types) == 400
    assert model.pieces[:4] == ["<unk>", "<s>", "</s>", "<sep>"]
    assert model.types[:4] == [PieceType.UNKNOWN, PieceType.CONTROL, PieceType.CONTROL, PieceType.USER_DEFINED]
    assert (model.model_type, model.bos_id, model.eos_id, model.charsmap) == (2, 1, 2, b"")
    assert (model.add_dummy_prefix, model.remove_extra_whitespaces) == (False, False)


def test_defaults_of_the_format(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(b"\x0a\x03\x0a\x01a")  # one piece with nothing but a text
    model = read_pieces(path)
    assert (model.pieces, model.scores, model.types) == (["a"], [0.0], [PieceType.NORMAL])
    assert (model.add_dummy_prefix, model.remove_extra_whitespaces, model.bos_id) == (True, True, 1)


def test_a_negative_id_is_none(tmp_path: Path) -> None:
    path = toys.spm_file(tmp_path)
    minus_one = b"\xff" * 9 + b"\x01"
    path.write_bytes(path.read_bytes() + b"\x12\x0e\x18\x02\xc8\x02" + minus_one)  # trainer: BPE, bos_id
    assert read_pieces(path).bos_id == -1
    tokenizer = from_tokenizer_model(path, TokenizerSettings())
    assert tokenizer.bos_token_id is None
    assert tokenizer.encode("") == []


def test_unigram_models_are_refused(tmp_path: Path) -> None:
    path = toys.spm_file(tmp_path)
    path.write_bytes(path.read_bytes() + b"\x12\x02\x18\x01")  # trainer: model_type
    with pytest.raises(TokenizerError, match=r"tokenizer\.model is a sentencepiece model of Unigram"):
        from_tokenizer_model(path, TokenizerSettings())


@pytest.mark.parametrize("cut", [1, 7, 100, 6000])
def test_a_truncated_file_is_named(tmp_path: Path, cut: int) -> None:
    path = toys.spm_file(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(TokenizerError, match=r"tokenizer\.model"):
        read_pieces(path)


@given(st.binary(max_size=200))
def test_anything_else_is_named_too(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.model"
    path.write_bytes(content)
    try:
        pieces = read_pieces(path).pieces
    except TokenizerError as error:
        told = str(error)
    else:
        told = f"any.model holds {len(pieces)}" if pieces else ""
    assert "any.model" in told
