"""A really trained model says what its author published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from tokenizers import Tokenizer

from ovgen.graph import read_config, read_ir, save_ir
from tests.graph.tools import build, compile_exact
from tests.shared_data import SHARED, needs_shared

FOLDER = SHARED / "stories260K"


def published() -> str:
    """The text that the data's own README quotes, greedy from BOS alone."""
    lines = (SHARED / "README.md").read_text("utf-8").split("must read:")[1].splitlines()
    return "\n".join(line[2:] for line in lines if line.startswith("> "))


def greedy(model: ov.Model, count: int) -> list[int]:
    """BOS and the ``count`` tokens that follow it."""
    request = compile_exact(model).create_infer_request()
    tokens = [1]
    for past in range(count):
        request.infer(
            {
                "input_ids": np.array([tokens[-1:]]),
                "attention_mask": np.ones((1, past + 1), np.int64),
                "position_ids": np.array([[past]]),
                "beam_idx": np.zeros(1, np.int32),
            }
        )
        tokens.append(int(request.get_tensor("logits").data[0, -1].argmax()))
    return tokens


@needs_shared
@pytest.mark.parametrize("form", ["built", "saved and read"])
def test_greedy_text_is_the_published_one(form: str, tmp_path: Path) -> None:
    model = build(FOLDER)
    if form == "saved and read":
        model = read_ir(save_ir(model, tmp_path / "ir", read_config(FOLDER), FOLDER))
    text = Tokenizer.from_file(str(FOLDER / "tokenizer.json")).decode(greedy(model, 200))
    assert text.strip() == published()
