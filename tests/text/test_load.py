"""Which tokenizer of a folder is taken."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from ovgen.errors import TokenizerError
from ovgen.runtime.tokenizer_ir import compile_tokenizer
from ovgen.text import load_tokenizer
from ovgen.text.fast import FastTokenizer
from ovgen.text.ir import IRTokenizer
from tests.text import toys


def never(folder: Path) -> NoReturn:
    raise AssertionError("the OpenVINO models were not to be compiled")


def add_vocab_and_merges(folder: Path, tokenizer_class: str) -> None:
    model = json.loads(toys.byte_level_json())["model"]
    config = {"tokenizer_class": tokenizer_class}
    toys.write_json(folder, vocab=model["vocab"], tokenizer_config=config)
    (folder / "merges.txt").write_text("\n".join(" ".join(pair) for pair in model["merges"]), encoding="utf-8")


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    assert load_tokenizer(tmp_path, never) is None


def test_the_fastest_is_taken(tmp_path: Path) -> None:
    """Files are added in the opposite order, so that each time another one is first."""
    toys.spm_file(tmp_path)
    from_model = load_tokenizer(tmp_path, never)
    assert isinstance(from_model, FastTokenizer)
    assert from_model.special_tokens["unk_token"] == "<unk>"
    toys.write_ir(tmp_path, toys.byte_level())
    assert isinstance(load_tokenizer(tmp_path, compile_tokenizer), IRTokenizer)
    add_vocab_and_merges(tmp_path, "GPT2Tokenizer")
    from_files = load_tokenizer(tmp_path, never)
    assert from_files is not None
    assert from_files.special_tokens["eos_token"] == "<|endoftext|>"
    (tmp_path / "tokenizer.json").write_text(toys.byte_level_json(), encoding="utf-8")
    from_json = load_tokenizer(tmp_path, never)
    assert from_json is not None
    assert from_json.encode("") == [0]


def test_vocab_and_merges_of_an_unknown_class_yield_to_what_can_be_read(tmp_path: Path) -> None:
    add_vocab_and_merges(tmp_path, "RobertaTokenizer")
    with pytest.raises(TokenizerError, match="RobertaTokenizer"):
        load_tokenizer(tmp_path, never)
    toys.spm_file(tmp_path)
    tokenizer = load_tokenizer(tmp_path, never)
    assert tokenizer is not None
    assert tokenizer.special_tokens["unk_token"] == "<unk>"


def test_a_damaged_one_is_not_passed_over(tmp_path: Path) -> None:
    toys.spm_file(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path, never)


def test_settings_of_the_folder_are_read(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(toys.byte_level_json(), encoding="utf-8")
    toys.write_json(tmp_path, tokenizer_config={"eos_token": "<|user|>"})
    tokenizer = load_tokenizer(tmp_path, never)
    assert tokenizer is not None
    assert tokenizer.eos_token_id == 2


def test_importing_the_room_imports_no_tokenizer_and_no_jinja() -> None:
    code = "import sys, ovgen.text; print([m for m in ('tokenizers', 'jinja2', 'openvino') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
