"""What a new process has imported by the time it imports ovgen, loads a model and generates: nothing too early."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import ovgen
from tests.tiny_models import make

EACH_STAGE = """
import json, sys
def say(stage):
    loaded[stage] = sorted({name.split(".")[0] for name in sys.modules})
loaded = {}
import ovgen
say("import")
ovgen.SamplingParams(temperature=1.0), ovgen.EngineConfig(), ovgen.bundled_model()
say("options")
ovgen.LLM
say("LLM")
llm = ovgen.LLM(sys.argv[1])
say("load")
llm.generate([3, 7, 11], max_new_tokens=3, temperature=1.0, num_beams=1)
say("generate")
print(json.dumps(loaded))
"""
LATER = {"numpy", "openvino"}
"""What comes with the first use of `ovgen.LLM`."""
ON_DEMAND = {"jinja2", "llguidance", "matplotlib", "openvino_tokenizers", "platformdirs", "tokenizers", "tqdm", "yaml"}
"""What only some uses need: text, chats, grammars, compressed copies, progress bars, configuration files."""


def stages(model: Path) -> dict[str, set[str]]:
    """Top-level modules that a new process has by then."""
    command = [sys.executable, "-c", EACH_STAGE, str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {stage: set(names) for stage, names in json.loads(done.stdout).items()}


@pytest.fixture(scope="module")
def without_text(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """A model without a tokenizer."""
    return stages(make("gpt2", tmp_path_factory.mktemp("gpt2")))


@pytest.mark.parametrize("stage", ["import", "options"])
def test_options_take_neither_numpy_nor_openvino(without_text: dict[str, set[str]], stage: str) -> None:
    assert not without_text[stage] & (LATER | ON_DEMAND)


@pytest.mark.parametrize("stage", ["LLM", "load", "generate"])
def test_token_ids_take_no_library_of_text(without_text: dict[str, set[str]], stage: str) -> None:
    assert without_text[stage] >= LATER
    assert not without_text[stage] & ON_DEMAND


def test_text_takes_the_tokenizer_alone() -> None:
    loaded = stages(ovgen.bundled_model())
    assert loaded["load"] & ON_DEMAND == loaded["generate"] & ON_DEMAND == {"tokenizers"}
