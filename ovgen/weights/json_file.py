"""JSON files of a model folder, read without trusting them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ovgen.errors import CorruptFileError, ModelNotFoundError

__all__ = ["Config", "parse_object", "read_json"]


class Config(dict[str, Any]):
    """The object of a ``config.json``, or what stands for it, which knows what error messages call it.

    Attributes:
        source: that name, a path say.
    """

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        super().__init__(values)
        self.source = source


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ModelNotFoundError: there is no such file.
        CorruptFileError: it cannot be read or is not a JSON object; the message names the file and position.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ModelNotFoundError(
            f"{path} does not exist: is {path.parent} the folder of a Hugging Face model?"
        ) from None
    except OSError as error:
        raise CorruptFileError(f"{path} cannot be read: {error}") from error
    return parse_object(raw, str(path))


def parse_object(raw: bytes, source: str) -> dict[str, Any]:
    """The JSON object in ``raw`` (UTF-8); ``source`` is what error messages call it.

    Stricter than ``json.loads``, which keeps the last of two equal keys and takes NaN and Infinity.

    Raises:
        CorruptFileError: not UTF-8, not JSON, not an object, a repeated key, or nested beyond reason.
    """
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{source} is not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise CorruptFileError(f"{source} is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise CorruptFileError(f"{source} is not a model's JSON: nested too deeply") from None
    except ValueError as error:  # repeated keys, NaN, integers of thousands of digits
        raise CorruptFileError(f"{source} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise CorruptFileError(f"{source} must hold a JSON object, not {type(value).__name__}")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        (repeated, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {repeated!r:.120} occurs twice")
    return seen


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")
