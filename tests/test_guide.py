"""The guide's tables against the code: all options have a row, and quoted messages are those that are raised."""

import ast
import inspect
import re
from collections import Counter
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

import ovgen
from ovgen import env
from ovgen.config import EngineConfig

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
MESSAGES = re.findall(r"^\| `([^`]+)` \|", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
CONFIGURATION = (DOCS / "configuration.md").read_text(encoding="utf-8")


def rows(heading: str) -> Counter[str]:
    """The names in the first column of the table under a heading."""
    section = re.split(rf"^## {heading}\n", CONFIGURATION, flags=re.MULTILINE)[1].split("\n## ")[0]
    return Counter(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


@cache
def texts() -> tuple[str, ...]:
    """Every string of the code; what an f-string fills in is a NUL."""
    found = []
    for file in (ROOT / "ovgen").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "\0" for v in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


@pytest.mark.parametrize("message", MESSAGES)
def test_quoted_messages_are_those_of_the_code(message: str) -> None:
    pieces = [re.escape(piece) for piece in re.split(r" ?\.\.\. ?", message) if piece]
    assert any(re.search(".*".join(pieces), text, re.DOTALL) for text in texts())


def test_each_option_has_one_row_with_its_default() -> None:
    loading = inspect.signature(ovgen.LLM).parameters
    assert rows("Loading") == Counter(name for name in loading if name != "engine_options")
    assert rows("The engine") == Counter(field.name for field in fields(EngineConfig))
    defaults = {name: each.default for name, each in loading.items() if each.default is not each.empty}
    defaults |= {field.name: field.default for field in fields(EngineConfig)}
    given = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", CONFIGURATION, re.MULTILINE))
    assert {name: ast.literal_eval(text) for name, text in given.items()} == defaults


def test_each_environment_variable_has_one_row() -> None:
    ours = ["CXX", "OVGEN_HOME", "OVGEN_LOG", *(f"OVGEN_{name.upper()}" for name in env.OVERRIDES)]
    assert rows("Environment variables") == Counter(ours)
