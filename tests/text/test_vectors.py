"""Real tokenizers: against the token ids that llama.cpp publishes for them, and one route against another."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from ovgen.runtime.tokenizer_ir import compile_tokenizer
from ovgen.text import Tokenizer, load_tokenizer
from ovgen.text.fast import FastTokenizer
from tests.shared_data import SHARED, needs_shared
from tests.text import toys

TOKENIZERS = SHARED / "tokenizers"
VECTORS = {"gpt2": "gpt-2", "qwen2": "qwen2", "llama2": "llama-spm"}


def vectors(name: str) -> list[tuple[str, list[int]]]:
    folder = TOKENIZERS / "vectors"
    texts = (folder / f"{VECTORS[name]}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    rows = (folder / f"{VECTORS[name]}.out").read_text(encoding="utf-8").split("\n")
    return list(zip(texts, ([int(i) for i in row.split()] for row in rows), strict=True))


@cache
def read(folder: Path) -> FastTokenizer:
    tokenizer = load_tokenizer(folder, compile_tokenizer)
    assert isinstance(tokenizer, FastTokenizer)
    return tokenizer


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Tokenizer]:
    """Real tokenizers, run by OpenVINO."""
    return cache(lambda folder: toys.ir(tmp_path_factory.mktemp(folder.name), read(folder)))


def assert_published(tokenizer: Tokenizer, name: str) -> None:
    for text, ids in vectors(name):
        assert tokenizer.encode(text, add_special_tokens=False) == ids, text
        assert tokenizer.decode(ids) == text


@needs_shared
@pytest.mark.parametrize("name", VECTORS)
def test_published_ids(name: str) -> None:
    """Through tokenizer.json for gpt2, vocab.json and merges.txt for qwen2, tokenizer.model for llama2."""
    assert_published(read(TOKENIZERS / name), name)


@needs_shared
def test_published_ids_through_vocab_and_merges(tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(TOKENIZERS / "gpt2" / name, tmp_path)
    toys.write_json(tmp_path, tokenizer_config={"tokenizer_class": "GPT2Tokenizer"})
    assert_published(read(tmp_path), "gpt2")


@needs_shared
@pytest.mark.parametrize("name", VECTORS)
def test_published_ids_through_openvino(name: str, compiled: Callable[[Path], Tokenizer]) -> None:
    assert_published(compiled(TOKENIZERS / name), name)


@needs_shared
@pytest.mark.parametrize("name", VECTORS)
def test_openvino_agrees_on_prose(name: str, compiled: Callable[[Path], Tokenizer]) -> None:
    ours, theirs = read(TOKENIZERS / name), compiled(TOKENIZERS / name)
    prose = (SHARED / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8")[:40_000]
    ids = ours.encode(prose)
    assert theirs.encode(prose) == ids
    assert theirs.decode(ids) == ours.decode(ids) == prose


@needs_shared
def test_stories_by_tokenizer_json_and_by_openvino(compiled: Callable[[Path], Tokenizer]) -> None:
    ours, theirs = read(SHARED / "stories260K"), compiled(SHARED / "stories260K")
    for tokenizer in (ours, theirs):
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.vocab_size) == (1, 2, 512)
        assert tokenizer.encode("Once upon a time") == [1, 403, 407, 261, 378]
    for text in [*toys.STRINGS, "<s> and </s>"]:
        for added in (True, False):
            ids = ours.encode(text, add_special_tokens=added)
            assert theirs.encode(text, add_special_tokens=added) == ids
            for skipped in (True, False):
                expected = ours.decode(ids, skip_special_tokens=skipped)
                assert theirs.decode(ids, skip_special_tokens=skipped) == expected


@needs_shared
def test_stories_by_tokenizer_model(tmp_path: Path) -> None:
    """Its pieces, read by their own rules: unlike tokenizer.json they leave extra spaces out."""
    shutil.copy(SHARED / "stories260K" / "tokenizer.model", tmp_path)
    tokenizer, other = read(tmp_path), read(SHARED / "stories260K")
    assert tokenizer.encode("Once upon a time") == other.encode("Once upon a time") == [1, 403, 407, 261, 378]
    assert tokenizer.encode("  Once  upon a time ") == [1, 403, 407, 261, 378]
    assert tokenizer.special_tokens == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
