"""Tokenizers from the metadata of GGUF files, against the same ones from elsewhere and ids that llama.cpp publishes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, pre_tokenizers

from ovgen.errors import TokenizerError
from ovgen.text.fast import FastTokenizer
from ovgen.text.gguf import end_token_ids, from_gguf
from ovgen.text.spm_file import PieceType, read_pieces
from ovgen.weights.gguf import read_gguf
from tests.shared_data import SHARED, needs_shared
from tests.text import gguf_toys, toys
from tests.text.test_vectors import TOKENIZERS, assert_published, read

CONTROL, USER_DEFINED = PieceType.CONTROL, PieceType.USER_DEFINED


def tokenizer(metadata: dict[str, Any]) -> FastTokenizer:
    made = from_gguf(metadata, "model.gguf")
    assert made is not None
    return made


def byte_level(**changes: Any) -> dict[str, Any]:
    return gguf_toys.as_read(gguf_toys.byte_level(), **changes)


def sentencepiece(**changes: Any) -> dict[str, Any]:
    return gguf_toys.as_read(gguf_toys.sentencepiece(), **changes)


def with_token(metadata: dict[str, Any], text: str, its: int) -> tuple[dict[str, Any], int]:
    """Metadata with one more token, and its id."""
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    more = {"tokenizer.ggml.tokens": [*tokens, text], "tokenizer.ggml.token_type": np.append(types, np.int32(its))}
    if "tokenizer.ggml.scores" in metadata:
        more["tokenizer.ggml.scores"] = np.append(metadata["tokenizer.ggml.scores"], np.float32(-1000))
    return {**metadata, **more}, len(tokens)


def assert_equal(ours: FastTokenizer, theirs: FastTokenizer) -> None:
    assert (ours.bos_token_id, ours.eos_token_id) == (theirs.bos_token_id, theirs.eos_token_id)
    for text in [*toys.STRINGS, "<s> and </s>", "<|user|>Pip<|eos|>"]:
        for added in (True, False):
            ids = ours.encode(text, add_special_tokens=added)
            assert ids == theirs.encode(text, add_special_tokens=added), text
            for skipped in (True, False):
                expected = theirs.decode(ids, skip_special_tokens=skipped)
                assert ours.decode(ids, skip_special_tokens=skipped) == expected


def test_byte_level_is_the_one_of_tokenizer_json() -> None:
    assert_equal(tokenizer(byte_level()), toys.byte_level())


def test_sentencepiece_is_the_one_of_tokenizer_model(tmp_path: Path) -> None:
    assert_equal(tokenizer(sentencepiece()), toys.sentencepiece(tmp_path))


@needs_shared
def test_published_ids_from_a_real_file() -> None:
    metadata = read_gguf(TOKENIZERS / "vectors" / "ggml-vocab-gpt-2.gguf").metadata
    ours = tokenizer(dict(metadata))
    assert_published(ours, "gpt2")
    assert ours.eos_token_id == 50256
    assert end_token_ids(metadata, "gpt-2.gguf") == [50256]


@needs_shared
def test_published_ids_of_qwen2() -> None:
    vocab = read(TOKENIZERS / "qwen2").backend.get_vocab(with_added_tokens=True)
    tokens = sorted(vocab, key=vocab.__getitem__)
    merges = (TOKENIZERS / "qwen2" / "merges.txt").read_text("utf-8").splitlines()
    metadata = {
        "general.architecture": "qwen2",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([CONTROL if t.startswith("<|") else 1 for t in tokens], np.int32),
        "tokenizer.ggml.merges": [line for line in merges if line and not line.startswith("#version")],
    }
    assert_published(tokenizer(metadata), "qwen2")
    assert end_token_ids(metadata, "qwen2.gguf") == [vocab["<|endoftext|>"], vocab["<|im_end|>"]]


@needs_shared
def test_published_ids_of_llama2() -> None:
    model = read_pieces(TOKENIZERS / "llama2" / "tokenizer.model")
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": model.pieces,
        "tokenizer.ggml.scores": np.array(model.scores, np.float32),
        "tokenizer.ggml.token_type": np.array(model.types, np.int32),
    }
    ours = tokenizer(metadata)
    assert_published(ours, "llama2")
    assert ours.special_tokens == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


@needs_shared
def test_stories() -> None:
    metadata = read_gguf(SHARED / "stories260K" / "stories260K-f32.v1.gguf").metadata
    assert_equal(tokenizer(dict(metadata)), read(SHARED / "stories260K"))


# As the models' own tokenizer.json have them.
PUBLISHED_PATTERNS = {
    "llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+",
    "tekken": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "gpt-4o": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
HARD = [
    *toys.STRINGS,
    "WE'RE helloWorld HTTPServer Ünïcödé O'Neill can'T",
    "12345678 1,234.5 ½²③ x1y22",
    "a/b//\n\n//c\r\n\r\n  d \t\n e   ",
    "!!!\n\n???/ (a) [b]\n{c}",
    "नमस्ते दुनिया éa İı ǅ",
]


@pytest.mark.parametrize("name", PUBLISHED_PATTERNS)
def test_text_is_split_as_published(name: str) -> None:
    ours = tokenizer(byte_level(pre=name)).backend.pre_tokenizer
    theirs = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PUBLISHED_PATTERNS[name]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    for text in HARD:
        assert ours.pre_tokenize_str(text) == theirs.pre_tokenize_str(text), text


@pytest.mark.parametrize("name", ["gpt-2", "smollm"])
def test_text_is_split_as_the_library_does(name: str) -> None:
    ours = tokenizer(byte_level(pre=name)).backend.pre_tokenizer
    theirs: pre_tokenizers.PreTokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "smollm":
        theirs = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), theirs])
    for text in HARD:
        assert [t for t, _ in ours.pre_tokenize_str(text)] == [t for t, _ in theirs.pre_tokenize_str(text)], text


def test_llama_3_takes_whole_words() -> None:
    """Its merges do not lead to every token, and its texts begin with BOS."""
    metadata, token = with_token(byte_level(add_bos_token=None, pre="llama-bpe"), "xyzzy", PieceType.NORMAL)
    assert tokenizer(metadata).encode("xyzzy") == [0, token]
    assert len(tokenizer({**metadata, "tokenizer.ggml.pre": "gpt-2"}).encode("xyzzy")) == 5


@pytest.mark.parametrize(("architecture", "pre"), [("gpt2", "gpt-2"), ("qwen2", "qwen2")])
def test_older_files_of_which_the_splitting_is_clear(architecture: str, pre: str) -> None:
    older = tokenizer({**byte_level(pre=None), "general.architecture": architecture})
    newer = tokenizer(byte_level(pre=pre))
    assert [older.encode(text) for text in HARD] == [newer.encode(text) for text in HARD]


@pytest.mark.parametrize("make", [byte_level, sentencepiece])
@pytest.mark.parametrize("its", [CONTROL, USER_DEFINED])
def test_markers_are_recognised_in_text(make: Any, its: PieceType) -> None:
    metadata, marker = with_token(make(), "<|im_end|>", its)
    ours = tokenizer(metadata)
    ids = ours.encode("Pip<|im_end|>Pip", add_special_tokens=False)
    part = ours.encode("Pip", add_special_tokens=False)
    assert ids == [*part, marker, *part]
    assert ("<|im_end|>" in ours.decode(ids)) == (its == USER_DEFINED)
    assert "<|im_end|>" in ours.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("spelling", ["▁▁▁", "   "])
def test_runs_of_spaces_are_tokens_in_either_spelling(spelling: str) -> None:
    metadata, token = with_token(sentencepiece(add_space_prefix=False), spelling, USER_DEFINED)
    ours = tokenizer(metadata)
    ids = ours.encode("a   b", add_special_tokens=False)
    assert ids == [*ours.encode("a", add_special_tokens=False), token, *ours.encode("b", add_special_tokens=False)]
    assert ours.decode(ids) == "a   b"


@pytest.mark.parametrize("prefix", [True, False])
def test_the_space_before_a_text(prefix: bool) -> None:
    ours = tokenizer(sentencepiece(add_space_prefix=prefix))
    first = ours.encode("the", add_special_tokens=False)
    assert (ours.backend.id_to_token(first[0]) or "").startswith("▁") == prefix
    assert ours.decode(first) == "the"


def test_markers_of_phi_3_take_the_line_break_after_them() -> None:
    metadata, marker = with_token({**sentencepiece(), "general.architecture": "phi3"}, "<|user|>", CONTROL)
    ours = tokenizer(metadata)
    assert ours.encode("<|user|>\nPip")[1:] == [marker, *ours.encode("Pip", add_special_tokens=False)]


@pytest.mark.parametrize("make", [byte_level, sentencepiece])
@pytest.mark.parametrize(("bos", "eos"), [(True, False), (False, True), (False, False), (True, True)])
def test_bos_and_eos_around_a_text(make: Any, bos: bool, eos: bool) -> None:
    ours = tokenizer(make(add_bos_token=bos, add_eos_token=eos))
    ids = ours.encode("Pip")
    assert (ids[0] == ours.bos_token_id) == bos
    assert (ids[-1] == ours.eos_token_id) == eos


def test_ends_of_a_text_and_of_a_turn() -> None:
    metadata, turn = with_token(byte_level(), "<|eot_id|>", CONTROL)
    assert end_token_ids(metadata, "m") == [1, turn], "known by its text"
    assert end_token_ids({**byte_level(), "tokenizer.ggml.eot_token_id": 2}, "m") == [1, 2], "named"
    metadata, _ = with_token(byte_level(), "<|eot_id|>", PieceType.NORMAL)
    assert end_token_ids(metadata, "m") == [1], "ordinary text"
    assert end_token_ids({}, "m") == []


@pytest.mark.parametrize("model", [None, "none", "no_vocab"])
def test_no_tokenizer(model: str | None) -> None:
    assert from_gguf({} if model is None else {"tokenizer.ggml.model": model}, "m") is None


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "Unigram": (byte_level(model="t5"), "model is 't5', and only gpt2 and llama are supported"),
    "no tokens": (byte_level(tokens=None), "tokens must be an array of strings"),
    "no merges": (byte_level(merges=None), "merges must be an array of strings"),
    "a merge of one": (byte_level(merges=["ab"]), "merges must be pairs, got 'ab'"),
    "a merge of unknown tokens": (byte_level(merges=["qqq zzz"]), "merges do not fit the tokens"),
    "a splitting that is not known": (byte_level(pre="klingon"), "pre is 'klingon', a way to split text"),
    "no splitting": ({**byte_level(pre=None), "general.architecture": "llama"}, "pre is missing"),
    "no scores": (sentencepiece(scores=None), "scores must have a number for each of"),
    "too few types": (sentencepiece(token_type=np.ones(3, np.int32)), "token_type must have a number for each of"),
    "types of text": (sentencepiece(token_type=["a"]), "token_type must have a number for each of"),
    "BOS beyond the vocabulary": (byte_level(bos_token_id=10**6), "bos_token_id must be a token of the vocabulary"),
    "BOS of a text": (byte_level(bos_token_id="<s>"), "bos_token_id must be a token of the vocabulary"),
    "a switch of a number": (byte_level(add_bos_token=1), "add_bos_token must be true or false, got 1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(fault: str) -> None:
    metadata, message = FAULTS[fault]
    with pytest.raises(TokenizerError, match=message) as caught:
        from_gguf(metadata, "model.gguf")
    assert str(caught.value).startswith("model.gguf: tokenizer.ggml.")
