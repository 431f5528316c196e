"""docs/parity.md is complete: each name recorded of openvino.genai has one row, and what is given as ours is there."""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

import ovgen
from ovgen.config import EngineConfig, SamplingParams, StructuredOutputs
from ovgen.engine.engine import Engine
from ovgen.engine.request import Request

ROOT = Path(__file__).resolve().parent.parent
NAMES: dict[str, list[str]] = json.loads((ROOT / "tests" / "golden" / "parity.json").read_text())["names"]
PAGE = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
NO = "no"

Row = tuple[str, str, str]


def tables() -> dict[str, list[Row]]:
    """The rows of the tables ``theirs | ours | remarks``, by the heading that they stand under."""
    _, *sections = re.split(r"^##+ (.+)\n", PAGE, flags=re.MULTILINE)
    found = {}
    for heading, text in zip(sections[::2], sections[1::2], strict=True):
        header, _, *rows = re.findall(r"^\| (.*?) \| (.*?) \| ?(.*?) ?\|$", text, re.MULTILINE) or [("", "", "")] * 2
        if header[1] == "ours":
            found[heading] = rows
    return found


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


TABLES = tables()
ROWS = [row for rows in TABLES.values() for row in rows]
THEIRS = {heading: rows for heading, rows in TABLES.items() if heading != "Hugging Face and vLLM"}
OURS = sorted({name for _, ours, _ in ROWS for name in named(ours)})
OPTIONS = {
    *(field.name for config in (SamplingParams, EngineConfig) for field in fields(config)),
    *inspect.signature(ovgen.LLM).parameters,
} - {"engine_options"}
CLASSES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        ovgen.LLM,
        ovgen.AsyncEngine,
        ovgen.GenerationOutput,
        ovgen.RequestMetrics,
        EngineConfig,
        SamplingParams,
        StructuredOutputs,
        Engine,
        Request,
    )
}


def attributes(cls: type) -> set[str]:
    """What instances of a class have: of its body, its fields, and those that are set when it is made."""
    made = set(re.findall(r"self\.(\w+) =", inspect.getsource(cls)))
    declared = {field.name for field in fields(cls)} if is_dataclass(cls) else set()
    return {name for name in {*dir(cls), *made, *declared} if not name.startswith("_")}


def test_each_class_and_function_has_a_table_and_no_other() -> None:
    assert sorted(THEIRS) == sorted(NAMES)


@pytest.mark.parametrize("section", NAMES)
def test_each_name_of_theirs_has_one_row(section: str) -> None:
    given = Counter(name for theirs, _, _ in THEIRS[section] for name in named(theirs))
    assert given == Counter(NAMES[section])


@pytest.mark.parametrize("name", OURS)
def test_what_is_ours_is_there(name: str) -> None:
    cls, _, attribute = name.partition(".")
    if attribute:
        assert attribute in attributes(CLASSES[cls])
    else:
        assert name in OPTIONS or name in ovgen.__all__


def test_each_row_says_what_is_ours_or_why_nothing_is() -> None:
    for theirs, ours, remarks in ROWS:
        assert (ours == NO) != bool(named(ours)), theirs
        assert remarks or ours != NO, f"{theirs}: why not?"


def test_remarks_that_send_to_another_row_find_it() -> None:
    for section, rows in THEIRS.items():
        for theirs, _, remarks in rows:
            for target in re.findall(r"see `(\w+)`", remarks):
                cells = [cell for other in THEIRS.values() for cell, _, text in other if "see `" not in text]
                assert any(target in named(cell) for cell in cells), f"{section}, {theirs}: {target}"
