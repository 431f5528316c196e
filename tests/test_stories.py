"""A really trained model says what its author published."""

from __future__ import annotations

from pathlib import Path

import pytest

import ovgen
from ovgen.runtime.forms import Form
from tests.conftest import F32
from tests.shared_data import SHARED, needs_shared

FOLDER = SHARED / "stories260K"


def published() -> str:
    """The text that the data's own README quotes, greedy from BOS alone."""
    lines = (SHARED / "README.md").read_text("utf-8").split("must read:")[1].splitlines()
    return "\n".join(line[2:] for line in lines if line.startswith("> "))


@needs_shared
@pytest.mark.parametrize("form", ["paged", "stateful", "static"])
@pytest.mark.parametrize("source", ["Hugging Face", "IR"])
def test_greedy_text_is_the_published_one(source: str, form: Form, tmp_path: Path) -> None:
    folder = FOLDER if source == "Hugging Face" else ovgen.convert(FOLDER, tmp_path / "ir")
    out = ovgen.LLM(folder, device_config=F32, form=form).generate("", max_new_tokens=200)
    assert out.prompt_token_ids == (1,)
    assert out.text == published()
