"""Text that streams."""

import re
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordLevel

from ovgen.errors import RequestError
from ovgen.text import Detokenizer
from ovgen.text import Tokenizer as AnyTokenizer
from ovgen.text.fast import FastTokenizer
from ovgen.text.settings import TokenizerSettings
from tests.text import toys

Routes = dict[str, AnyTokenizer]
BYTE_LEVEL = toys.byte_level()
UNKNOWN = "\ufffd"
FIRST_BYTE = 3  # the token of byte 0 in the sentencepiece model


def cleaned(text: str) -> str:
    """What openvino-tokenizers may do to a text at the end, as if it were of word pieces."""
    return re.sub(r" (?:([.?!,])|('[ms])|(') |('[rv]e)|(n't))", lambda match: "".join(match.groups("")), text)


CLEANED = ["I", " ", ".", "n", "'", "t", "m", " 'v", "e", " no", "x"]


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Routes:
    """The same two tokenizers by every route, and decoders that need the tokens before."""
    spm = toys.sentencepiece(tmp_path_factory.mktemp("spm"))
    words = Tokenizer(WordLevel({"un": 0, "##able": 1, ".": 2, "a": 3, "<s>": 4}, unk_token="a"))
    words.decoder = decoders.WordPiece()
    words.add_special_tokens(["<s>"])
    return {
        "byte level": BYTE_LEVEL,
        "byte level, OpenVINO": toys.ir(tmp_path_factory.mktemp("byte_level_ir"), BYTE_LEVEL),
        "byte level, inferring": toys.ir(tmp_path_factory.mktemp("byte_level"), BYTE_LEVEL, inferring=True),
        "sentencepiece": spm,
        "sentencepiece, OpenVINO": toys.ir(tmp_path_factory.mktemp("spm_ir"), spm),
        "sentencepiece, inferring": toys.ir(tmp_path_factory.mktemp("spm_ir_2"), spm, inferring=True),
        "word pieces": FastTokenizer(words, TokenizerSettings()),
        "cleaned up": toys.Doubled(lambda ids: cleaned("".join(CLEANED[i] for i in ids))),
    }


SIZES = {
    "byte level": 405,
    "byte level, OpenVINO": 405,
    "byte level, inferring": 405,
    "sentencepiece": 405,
    "sentencepiece, OpenVINO": 405,
    "sentencepiece, inferring": 405,
    "word pieces": 5,
    "cleaned up": len(CLEANED),
}


def stream(tokenizer: AnyTokenizer, ids: Sequence[int], skip: bool = True) -> list[str]:
    """What comes out at each token, and at the end."""
    detokenizer = Detokenizer(tokenizer, skip)
    return [*(detokenizer.push([i]) for i in ids), detokenizer.flush()]


@pytest.mark.parametrize("name", SIZES)
@settings(deadline=None)
@given(data=st.data())
def test_pieces_are_the_whole(routes: Routes, name: str, data: st.DataObject) -> None:
    """Of any ids, in steps of any size."""
    tokenizer = routes[name]
    steps = data.draw(st.lists(st.lists(st.integers(0, SIZES[name] - 1), max_size=4), max_size=40))
    skip = data.draw(st.booleans())
    detokenizer = Detokenizer(tokenizer, skip)
    text = "".join(detokenizer.push(step) for step in steps) + detokenizer.flush()
    assert text == tokenizer.decode([i for step in steps for i in step], skip_special_tokens=skip)


@pytest.mark.parametrize("name", list(SIZES)[:3])
@settings(deadline=None)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0")))  # with which OpenVINO ends strings
def test_no_piece_ends_within_a_character(routes: Routes, name: str, text: str) -> None:
    ids = BYTE_LEVEL.encode(text, add_special_tokens=False)
    pieces = stream(routes[name], ids)
    assert "".join(pieces) == text
    assert sum(piece.count(UNKNOWN) for piece in pieces) == text.count(UNKNOWN)


@pytest.mark.parametrize("name", list(SIZES)[:6])
def test_text_comes_out_at_once(routes: Routes, name: str) -> None:
    """Every token gives its text, but for those that leave a character incomplete."""
    tokenizer = routes[name]
    pieces = stream(tokenizer, tokenizer.encode("there was€\U00010348seal", add_special_tokens=False))
    assert "".join(pieces) == "there was€\U00010348seal"
    assert pieces[:-1].count("") == 2 + 3
    assert pieces[-1] == ""


def test_the_space_before_a_text_is_dropped_once(routes: Routes) -> None:
    spm = routes["sentencepiece"]
    for skip, expected in ((True, "the sea the sea"), (False, "<s> the sea</s> the sea")):
        ids = [1, *spm.encode("the sea</s>the sea", add_special_tokens=False)]
        assert "".join(stream(spm, ids, skip)) == expected


@pytest.mark.parametrize("name", list(SIZES)[:6])
def test_half_a_character_at_the_end_is_flushed(routes: Routes, name: str) -> None:
    ids = routes[name].encode("a\U00010348", add_special_tokens=False)[:-1]
    pieces = stream(routes[name], ids)
    assert "".join(pieces[:-1]) == "a"
    assert pieces[-1] == UNKNOWN


@pytest.mark.parametrize("name", list(SIZES)[3:6])
def test_bytes_that_are_no_text_do_not_block(routes: Routes, name: str) -> None:
    pieces = stream(routes[name], [FIRST_BYTE + 0xFF] * 200)
    assert "".join(pieces) == UNKNOWN * 200
    assert len("".join(pieces[:100])) >= 97


@pytest.mark.parametrize("silent", [1, 4])
def test_tokens_without_text_are_forgotten(routes: Routes, silent: int) -> None:
    """However many special tokens come, before a text or within it, spaces stay as they are."""
    name = "word pieces" if silent == 4 else "sentencepiece, inferring"
    tokenizer = routes[name]
    word = 3 if silent == 4 else tokenizer.encode("sea", add_special_tokens=False)[0]
    ids = [*[silent] * 150, word, word, *[silent] * 150, word]
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids)


DECODERS: dict[str, Callable[[Sequence[int]], str]] = {
    "text": lambda ids: "".join("abc"[i % 3] for i in ids),
    "no text": lambda ids: "",
    "no character": lambda ids: UNKNOWN * len(ids),
    "spaces": lambda ids: " " * len(ids),
}


@pytest.mark.parametrize("name", DECODERS)
def test_a_token_costs_the_same_however_many_came_before(name: str) -> None:
    tokenizer = toys.Doubled(DECODERS[name])
    text = "".join(stream(tokenizer, range(1000)))
    assert text == DECODERS[name](range(1000))
    assert tokenizer.longest <= 100


def test_many_tokens_at_once(routes: Routes) -> None:
    for tokenizer in routes.values():
        ids = [i % 5 for i in range(500)]
        detokenizer = Detokenizer(tokenizer)
        assert detokenizer.push(ids) + detokenizer.push([]) + detokenizer.flush() == tokenizer.decode(ids)


def test_a_negative_id_is_an_error(routes: Routes) -> None:
    for name in SIZES.keys() - {"cleaned up"}:
        with pytest.raises(RequestError, match="got -1"):
            Detokenizer(routes[name]).push([0, -1])
