"""What ovgen writes, its peers run, with the same tokens. Skipped where they are not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

import ovgen
from tests.conftest import F32

PROMPT = "One day, a little fox"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model as an IR folder."""
    return ovgen.convert(ovgen.bundled_model(), tmp_path_factory.mktemp("ir") / "storyteller")


@pytest.fixture(scope="module")
def expected(folder: Path) -> str:
    return ovgen.LLM(folder, device_config=F32).generate(PROMPT, max_new_tokens=40, temperature=0).text


@pytest.mark.parametrize("backend", ["SDPA", "PA"])
def test_openvino_genai(folder: Path, expected: str, backend: str) -> None:
    genai = pytest.importorskip("openvino_genai", reason="openvino-genai is not installed")
    pipeline = genai.LLMPipeline(str(folder), "CPU", ATTENTION_BACKEND=backend, **F32)
    config = genai.GenerationConfig(max_new_tokens=40, do_sample=False, apply_chat_template=False)
    assert pipeline.generate(PROMPT, config) == expected


def test_optimum_intel(folder: Path, expected: str) -> None:
    optimum = pytest.importorskip("optimum.intel", reason="optimum-intel is not installed")
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = optimum.OVModelForCausalLM.from_pretrained(folder, ov_config=F32)
    prompt = tokenizer(PROMPT, return_tensors="pt")
    tokens = model.generate(**prompt, max_new_tokens=40, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(tokens, skip_special_tokens=True) == expected
