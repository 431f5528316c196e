"""A GGUF file is a model like any other: text, sessions, the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import ovgen
from ovgen.cli import main
from ovgen.errors import CacheFileError, ModelNotFoundError, TokenizerError
from ovgen.loader import digest, load
from ovgen.runtime.forms import Form
from tests import tiny_gguf
from tests.conftest import F32
from tests.shared_data import SHARED, needs_shared
from tests.test_stories import published
from tests.text import gguf_toys
from tests.text.toys import byte_level
from tests.tiny_models import make

TEMPLATE = "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}{{ bos_token }}"
STRING, U32 = 8, 4


def write(
    folder: Path, stored: str | None = None, changes: dict[str, tuple[int, Any]] | None = None, tensors_a_file: int = 0
) -> Path:
    """A small Llama with a tokenizer and a chat template."""
    metadata = gguf_toys.byte_level() | {"tokenizer.chat_template": (STRING, TEMPLATE)} | (changes or {})
    metadata.pop("general.architecture")
    source = make("llama", folder / "llama", vocab_size=400)
    return tiny_gguf.write(source, folder / "model.gguf", stored, metadata, tensors_a_file)


@needs_shared
@pytest.mark.parametrize("form", ["paged", "stateful"])
def test_stories_are_the_published_ones(form: Form) -> None:
    """A file of version 1, in Meta's order of rows; its Hugging Face folder says the same: see test_stories."""
    path = SHARED / "stories260K" / "stories260K-f32.v1.gguf"
    out = ovgen.LLM(path, device_config=F32, form=form).generate("", max_new_tokens=200)
    assert out.prompt_token_ids == (1,)
    assert out.text == published()


def test_what_the_metadata_say(tmp_path: Path) -> None:
    source = load(write(tmp_path, changes={"tokenizer.ggml.eot_token_id": (U32, 2)}))
    assert source.path == tmp_path / "model.gguf"
    assert source.context_length == 256
    assert source.eos_token_ids == {1, 2}
    assert source.config["model_type"] == "llama"
    assert json.loads(json.dumps(source.config)) == source.config, "as conversion writes it"
    assert source.chat_template is not None
    assert source.chat_template.render([{"role": "user", "content": "Pip"}]) == "<|user|>Pip<|bos|>"


def test_the_same_tokens_as_from_the_folder(tmp_path: Path) -> None:
    path = write(tmp_path)
    prompt = byte_level().encode("Once upon a time")
    from_folder = ovgen.LLM(tmp_path / "llama", device_config=F32).generate(prompt, max_new_tokens=20, ignore_eos=True)
    from_file = ovgen.LLM(path, device_config=F32).generate("Once upon a time", max_new_tokens=20, ignore_eos=True)
    assert from_file.prompt_token_ids == tuple(prompt)
    assert from_file.token_ids == from_folder.token_ids
    assert from_file.text == byte_level().decode(from_folder.token_ids)


def test_a_session_is_saved_for_its_file(tmp_path: Path) -> None:
    path = write(tmp_path, "Q8_0")
    session = ovgen.LLM(path, device_config=F32).session()
    session.forward([1, 2, 3])
    session.save(tmp_path / "s.kv")
    assert len(ovgen.LLM(path, device_config=F32).session(tmp_path / "s.kv")) == 3

    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(CacheFileError):
        ovgen.LLM(write(other, "Q4_0"), device_config=F32).session(tmp_path / "s.kv")


def test_a_model_in_several_files(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    first = write(parts, tensors_a_file=10)
    files = sorted(parts.glob("*.gguf"))
    assert len(files) == 3
    texts = {
        ovgen.LLM(path, device_config=F32).generate("Pip", max_new_tokens=10, ignore_eos=True).text
        for path in (write(whole), first, files[-1])
    }
    assert len(texts) == 1


@pytest.mark.parametrize("tensors_a_file", [0, 10])
def test_a_folder_with_one_model(tensors_a_file: int, tmp_path: Path) -> None:
    first = write(tmp_path, tensors_a_file=tensors_a_file)
    source = load(tmp_path)
    assert source.path == first
    assert digest(tmp_path) == source.identity() == load(first).identity()
    ovgen.convert(tmp_path, tmp_path / "ir")
    assert (tmp_path / "ir" / "openvino_model.xml").is_file()


def test_a_folder_with_several_models(tmp_path: Path) -> None:
    first = write(tmp_path, tensors_a_file=10)
    (tmp_path / "another.gguf").write_bytes(first.read_bytes())
    with pytest.raises(ModelNotFoundError, match=rf"has 2 GGUF models: .* one of another.gguf, {first.name}$"):
        load(tmp_path)
    with pytest.raises(ModelNotFoundError, match="has 2 GGUF models"):
        digest(tmp_path)


def test_a_folder_with_safetensors_too(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.rename(tmp_path / "llama" / "model.gguf")
    assert load(tmp_path / "llama").path == tmp_path / "llama"


def test_every_part_of_a_model_counts_for_its_identity(tmp_path: Path) -> None:
    first = write(tmp_path, tensors_a_file=10)
    *_, last = sorted(tmp_path.glob("*.gguf"))
    identity = load(first).identity()
    assert load(last).identity() == identity
    last.write_bytes(last.read_bytes()[:-1] + b"!")
    assert load(first).identity() != identity


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    assert main(["generate", "--model", str(path), "--json", "--max-new-tokens", "3", "Pip"]) == 0
    record = json.loads(capsys.readouterr().out)
    expected = ovgen.LLM(path).generate("Pip", max_new_tokens=3)
    assert record["token_ids"] == list(expected.token_ids)


def test_a_template_that_is_none(tmp_path: Path) -> None:
    path = write(tmp_path, changes={"tokenizer.chat_template": (U32, 1)})
    with pytest.raises(TokenizerError, match=r"tokenizer.chat_template must be a string, got 1"):
        load(path)
