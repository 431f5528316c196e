"""Every form of every model gives the logits that Hugging Face, or plain OpenVINO, computes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import ovgen
from ovgen.errors import UnsupportedModelError
from ovgen.graph import read_ir
from ovgen.runtime.forms import Form
from tests.conftest import F32
from tests.graph.test_logits import golden
from tests.graph.tools import compile_exact
from tests.tiny_models import VARIANTS, make

IR = Path(__file__).resolve().parents[1] / "golden" / "ir"
FORMS: tuple[Form, ...] = ("paged", "stateful", "static")
CAPPED = ("gemma2", "gemma2-layer-types")
"""The variants that cannot be paged."""
NO_CAP = "the paged form has no soft cap on attention scores"
IDS = [1, 17, 250, 3, 99, 42, 7, 7, 181, 60, 299, 5, 0, 12, 130, 77, 210, 8]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_hugging_face(variant: str, form: Form, tmp_path: Path) -> None:
    if variant in CAPPED and form == "paged":
        form = "auto"
    case = golden(variant)
    row = int(case.attention_mask.all(1).argmax())  # the one without padding
    ids = case.input_ids[row].tolist()
    context = len(ids)  # longrope chooses by it; Hugging Face, by the length of what it was given
    llm = ovgen.LLM(
        make(variant, tmp_path), device_config=F32, form=form, max_num_batched_tokens=64, max_model_len=context
    )
    at_once = llm.session().forward(ids)
    session = llm.session()
    in_pieces = [session.forward(ids[:10]), session.forward(ids[10:11]), session.forward(ids[11:])]
    for logits in (at_once, np.concatenate(in_pieces)):
        np.testing.assert_allclose(logits[case.kept], case.logits[row], atol=1e-4, rtol=0)
    assert llm.form == ("stateful" if form == "auto" else form)
    assert [fallback.reason for fallback in llm.fallbacks] == ([NO_CAP] if form == "auto" else [])


@pytest.mark.parametrize("variant", CAPPED)
def test_capped_scores_are_refused_where_the_paged_form_is_a_must(variant: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=NO_CAP):
        ovgen.LLM(make(variant, tmp_path), form="paged")


@pytest.mark.parametrize("form", FORMS)
def test_a_prompt_longer_than_a_step_gives_the_same_logits(tiny_llama: Path, form: Form) -> None:
    whole = ovgen.LLM(tiny_llama, device_config=F32, form=form)
    chunked = ovgen.LLM(tiny_llama, device_config=F32, form=form, max_num_batched_tokens=7, max_num_seqs=2)
    np.testing.assert_allclose(chunked.session().forward(IDS * 6), whole.session().forward(IDS * 6), atol=1e-4, rtol=0)


@pytest.fixture(params=["llama-stateless", "llama-int4", "gpt2-int8", "mistral-window", "gpt-neo-local"])
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An IR folder as optimum-intel exported it."""
    with zipfile.ZipFile(IR / f"{request.param}.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path


def plain_openvino(folder: Path) -> NDArray[np.float32]:
    """Logits ``(len(IDS), vocab)`` of the IR as it is, computed in one inference."""
    compiled = compile_exact(read_ir(folder))
    feed = {"input_ids": [IDS], "attention_mask": [[1] * len(IDS)], "position_ids": [list(range(len(IDS)))]}
    inputs = {name: np.array(value, np.int64) for name, value in feed.items()}
    for port in compiled.inputs:
        name = port.get_any_name()
        if name == "beam_idx":
            inputs[name] = np.zeros(1, np.int32)
        elif name.startswith("past_key_values"):
            shape = port.partial_shape
            inputs[name] = np.zeros((1, shape[1].get_length(), 0, shape[3].get_length()), np.float32)
    logits: NDArray[np.float32] = compiled(inputs)["logits"][0]
    return logits


@pytest.mark.parametrize("form", FORMS)
def test_what_optimum_exported_runs_as_it_is(exported: Path, form: Form) -> None:
    llm = ovgen.LLM(exported, device_config=F32, form=form, kernels="off")
    session = llm.session()
    logits = np.concatenate([session.forward(IDS[:9]), session.forward(IDS[9:10]), session.forward(IDS[10:])])
    np.testing.assert_allclose(logits, plain_openvino(exported), atol=1e-4, rtol=0)
    assert llm.form == form


def test_the_stateless_export_gives_hugging_faces_logits(tmp_path: Path) -> None:
    with zipfile.ZipFile(IR / "llama-stateless.zip") as archive:
        archive.extractall(tmp_path)
    case = golden("llama")
    row = int(case.attention_mask.all(1).argmax())
    logits = ovgen.LLM(tmp_path, device_config=F32).session().forward(case.input_ids[row].tolist())
    np.testing.assert_allclose(logits[case.kept], case.logits[row], atol=1e-4, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_compressed_weights_stay_compressed(form: Form, tmp_path: Path) -> None:
    with zipfile.ZipFile(IR / "llama-int4.zip") as archive:
        archive.extractall(tmp_path)
    llm = ovgen.LLM(tmp_path, form=form, kernels="off")
    runner = llm.engine.runner
    types = {
        op.get_output_element_type(0).get_type_name()
        for op in runner.compiled.get_runtime_model().get_ops()  # type: ignore[attr-defined]
        if str(op.get_rt_info()["layerType"].get()) == "Const"
    }
    assert types & {"u4", "i4"}


@pytest.mark.parametrize("precision", ["f32", "f16", "u8", "u4"])
def test_the_cache_precision_is_the_users_choice(tiny_llama: Path, precision: str, tmp_path: Path) -> None:
    exact = ovgen.LLM(tiny_llama, device_config=F32).session().forward(IDS)
    llm = ovgen.LLM(tiny_llama, device_config={**F32, "KV_CACHE_PRECISION": precision})
    session = llm.session()
    session.forward(IDS[:-1])
    logits = session.forward(IDS[-1:])
    assert precision in llm.engine.runner.cache_layout
    close = np.corrcoef(logits[0], exact[-1])[0, 1]  # of the same token with everything cached and with nothing
    assert close > {"f32": 0.999999, "f16": 0.99999, "u8": 0.999, "u4": 0.8}[precision]
    session.trim(5)
    session.save(tmp_path / "s.kv")
    again = llm.session(tmp_path / "s.kv")
    np.testing.assert_array_equal(again.forward([9, 8]), session.forward([9, 8]))


def test_growing_the_cache_keeps_what_is_in_it(tiny_llama: Path) -> None:
    llm = ovgen.LLM(tiny_llama, device_config=F32)
    first = llm.session()
    first.forward(IDS)
    expected = first.forward([5])
    first.trim(len(IDS))
    size = llm.engine.pool.size
    others = [llm.session() for _ in range(size + 1)]  # one block each: the pool must grow
    for other in others:
        other.forward([1])
    assert llm.engine.pool.size > size
    np.testing.assert_array_equal(first.forward([5]), expected)
