"""Which of longrope's factors hold is decided once, by the longest sequence, and told."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import ovgen
from ovgen.errors import CacheFileError
from ovgen.graph.passes import settle_longrope
from ovgen.runtime.forms import Form, Runners
from ovgen.runtime.runner import Chunk
from tests import tiny_gguf
from tests.conftest import F32
from tests.graph.test_logits import golden
from tests.graph.tools import build
from tests.tiny_models import VARIANTS, make

ORIGINAL = 16
"""The original context of "phi3-longrope"."""
SHORT, LONG = ORIGINAL, ORIGINAL + 1
"""The longest ``max_model_len`` that takes the short factors, the shortest that takes the long ones."""
FACTORS = VARIANTS["phi3-longrope"].config["rope_scaling"]
FORMS: tuple[Form, ...] = ("paged", "stateful", "static")
IDS = [1, 17, 250, 3, 99, 42, 7, 7, 181, 60, 299, 5]
"""A prompt that the short factors would do for."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("phi3-longrope", tmp_path_factory.mktemp("longrope") / "model")


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Models that have nothing to choose: their factors are the short, or the long ones, however long a sequence."""
    root = tmp_path_factory.mktemp("twins")

    def only(kind: str) -> Path:
        same = FACTORS | dict.fromkeys(("short_factor", "long_factor"), FACTORS[f"{kind}_factor"])
        return make("phi3-longrope", root / kind, rope_scaling=same)

    return {SHORT: only("short"), LONG: only("long")}


def logits(path: Path, context: int, ids: list[int] = IDS, form: Form = "paged") -> NDArray[np.float32]:
    llm = ovgen.LLM(path, device_config=F32, form=form, max_model_len=context)
    session = llm.session()
    return np.concatenate([session.forward(ids[:7]), session.forward(ids[7:8]), session.forward(ids[8:])])


def compressed(folder: Path, target: Path) -> Path:
    return ovgen.convert(folder, target, "int8")


def as_gguf(folder: Path, target: Path) -> Path:
    return tiny_gguf.write(folder, target.with_suffix(".gguf"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("context", [SHORT, LONG])
@pytest.mark.parametrize("stored", [None, ovgen.convert, compressed, as_gguf])
def test_the_context_decides_however_short_the_prompt(
    stored: Callable[[Path, Path], Path] | None,
    context: int,
    form: Form,
    model: Path,
    twins: dict[int, Path],
    tmp_path: Path,
) -> None:
    twin = twins[context]
    if stored is not None:
        model = stored(model, tmp_path / "model")
        twin = compressed(twin, tmp_path / "twin") if stored is compressed else twin
    expected = logits(twin, context)
    np.testing.assert_allclose(logits(model, context, form=form), expected, rtol=0, atol=1e-4)
    other = logits(model, LONG if context == SHORT else SHORT, form=form)
    assert np.abs(other - expected).max() > 0.05


def test_a_compressed_copy_of_the_cache_chooses_by_the_context(model: Path, twins: dict[int, Path]) -> None:
    for context, twin in twins.items():
        pair = [ovgen.LLM(each, device_config=F32, weights="int8", max_model_len=context) for each in (model, twin)]
        ours, expected = (llm.session().forward(IDS) for llm in pair)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_neither_the_batch_nor_the_chunks_change_a_result(form: Form, model: Path) -> None:
    case = golden("phi3-longrope")
    row = int(case.attention_mask.all(1).argmax())
    ids = case.input_ids[row].tolist()
    llm = ovgen.LLM(model, device_config=F32, form=form, max_num_batched_tokens=7, max_num_seqs=2)
    np.testing.assert_allclose(llm.session().forward(ids)[case.kept], case.logits[row], rtol=0, atol=1e-4)
    params = ovgen.SamplingParams(max_new_tokens=8, ignore_eos=True, prompt_logprobs=1)
    prompts = [ids[:5], ids]  # one that ends before the original context, one that ends beyond it
    for prompt, together in zip(prompts, llm.generate(prompts, params), strict=True):
        alone = llm.generate(prompt, params)
        assert together.token_ids == alone.token_ids
        np.testing.assert_allclose(logprobs(together), logprobs(alone), rtol=0, atol=1e-4)


def logprobs(output: ovgen.GenerationOutput) -> list[float]:
    assert output.prompt_logprobs is not None
    return [each.logprob for each in output.prompt_logprobs if each is not None]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("variant", ["phi3-longrope", "phi3-longrope-short"])
def test_a_graph_that_is_left_to_choose_does_so_for_each_call(variant: str, form: Form, tmp_path: Path) -> None:
    """As programs do that read what ovgen wrote."""
    case = golden(variant)
    row = int(case.attention_mask.all(1).argmax())
    ids = case.input_ids[row].tolist()
    runner = Runners(build(make(variant, tmp_path)), ["CPU"], F32, form, ovgen.EngineConfig(), len(ids)).make()
    runner.resize(4)
    runner.start([Chunk(0, ids, 0, range(4), len(ids))])
    np.testing.assert_allclose(runner.wait()[case.kept], case.logits[row], rtol=0, atol=1e-4)


def test_what_was_chosen_is_returned_once(model: Path, tiny_llama: Path) -> None:
    graph = build(model)
    assert settle_longrope(graph, LONG) == {ORIGINAL: True}
    assert settle_longrope(graph, LONG) == {}, "it is settled"
    assert settle_longrope(build(model), SHORT) == {ORIGINAL: False}
    assert settle_longrope(build(tiny_llama), LONG) == {}


def test_what_was_chosen_is_told(model: Path, tiny_llama: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ovgen")
    ovgen.LLM(tiny_llama)
    assert "longrope" not in caplog.text
    ovgen.LLM(model)
    assert re.findall("longrope: .*", caplog.text) == [
        "longrope: long factors, since the context of 256 exceeds 16; max_model_len=16 takes the short ones"
    ]
    caplog.clear()
    ovgen.LLM(model, max_model_len=SHORT)
    assert "longrope: short factors, since the context of 16 does not exceed 16" in caplog.text


def test_a_saved_session_goes_on_with_the_factors_it_began_with(model: Path, tmp_path: Path) -> None:
    saved = tmp_path / "session"
    with ovgen.LLM(model, max_model_len=SHORT).session() as session:
        session.forward(IDS)
        session.save(saved)
    assert len(ovgen.LLM(model, max_model_len=SHORT - 1).session(saved)) == len(IDS)
    with pytest.raises(CacheFileError, match=r"short factors.*long factors"):
        ovgen.LLM(model).session(saved)
