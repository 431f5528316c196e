"""Chat templates: a conversation as the text that the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from ovgen.errors import RequestError, TokenizerError
from ovgen.text.settings import read_json

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["ChatTemplate", "find_chat_template"]


class ChatTemplate:
    """A model's template, in sandboxed Jinja as Hugging Face's ``apply_chat_template`` runs it.

    It is compiled when first used: a model whose template is broken can still complete a text.

    Args:
        source: the template.
        special_tokens: ``bos_token``, ``eos_token`` and the like -> their text, which the template may name.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        self.source = source
        self._special_tokens = dict(special_tokens)

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The conversation as text. The template writes BOS and the like itself, so the text is to be encoded
        with ``add_special_tokens=False``; otherwise they come twice.

        Args:
            messages: ``{"role": ..., "content": ...}`` each, with whatever else the template knows. The content
                is text, or a list of parts such as ``{"type": "text", "text": ...}``; a message with
                ``tool_calls`` may lack it.
            add_generation_prompt: end with what precedes an answer of the model.
            variables: further variables of the template, such as ``tools`` or ``enable_thinking``.

        Raises:
            RequestError: the messages are not of that form, or the template refuses them; its own message is told.
            TokenizerError: the template has a syntax error.
        """
        values = {
            "tools": None,  # templates ask whether these two are none, not whether they are defined
            "documents": None,
            **self._special_tokens,
            **{name: _plain(value, name) for name, value in variables.items()},
            "messages": _checked(messages),
            "add_generation_prompt": add_generation_prompt,
        }
        template = self._template
        try:
            return template.render(values)
        except Exception as error:  # a template is a program, and fails in as many ways
            raise RequestError(f"the chat template refuses these messages: {error}") from error

    @cached_property
    def _template(self) -> Template:
        from jinja2 import TemplateError

        from ovgen.text.jinja import environment

        try:
            return environment().from_string(self.source)
        except TemplateError as error:
            line = getattr(error, "lineno", "?")
            raise TokenizerError(
                f"line {line} of the chat template: {error}; correct chat_template.jinja, or use generate"
            ) from error


def find_chat_template(folder: Path) -> str | None:
    """The chat template of a model folder: chat_template.jinja, the default one in tokenizer_config.json or
    chat_template.json, or the one that openvino_tokenizer.xml carries, in this order; None if there is none.

    Raises:
        TokenizerError: one of these files is damaged.
    """
    path = folder / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TokenizerError(f"{path} is not readable as text ({error}): fetch it again") from error
    for name in ("tokenizer_config.json", "chat_template.json"):
        if (folder / name).is_file():
            content = read_json(folder / name)
            template = _default(content.get("chat_template") if isinstance(content, dict) else None)
            if template is not None:
                return template
    path = folder / "openvino_tokenizer.xml"
    return _in_ir(path) if path.is_file() else None


def _default(template: Any) -> str | None:
    """A template, or of a list of named ones the default."""
    if isinstance(template, list):
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _in_ir(path: Path) -> str | None:
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise TokenizerError(f"{path} is not an OpenVINO model ({error}): fetch it again") from error
    for place in ("rt_info/chat_template", "rt_info/chat_template/default"):
        found = root.find(place)
        if found is not None and found.get("value"):
            return found.get("value")
    return None


def _checked(messages: Any) -> list[Any]:
    if isinstance(messages, str) or not isinstance(messages, Sequence) or not messages:
        raise RequestError(f'messages must be a list of {{"role": ..., "content": ...}}, got {messages!r:.80}')
    for index, message in enumerate(messages):
        name = f"messages[{index}]"
        if not isinstance(message, Mapping):
            raise RequestError(f"{name} must be a mapping with role and content, got {message!r:.80}")
        if not isinstance(message.get("role"), str):
            raise RequestError(f"{name} must have a role such as 'user', got {message.get('role')!r:.80}")
        content = message.get("content")
        absent = content is None and bool(message.get("tool_calls"))
        if not absent and not isinstance(content, (str, list, tuple, Mapping)):
            raise RequestError(f"the content of {name} must be text, or parts of it, got {content!r:.80}")
    return [_plain(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _plain(value: Any, name: str) -> Any:
    """A copy of plain data. Templates are programs from elsewhere: they get no object with methods of its own."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{name}[{index}]") for index, item in enumerate(value)]
    raise RequestError(f"{name} must be plain data (text, numbers, lists, mappings), got a {type(value).__name__}")
