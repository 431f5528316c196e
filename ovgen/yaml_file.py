"""YAML files that people write: read safely, and with the line of every key, so that messages can name it."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ovgen.config import nearest
from ovgen.errors import ConfigError

__all__ = ["Section", "read_yaml"]

_T = TypeVar("_T")


class Section:
    """A mapping in a file. A key without a value counts as one that is not there.

    Attributes:
        file: the file.
        name: the keys that lead to the section, joined by dots; empty for the file as a whole.
        keys: all of them, as YAML reads them: an ``on`` without quotes is True.
        values: by key; other sections are plain mappings here.
    """

    def __init__(self, file: Path, name: str, values: Mapping[str, Any], lines: Mapping[Hashable, int]) -> None:
        self.file = file
        self.name = name
        self.values = {key: value for key, value in values.items() if value is not None}
        self.keys = list(values)
        self._lines = lines

    def where(self, key: str) -> str:
        """What a person finds the key by: ``optimization.device, line 7``."""
        return f"{self._path(key)}, line {self._lines[key]}"

    def error(self, key: str, message: str) -> ConfigError:
        """An error that names file, line and key."""
        line = f", line {self._lines[key]}" if key in self._lines else ""
        return ConfigError(f"{self.file}{line}: {self._path(key)} {message}")

    def check_keys(self, known: Sequence[str]) -> None:
        """Raise `ConfigError` if there is a key that is not ``known``; the message has the nearest of those."""
        for key in self.keys:
            if not isinstance(key, str):
                raise self.error(key, "is not a name, as YAML reads it: put it in quotes")
            if key not in known:
                raise self.error(key, f"is not known{nearest(key, known)}")

    def get(self, key: str, check: Callable[[Any], _T]) -> _T | None:
        """The value of a key as ``check`` returns it; None if it is not there.

        Raises:
            ConfigError: ``check`` raised it, with a message that begins "must be".
        """
        if key not in self.values:
            return None
        value = self.values[key]
        try:
            return check(value)
        except ConfigError as error:
            hint = " (YAML takes yes, no, on and off for that: put it in quotes)" if isinstance(value, bool) else ""
            raise self.error(key, f"{error}{hint}") from None

    def section(self, key: str, *, short_for: str | None = None) -> Section:
        """The section under a key; an empty one if there is none.

        Args:
            key: the key.
            short_for: if there is a text instead, it stands for a section with that under this key.

        Raises:
            ConfigError: the key has another value.
        """
        values = self.values.get(key, _Mapping())
        if short_for is not None and isinstance(values, str):
            return Section(self.file, self._path(key), {short_for: values}, {short_for: self._lines[key]})
        if not isinstance(values, _Mapping):
            raise self.error(key, f"must be a section with keys of its own, got {values!r:.80}")
        return Section(self.file, self._path(key), values, values.lines)

    def _path(self, key: object) -> str:
        shown = str(key) or "''"
        return f"{self.name}.{shown}" if self.name else shown


def read_yaml(file: Path) -> Section:
    """The mapping in a YAML file.

    Anchors and merge keys work; tags that make objects do not. A key that occurs twice is an error.

    Raises:
        ConfigError: the file cannot be read, or is not YAML with a mapping; the message names the line.
    """
    try:
        value = yaml.load(file.read_bytes(), _Loader)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = "" if mark is None else f", line {mark.line + 1}"
        raise ConfigError(f"{file}{line}: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # not text; a date that there is not
        message = str(error).replace("\n", " ")
        raise ConfigError(f"{file} is not YAML: {message}") from error
    if not isinstance(value, _Mapping):
        raise ConfigError(f"{file} must hold sections, such as `models:`; it holds {value!r:.80}")
    return Section(file, "", value, value.lines)


class _Mapping(dict[Any, Any]):
    """A mapping with the line that each of its keys stands in."""

    lines: dict[Hashable, int]

    def __init__(self) -> None:
        super().__init__()
        self.lines = {}


class _Loader(yaml.SafeLoader):
    """Safe, strict about repeated keys, and with the numbers of YAML 1.2: ``1e-5`` is one."""


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> Iterator[_Mapping]:
    mapping = _Mapping()
    yield mapping  # to be filled below: it may contain itself
    seen = set()
    for key_node, _ in node.value:
        key = _key(loader, key_node)
        if key in seen:
            problem = f"the key {key!r:.80} occurs twice"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)  # puts what `<<` merges before the mapping's own keys
    for key_node, value_node in node.value:
        key = _key(loader, key_node)
        mapping.lines[key] = key_node.start_mark.line + 1
        mapping[key] = loader.construct_object(value_node)


def _key(loader: _Loader, node: yaml.Node) -> Hashable:
    if not isinstance(node, yaml.ScalarNode):
        raise yaml.constructor.ConstructorError(problem="a key must be a name", problem_mark=node.start_mark)
    if node.tag == "tag:yaml.org,2002:merge":
        return "<<"
    key: Hashable = loader.construct_object(node)
    return key


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
