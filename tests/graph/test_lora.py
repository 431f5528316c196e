"""Adapters beside the linear layers of a graph: which layers are found, and what rows of a batch go through."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset15 as op
import pytest
from numpy.typing import NDArray

from ovgen.errors import UnsupportedModelError
from ovgen.graph import build_model, read_config, read_ir
from ovgen.graph.compressed import stored_matrix
from ovgen.graph.passes import (
    ADAPTERS_INPUT,
    ROWS_INPUT,
    StaticShape,
    add_adapters,
    select_rows,
    to_paged,
    to_stateful,
    to_static,
)
from ovgen.runtime.windows import attention_windows
from ovgen.weights import Adapter, Compression, LowRank, MergedCheckpoint, open_checkpoint, read_adapter
from ovgen.weights.gguf import gguf_checkpoint, gguf_config, read_gguf
from tests import tiny_gguf
from tests.graph.native_ops import kinds, lowered
from tests.graph.tools import build, compile_exact
from tests.tiny_lora import ADAPTERS, golden

FolderOf = Callable[[str], Path]
IR = Path(__file__).resolve().parents[1] / "golden" / "ir"
IDS = np.arange(5, 17)


def logits(model: ov.Model, adapters: Sequence[int], ids: NDArray[np.int64] = IDS) -> NDArray[np.float32]:
    """``(rows, tokens, vocab)`` of a batch that has the same tokens in each row."""
    request = compile_exact(model).create_infer_request()
    rows, length = len(adapters), len(ids)
    inputs = {
        "input_ids": np.tile(ids, (rows, 1)),
        "attention_mask": np.ones((rows, length), np.int64),
        "position_ids": np.tile(np.arange(length), (rows, 1)),
        "beam_idx": np.arange(rows, dtype=np.int32),
        ADAPTERS_INPUT: np.array(adapters, np.int32),
    }
    request.infer({name: inputs[name] for port in model.inputs for name in port.get_names()})
    return np.array(request.get_tensor("logits").data)


def described(model: ov.Model) -> list[str]:
    return [f"{node.get_friendly_name()} {node.get_type_name()}" for node in model.get_ordered_ops()]


def unpacked(name: str, folder: Path) -> ov.Model:
    """What optimum-intel has exported."""
    with zipfile.ZipFile(IR / f"{name}.zip") as archive:
        archive.extractall(folder)
    model = read_ir(folder)
    to_stateful(model)
    return model


def random_adapter(module: str, shape: tuple[int, int]) -> Adapter:
    rng = np.random.default_rng(0)
    down, up = (0.2 * rng.standard_normal(size, np.float32) for size in ((3, shape[1]), (shape[0], 3)))
    return Adapter("an adapter", {module: LowRank(down, up)}, "")


def operation(model: ov.Model, name: str) -> ov.Node:
    return next(node for node in model.get_ordered_ops() if node.get_friendly_name() == name)


def test_without_adapters_a_graph_stays_as_it_is(folder_of: FolderOf) -> None:
    model = build(folder_of("llama"))
    before = described(model)
    add_adapters(model, [])
    assert described(model) == before


@pytest.mark.parametrize("variant", ADAPTERS)
def test_each_row_of_a_batch_goes_through_its_own(variant: str, folder_of: FolderOf) -> None:
    cases = [golden(name) for name in ADAPTERS[variant]]
    model = build(folder_of(variant))
    add_adapters(model, [read_adapter(case.folder) for case in cases])
    rows = [*range(len(cases) + 1), 0]
    batch = logits(model, rows, np.array(cases[0].ids))[:, -cases[0].rows :]
    expected = [cases[0].without, *(case.adapted for case in cases), cases[0].without]
    np.testing.assert_allclose(batch, np.stack(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("variant", "module"), [("llama", "model.layers.0.mlp.up_proj"), ("gpt2", "transformer.h.0.mlp.c_fc")]
)
def test_an_adapter_that_overflows_breaks_its_own_rows_only(variant: str, module: str, folder_of: FolderOf) -> None:
    sane = golden(ADAPTERS[variant][0])
    model = build(folder_of(variant))
    shape = operation(model, module).get_input_shape(1)
    wild = random_adapter(module, (shape[0], shape[1]))
    wild.layers[module].down[:] = 1e38  # a finite number, whose sums are none
    add_adapters(model, [wild, read_adapter(sane.folder)])
    rows = logits(model, [1, 2, 0], np.array(sane.ids))[:, -sane.rows :]
    assert not np.isfinite(rows[0]).all()
    np.testing.assert_allclose(rows[1:], np.stack([sane.adapted, sane.without]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("form", ["stateful", "static", "paged"])
def test_a_head_with_adapters_computes_the_wanted_rows_only(form: str, folder_of: FolderOf) -> None:
    case = golden("gpt2-all")
    model = build(folder_of("gpt2"))
    add_adapters(model, [read_adapter(case.folder)])
    if form == "static":
        model = to_static(model, attention_windows(model), StaticShape(1, 16, 32, 1), ov.Type.f32)
    elif form == "paged":
        model = to_paged(model, attention_windows(model))
    else:
        select_rows(model, axis=1)
    for name in ("lm_head", "lm_head/lora_down", "lm_head/lora_up"):
        node = operation(model, name)
        rows = node.input_value(0).get_node()
        while rows.get_type_name() == "Select":  # the gate's rows are those of the numbers that it chooses from
            if form == "paged":
                assert ROWS_INPUT in rows.input_value(0).get_node().input_value(1).get_names()
            rows = rows.input_value(1).get_node().input_value(0).get_node()
        assert rows.get_friendly_name() == "wanted_rows"
        if form == "static":
            assert list(node.get_output_shape(0))[:2] == [1, 1]


def test_layers_are_called_after_their_modules(folder_of: FolderOf) -> None:
    model = build(folder_of("gpt2"))
    add_adapters(model, [read_adapter(golden("gpt2-all").folder)])
    names = {node.get_friendly_name() for node in model.get_ops()}
    assert {"transformer.h.1.mlp.c_fc/lora_down", "transformer.h.1.mlp.c_fc/lora_up", "lm_head/lora_up"} <= names


def test_layers_with_the_same_ranks_share_a_gate(folder_of: FolderOf) -> None:
    model = build(folder_of("llama"))
    add_adapters(model, [read_adapter(golden("llama-patterns").folder)])
    gates = [name for name in (n.get_friendly_name() for n in model.get_ops()) if name.startswith("adapters/gate_")]
    assert len(gates) == 3  # ranks 2, 3 and 5


@pytest.mark.parametrize("variant", ADAPTERS)
def test_gguf_files_take_them_too(variant: str, folder_of: FolderOf, tmp_path: Path) -> None:
    """Their tensors have Hugging Face's names and order once they are read."""
    file = read_gguf(tiny_gguf.write(folder_of(variant), tmp_path / "model.gguf"))
    case = golden(ADAPTERS[variant][0])
    adapter = read_adapter(case.folder)
    switched = build_model(gguf_config(file), gguf_checkpoint(file))
    add_adapters(switched, [adapter])
    merged = build_model(gguf_config(file), MergedCheckpoint(gguf_checkpoint(file), adapter))
    for model in (switched, merged):
        ours = logits(model, [1], np.array(case.ids))[0, -case.rows :]
        np.testing.assert_allclose(ours, case.adapted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("llama-int4", "model.layers.1.mlp.down_proj"),
        ("llama-int4", "model.layers.2.self_attn.k_proj"),
        ("gpt2-int8", "transformer.h.1.attn.c_attn"),  # whose tokens all lie in one row
        ("gpt2-int8", "transformer.h.2.mlp.c_proj"),
        ("mistral-window", "model.layers.0.self_attn.o_proj"),
    ],
)
def test_layers_of_other_exporters_are_found(name: str, module: str, tmp_path: Path) -> None:
    base = unpacked(name, tmp_path)
    layer = next(
        node
        for node in base.get_ops()
        if node.get_type_name() == "MatMul" and f".{module}/" in node.get_friendly_name()
    )
    found = stored_matrix(layer.input_value(1))
    assert found is not None
    weight = found[1].to_f32()
    shape = (weight.shape[0], weight.shape[1]) if layer.get_attributes()["transpose_b"] else weight.shape[::-1]
    adapter = random_adapter(module, shape)
    plain = logits(base, [0, 0])[0]

    adapted = base.clone()
    add_adapters(adapted, [adapter])
    rows = logits(adapted, [1, 0])

    (change,) = adapter.layers.values()
    product = change.up @ change.down
    merged = weight + (product if layer.get_attributes()["transpose_b"] else product.T)
    layer.input(1).replace_source_output(op.constant(merged.astype(np.float32)).output(0))
    expected = logits(base, [0])[0]
    assert np.abs(expected - plain).max() > 0.1
    np.testing.assert_allclose(rows[0], expected, rtol=0, atol=1e-4 * max(1, float(expected.std())))
    np.testing.assert_allclose(rows[1], plain, rtol=0, atol=1e-4 * max(1, float(expected.std())))


