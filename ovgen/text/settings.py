"""What a model folder says about its tokenizer beside the vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ovgen.errors import TokenizerError

__all__ = ["TokenSpec", "TokenizerSettings", "read_json", "read_settings"]


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """A token that is recognised in text as a whole. Names and meanings are those of ``tokenizers.AddedToken``."""

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = True


@dataclass(frozen=True, slots=True)
class TokenizerSettings:
    """``tokenizer_config.json``, with what older folders keep in ``special_tokens_map.json`` and ``added_tokens.json``.

    Attributes:
        tokenizer_class: name of the Hugging Face class, without the ``Fast`` that older versions append.
        named: ``bos_token``, ``eos_token``, whatever else is called ``..._token`` -> the token; None where the
            folder says that there is none.
        unnamed: further special tokens.
        added: id -> a token added to the vocabulary.
        add_bos_token: put BOS before a text. None, as for the next: not said.
        add_eos_token: put EOS after a text.
        add_prefix_space: treat the first word of a text as if a space preceded it.
    """

    tokenizer_class: str | None = None
    named: Mapping[str, TokenSpec | None] = field(default_factory=dict)
    unnamed: tuple[TokenSpec, ...] = ()
    added: Mapping[int, TokenSpec] = field(default_factory=dict)
    add_bos_token: bool | None = None
    add_eos_token: bool | None = None
    add_prefix_space: bool = False

    @property
    def special_tokens(self) -> dict[str, str]:
        """Name -> text of the named special tokens that there are."""
        return {name: token.content for name, token in self.named.items() if token is not None}


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        TokenizerError: it cannot be read or is not JSON; the message names the file and the place.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise TokenizerError(f"{path} is not readable as JSON ({error}): fetch it again") from error


def read_settings(folder: Path) -> TokenizerSettings:
    """Read the settings of a model folder; a file that is absent says nothing.

    Raises:
        TokenizerError: a file is damaged, or a setting is of the wrong kind.
    """
    config = _read_object(folder / "tokenizer_config.json")
    # A configuration that lists the added tokens is newer than these two files, which may then be out of date.
    older = "added_tokens_decoder" not in config
    tokens = {**config, **(_read_object(folder / "special_tokens_map.json") if older else {})}
    added = _read_object(folder / "added_tokens.json") if older else {}
    try:
        return _settings(config, tokens, added)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        path = folder / "tokenizer_config.json"
        raise TokenizerError(f"{path} has a setting of the wrong kind ({error!r}): fetch it again") from error


def _settings(config: Mapping[str, Any], tokens: Mapping[str, Any], added_ids: Mapping[str, Any]) -> TokenizerSettings:
    named = {
        key: None if value is None else _token(value)
        for key, value in tokens.items()
        if key.endswith("_token") and not isinstance(value, bool)  # add_bos_token is a switch
    }
    lists = [tokens.get("additional_special_tokens") or (), tokens.get("extra_special_tokens") or ()]
    unnamed = [_token(t) for each in lists for t in (each.values() if isinstance(each, dict) else each)]
    special = {token.content for token in (*named.values(), *unnamed) if token is not None}
    added = {int(i): _token(t, special=False) for i, t in config.get("added_tokens_decoder", {}).items()}
    for text, i in added_ids.items():
        added[int(i)] = TokenSpec(text, normalized=text not in special, special=text in special)
    name = config.get("tokenizer_class")
    return TokenizerSettings(
        tokenizer_class=None if name is None else str(name).removesuffix("Fast"),
        named=named,
        unnamed=tuple(unnamed),
        added=added,
        add_bos_token=config.get("add_bos_token"),
        add_eos_token=config.get("add_eos_token"),
        add_prefix_space=bool(config.get("add_prefix_space")),
    )


def _read_object(path: Path) -> dict[str, Any]:
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise TokenizerError(f"{path} must hold a JSON object, not a {type(content).__name__}: fetch it again")
    return content


def _token(value: Any, *, special: bool = True) -> TokenSpec:
    """A token as these files write it: its text, or an object with its text and flags."""
    fields = {"content": value} if isinstance(value, str) else value
    if not isinstance(fields["content"], str):
        raise TypeError(f"the text of a token is {fields['content']!r}")
    flags = {key: bool(fields[key]) for key in TokenSpec.__slots__ if key != "content" and key in fields}
    return TokenSpec(fields["content"], **{"special": special, **flags})
