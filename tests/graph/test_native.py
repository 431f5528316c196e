"""Lowering compressed matrices to operations of our own: what is found, what becomes one, and that nothing changes."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset15 as op
import pytest
from numpy.typing import NDArray

from ovgen.graph import build_model, read_config, read_ir
from ovgen.graph.attention import attentions
from ovgen.graph.passes import (
    StaticShape,
    select_rows,
    settle_longrope,
    to_paged,
    to_static,
)
from ovgen.graph.passes.rows import head_input
from ovgen.graph.private import TransformationError
from ovgen.runtime.paged import PagedRunner
from ovgen.runtime.runner import Chunk
from ovgen.runtime.windows import attention_windows
from ovgen.weights import Compression, open_checkpoint
from tests.conftest import F32
from tests.graph.native_ops import codes_in, kinds, lowered, names
from tests.graph.tools import compile_exact
from tests.tiny_models import VARIANTS

FolderOf = Callable[[str], Path]
IR = Path(__file__).resolve().parents[1] / "golden" / "ir"
COMPRESSIONS = {
    "int8": Compression(weights="int8"),
    "int8-sym": Compression(weights="int8", symmetric=True),
    "int4": Compression(weights="int4", group_size=32),
    "int4-sym": Compression(weights="int4", group_size=32, symmetric=True),
    "int4-rows": Compression(weights="int4", group_size=-1, embeddings="int4"),
}
SHAPE = StaticShape(batch=1, tokens=3, context=16, rows=1)


def build(folder: Path, kind: str = "int8") -> ov.Model:
    return build_model(read_config(folder), open_checkpoint(folder), COMPRESSIONS[kind])


def unpacked(name: str, tmp_path: Path) -> ov.Model:
    with zipfile.ZipFile(IR / f"{name}.zip") as archive:
        archive.extractall(tmp_path)
    return read_ir(tmp_path)


def logits(model: ov.Model) -> NDArray[np.float32]:
    """Of a prompt of 19 tokens, and of a step of one."""
    request = compile_exact(model).create_infer_request()
    given = []
    for ids, past in ((np.arange(5, 24)[None], 0), (np.array([[7]]), 19)):
        end = past + ids.shape[1]
        inputs = {"input_ids": ids, "attention_mask": np.ones((1, end), np.int64)}
        inputs |= {"position_ids": np.arange(past, end)[None], "beam_idx": np.zeros(1, np.int32)}
        request.infer({name: inputs[name] for port in model.inputs for name in port.get_names()})
        given.append(np.array(request.get_tensor("logits").data))
    return np.concatenate(given, 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_of_every_family_stay_the_same(variant: str, folder_of: FolderOf) -> None:
    model = build(folder_of(variant))
    native, report, _ = lowered(model)
    assert report.skipped == []
    assert codes_in(native) == []
    np.testing.assert_allclose(logits(native), logits(model), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", COMPRESSIONS)
@pytest.mark.parametrize("variant", ["llama-bias-untied", "phi3", "gpt2"])
def test_logits_stay_the_same_whatever_the_precision(variant: str, kind: str, folder_of: FolderOf) -> None:
    model = build(folder_of(variant), kind)
    native, report, ops = lowered(model)
    assert report.skipped == []
    assert codes_in(native) == []
    assert report.nbytes == sum(packed.nbytes for packed in ops.packed)
    np.testing.assert_allclose(logits(native), logits(model), rtol=0, atol=1e-4)


FLOATS = {"as-stored": None, "f16": Compression(weights="f16")}


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_floats_are_lowered_as_codes_are(variant: str, kind: str, folder_of: FolderOf) -> None:
    folder = folder_of(variant)
    model = build_model(read_config(folder), open_checkpoint(folder), FLOATS[kind])
    native, report, ops = lowered(model, floats=True)
    _, of_codes, _ = lowered(build(folder), floats=True)
    assert report.skipped == []
    assert (report.linears, report.operations, report.gated) == (
        of_codes.linears,
        of_codes.operations,
        of_codes.gated,
    )
    assert report.nbytes == sum(packed.nbytes for packed in ops.packed)
    np.testing.assert_allclose(logits(native), logits(model), rtol=0, atol=1e-4)
    assert attention_windows(native) == attention_windows(model)
    untouched, none, _ = lowered(model)
    assert not none
    assert kinds(untouched) == kinds(model)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_form_takes_a_lowered_model(variant: str, folder_of: FolderOf) -> None:
    model = build(folder_of(variant))
    native, _, _ = lowered(model)
    assert settle_longrope(native, 64) == settle_longrope(model, 64)
    windows = attention_windows(native)
    assert windows == attention_windows(model)

    by_rows = native.clone()
    select_rows(by_rows, axis=1)
    forms = [by_rows, to_static(native, windows, SHAPE, ov.Type.f32)]
    if not variant.startswith("gemma2"):  # its capped attention has no paged form
        forms.append(to_paged(native, windows))
    for form in forms:
        head = head_input(form)
        assert head.get_node().get_type_name() == "PackedLinear"
        assert head.get_node().get_friendly_name() == ("embed_out" if variant.startswith("gpt-neox") else "lm_head")
        assert head.get_source_output().get_node().get_friendly_name() == "wanted_rows"


def test_a_mask_that_the_lowered_network_computes_is_refused(folder_of: FolderOf) -> None:
    native, _, _ = lowered(build(folder_of("llama")))
    first = next(attentions(native))
    extra = op.reduce_sum(first.q, op.constant([0, 1, 2, 3]), False)
    first.mask.replace_source_output(op.add(first.mask.get_source_output(), extra).output(0))
    with pytest.raises(TransformationError, match="an attention mask depends on what the network computes"):
        attention_windows(native)


def test_windows_are_not_looked_for_behind_the_next_layer(folder_of: FolderOf) -> None:
    native, _, _ = lowered(build(folder_of("llama")))
    with pytest.raises(TransformationError, match="it cannot be told which attention this was"):
        to_paged(native, {"lm_head": 5})  # every way from an attention leads there, through another layer


@pytest.mark.parametrize("variant", ["llama", "gpt2", "gemma3"])
def test_every_form_computes_the_same(variant: str, folder_of: FolderOf) -> None:
    model = build(folder_of(variant))
    native, _, _ = lowered(model)
    windows = attention_windows(model)
    results = []
    for each in (model, native):
        runner = PagedRunner(to_paged(each, windows), "CPU", F32, depth=1)
        runner.resize(4)
        runner.start([Chunk(0, [5, 6, 7, 8, 9], 0, [0], 3)])
        paged = runner.wait().copy()
        static = compile_exact(to_static(each, windows, SHAPE, ov.Type.f32))
        ids = {"input_ids": np.array([[5, 6, 7]]), "position_ids": np.array([[0, 1, 2]])}
        feed = {port.get_any_name(): np.zeros(port.shape, port.element_type.to_dtype()) for port in static.inputs}
        results.append((paged, static(feed | ids)["logits"]))
    for expected, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


# MatMuls, operations, gates, embeddings
COUNTS = {
    "llama": (22, 13, 3, 1),
    "qwen2": (22, 13, 3, 1),
    "phi3": (13, 13, 3, 1),  # queries, keys and values, and gates, are split from one matrix
    "stablelm-parallel": (22, 13, 3, 1),
    "gemma2": (22, 13, 3, 1),
    "gpt2": (13, 13, 0, 2),
    "gpt-neo": (19, 13, 0, 2),
    "gpt-neox": (13, 13, 0, 1),  # its queries, keys and values alternate by heads
}


@pytest.mark.parametrize("variant", COUNTS)
def test_what_is_merged(variant: str, folder_of: FolderOf) -> None:
    native, report, ops = lowered(build(folder_of(variant)))
    counts = (report.linears, report.operations, report.gated, report.embeddings)
    assert counts == COUNTS[variant]
    assert kinds(native)["PackedLinear"] == report.operations
    assert kinds(native)["PackedEmbedding"] == report.embeddings
    assert sum(packed.gated for packed in ops.packed) == report.gated
    assert not {"Gelu", "Relu", "Swish", "Split", "VariadicSplit"} & kinds(native).keys()
    tied = 0 if variant in ("phi3", "stablelm-parallel", "gpt-neox") else 1
    assert len(ops.packed) == report.operations + report.embeddings - tied
    assert str(report).startswith(f"{counts[0]} linear layers in {counts[1]} operations, {counts[3]} embeddings, ")


def test_operations_have_the_names_of_layers(folder_of: FolderOf) -> None:
    native, _, ops = lowered(build(folder_of("llama")))
    assert [len(packed.matrices) for packed in ops.packed] == 3 * [3, 1, 2, 1] + [1]  # in the order in which they run
    layer = "model.layers.1"
    found = names(native, "PackedLinear")
    assert [name for name in found if name.startswith(layer)] == [
        f"{layer}.self_attn.q_proj+k_proj+v_proj",
        f"{layer}.self_attn.o_proj",
        f"{layer}.mlp.gate_proj+up_proj",
        f"{layer}.mlp.down_proj",
    ]
    assert found[-1] == "lm_head"
    assert names(native, "PackedEmbedding") == ["model.embed_tokens"]
    native, _, _ = lowered(build(folder_of("phi3")))
    assert names(native, "PackedLinear")[2] == "model.layers.0.mlp.gate_up_proj"


@pytest.mark.parametrize(("name", "counts"), [("llama-int4", (22, 13, 3, 1)), ("gpt2-int8", (13, 13, 0, 2))])
def test_models_of_optimum_and_nncf(name: str, counts: tuple[int, ...], tmp_path: Path) -> None:
    model = unpacked(name, tmp_path)
    native, report, _ = lowered(model)
    assert (report.linears, report.operations, report.gated, report.embeddings) == counts
    assert report.skipped == []
    assert codes_in(native) == []
    assert not {"Gelu", "Swish"} & kinds(native).keys()
    assert native.output("logits").get_any_name() == "logits"
    np.testing.assert_allclose(logits(native), logits(model), rtol=0, atol=1e-4)
    assert attention_windows(native) == attention_windows(model)
    to_paged(native, attention_windows(native))
    if name == "llama-int4":
        assert "__module.model.layers.0.self_attn.q_proj+k_proj+v_proj/aten::linear/MatMul" in names(
            native, "PackedLinear"
        )


def test_a_model_that_is_not_compressed_stays(folder_of: FolderOf) -> None:
    model = build_model(read_config(folder_of("llama")), open_checkpoint(folder_of("llama")))
    native, report, _ = lowered(model)
    assert not report
    assert report.skipped == []
    assert kinds(native) == kinds(model)