def test_a_model_without_such_layers_is_refused(folder_of: FolderOf) -> None:
    model = build(folder_of("llama"))
    adapter = read_adapter(golden("gpt2-attention").folder)
    with pytest.raises(UnsupportedModelError, match=r"the adapter's \d+ layers are not .* called model.layers.0.self"):
        add_adapters(model, [adapter])


@pytest.mark.parametrize("variant", ADAPTERS)
def test_compressed_layers_are_lowered_as_without(variant: str, folder_of: FolderOf) -> None:
    folder = folder_of(variant)
    plain = build_model(read_config(folder), open_checkpoint(folder), Compression(weights="int8"))
    model = plain.clone()
    add_adapters(model, [read_adapter(golden(name).folder) for name in ADAPTERS[variant]])
    native, report, _ = lowered(model)
    _, expected, _ = lowered(plain)
    assert report.skipped == []
    assert report.linears == expected.linears
    assert kinds(native)["MatMul"] == kinds(model)["MatMul"] - report.linears
    rows = list(range(len(ADAPTERS[variant]) + 1))
    np.testing.assert_allclose(logits(native, rows), logits(model, rows), rtol=0, atol=1e-4)


def test_the_static_form_has_an_adapter_for_each_sequence(folder_of: FolderOf) -> None:
    model = build(folder_of("llama"))
    add_adapters(model, [read_adapter(golden("llama-attention").folder)])
    static = to_static(model, attention_windows(model), StaticShape(3, 4, 16, 1), ov.Type.f32)
    assert static.input(ADAPTERS_INPUT).shape == ov.Shape([3])
