"""tokenizer_config.json and its older companions."""

from pathlib import Path
from typing import Any

import pytest

from ovgen.errors import TokenizerError
from ovgen.text.settings import TokenizerSettings, TokenSpec, read_settings
from tests.text import toys


def read(folder: Path, **config: Any) -> TokenizerSettings:
    return read_settings(toys.write_json(folder, tokenizer_config=config))


def test_a_folder_may_say_nothing(tmp_path: Path) -> None:
    assert read_settings(tmp_path) == TokenizerSettings()


def test_every_kind_of_token(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        bos_token="<s>",
        eos_token={"content": "</s>", "lstrip": True, "__type": "AddedToken"},
        unk_token=None,
        image_token="<img>",
        add_bos_token=True,
        additional_special_tokens=["<a>", {"content": "<b>", "special": False}],
        extra_special_tokens={"audio": "<c>"},
        added_tokens_decoder={"7": {"content": "<d>"}},
    )
    assert settings.special_tokens == {"bos_token": "<s>", "eos_token": "</s>", "image_token": "<img>"}
    assert settings.named["eos_token"] == TokenSpec("</s>", lstrip=True)
    assert settings.named["unk_token"] is None
    assert settings.unnamed == (TokenSpec("<a>"), TokenSpec("<b>", special=False), TokenSpec("<c>"))
    assert settings.added == {7: TokenSpec("<d>", special=False)}


def test_switches(tmp_path: Path) -> None:
    settings = read(tmp_path, add_bos_token=False, add_prefix_space=None, tokenizer_class="GPT2TokenizerFast")
    assert (settings.add_bos_token, settings.add_eos_token) == (False, None)
    assert settings.add_prefix_space is False
    assert settings.tokenizer_class == "GPT2Tokenizer"


@pytest.mark.parametrize(
    "config",
    [
        {"bos_token": 5},
        {"bos_token": {"text": "<s>"}},
        {"bos_token": {"content": 5}},
        {"additional_special_tokens": [None]},
        {"added_tokens_decoder": {"one": {"content": "<s>"}}},
        {"added_tokens_decoder": ["<s>"]},
        {"added_tokens_decoder": None},
    ],
)
def test_settings_of_the_wrong_kind_are_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json has a setting of the wrong kind"):
        read(tmp_path, **config)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"])
@pytest.mark.parametrize(
    ("content", "told"),
    [(b"{", "not readable as JSON"), (b"\xff", "not readable as JSON"), (b"[]", "not a list"), (b"[" * 9999, "JSON")],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TokenizerError, match=told) as caught:
        read_settings(tmp_path)
    assert name in str(caught.value)
