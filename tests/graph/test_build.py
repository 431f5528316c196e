"""What a built graph looks like, what it holds in memory, and for how long."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

from ovgen.errors import MissingTensorError, UnsupportedModelError
from ovgen.graph import build_model, read_config
from ovgen.graph.constants import Constants
from ovgen.weights import Checkpoint, Weight, open_checkpoint
from tests.graph.tools import build, compile_exact
from tests.tiny_models import VARIANTS

FolderOf = Callable[[str], Path]
TYPES = {"F32": ov.Type.f32, "F16": ov.Type.f16, "BF16": ov.Type.bf16}


def weights_in(model: ov.Model) -> dict[str, ov.Node]:
    """Constants that come from the checkpoint, by name."""
    nodes = {node.get_friendly_name(): node for node in model.get_ops()}
    return {name: node for name, node in nodes.items() if name.endswith((".weight", ".bias"))}


@pytest.mark.parametrize("variant", VARIANTS)
def test_form(variant: str, folder_of: FolderOf) -> None:
    model = build(folder_of(variant))
    inputs = {port.get_any_name(): (port.element_type, len(port.partial_shape)) for port in model.inputs}
    two = (ov.Type.i64, 2)
    assert inputs == {"input_ids": two, "attention_mask": two, "position_ids": two, "beam_idx": (ov.Type.i32, 1)}
    assert [port.get_names() for port in model.outputs] == [{"logits"}]
    assert model.output("logits").element_type == ov.Type.f32
    assert model.output("logits").partial_shape == ov.PartialShape([-1, -1, 300])
    kinds = ("key", "value")
    expected = {f"past_key_values.{n}.{kind}present.{n}.{kind}" for n in range(3) for kind in kinds}
    assert {sink.get_variable_id() for sink in model.get_sinks()} == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_are_unique_and_those_of_hugging_face(variant: str, folder_of: FolderOf) -> None:
    model = build(folder_of(variant))
    names = [node.get_friendly_name() for node in model.get_ops()]
    assert len(set(names)) == len(names)
    assert not [name for name in names if re.fullmatch(r"[A-Z]\w*_\d+", name)], "names that OpenVINO made up"
    weights = dict(open_checkpoint(folder_of(variant)).items())
    assert set(weights_in(model)) == set(weights)
    matrices = {name.removesuffix(".weight") for name, weight in weights.items() if len(weight.shape) == 2}
    kinds = {node.get_friendly_name(): node.get_type_name() for node in model.get_ops()}
    assert {kinds[name] for name in matrices} == {"MatMul", "Gather"}
    assert "MatMul" in (kinds.get("lm_head"), kinds.get("embed_out"))  # as GPT-NeoX calls it


def test_layers_come_in_order(folder_of: FolderOf) -> None:
    names = [node.get_friendly_name() for node in build(folder_of("llama")).get_ordered_ops()]
    places = [names.index(f"model.layers.{layer}") for layer in range(3)]
    assert places == sorted(places)


def test_tied_head_shares_the_embeddings_constant(folder_of: FolderOf) -> None:
    model = build(folder_of("llama"))
    table = weights_in(model)["model.embed_tokens.weight"]
    users = {port.get_node().get_type_name() for port in table.output(0).get_target_inputs()}
    assert users == {"Gather", "MatMul"}


@pytest.mark.parametrize("variant", ["llama", "llama-f16", "llama-bf16", "gpt2-f16", "gpt2-bf16"])
def test_weights_keep_their_precision_in_the_compiled_model(variant: str, folder_of: FolderOf) -> None:
    stored = TYPES[VARIANTS[variant].dtype]
    model = build(folder_of(variant))
    assert {node.get_element_type() for node in weights_in(model).values()} == {stored}

    matrices = []
    for node in compile_exact(model).get_runtime_model().get_ops():
        shape = node.get_output_partial_shape(0) if node.get_output_size() else ov.PartialShape.dynamic()
        if node.get_type_name() == "ExecutionNode" and shape.is_static and np.prod(shape.to_shape()) >= 64 * 32:
            matrices.append(node.get_output_element_type(0))
    linears = 3 * (7 if "llama" in variant else 4)
    assert len(matrices) > linears
    assert set(matrices) == {stored}


@pytest.mark.parametrize("variant", ["llama", "llama-f16", "llama-bf16"])
def test_constants_lie_in_the_file(variant: str, folder_of: FolderOf) -> None:
    checkpoint = open_checkpoint(folder_of(variant))
    weight = dict(checkpoint.items())["model.norm.weight"]
    assert isinstance(weight, Weight)
    array = weight.array
    node = weights_in(build(folder_of(variant)))["model.norm.weight"]
    assert node.get_data().tobytes() == array.tobytes()
    # Copy on write: what is written through one mapping must show in the constant that shares it, nowhere else.
    model = build_model(read_config(folder_of(variant)), checkpoint)
    array[0] = 0
    shown = weights_in(model)["model.norm.weight"].get_data()[0] == 0
    assert shown == (variant != "llama-bf16"), "OpenVINO maps files with bfloat16 by itself"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="mappings are listed on Linux only")
@pytest.mark.parametrize("variant", ["llama", "llama-f16", "llama-bf16", "gpt2-bf16"])
def test_a_mapping_lives_as_long_as_its_last_user(variant: str, folder_of: FolderOf) -> None:
    folder = folder_of(variant)

    def mapped() -> bool:
        gc.collect()
        return str(folder) in Path("/proc/self/maps").read_text()

    assert not mapped()
    model = build(folder)
    assert mapped()
    compiled: Any = compile_exact(model)
    del model
    assert mapped(), "the compiled model reads from it"
    del compiled
    assert not mapped()


def test_missing_tensor(folder_of: FolderOf) -> None:
    folder = folder_of("llama")
    weights = dict(open_checkpoint(folder).items())
    del weights["model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(MissingTensorError, match=r"here lacks .*layers\.1\.mlp\.up_proj\.weight.*\(96, 64\)"):
        build_model(read_config(folder), Checkpoint("here", weights))


def test_tensor_of_another_shape(folder_of: FolderOf) -> None:
    folder = folder_of("gpt2")
    config = read_config(folder) | {"n_inner": 128}
    with pytest.raises(MissingTensorError, match=r"c_fc\.weight' has shape \(64, 256\), .* \(64, 128\)"):
        build_model(config, open_checkpoint(folder))


def test_integer_weights_are_refused() -> None:
    checkpoint = Checkpoint("here", {"a": Weight(np.zeros((2, 2), np.int8), "I8")})
    with pytest.raises(UnsupportedModelError, match="'a' is stored as I8"):
        Constants(checkpoint).get("a", (2, 2))


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_constants_of_arrays_that_lie_in_no_file(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype({"F32": "f4", "F16": "f2", "BF16": "u2"}[dtype])
    if dtype == "BF16":
        array = (np.arange(6, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16).reshape(2, 3)
    constants = Constants(Checkpoint("here", {"a": Weight(array, dtype)}))
    del array
    gc.collect()
    node = constants.matrix("a", (3, 2), transposed=True)
    constant = node if dtype == "F32" else node.input_value(0).get_node()
    assert constant.get_element_type() == TYPES[dtype]
    assert constant.get_data(dtype=np.float32).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert constants.matrix("a", (3, 2), transposed=True) is node


def test_tensors_that_nothing_uses_are_reported(folder_of: FolderOf, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of("llama-bias-untied")
    build(folder)
    assert not caplog.text
    config = read_config(folder) | {"mlp_bias": False, "tie_word_embeddings": True}
    build_model(config, open_checkpoint(folder))
    assert "9 tensors are not used by a model of this configuration: model.layers.0.mlp.down_proj.bias" in caplog.text


def test_buffers_of_old_checkpoints_are_not_reported(folder_of: FolderOf, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of("gpt2")
    tensors = dict(open_checkpoint(folder).items())
    tensors["transformer.h.0.attn.bias"] = tensors["lm_head.weight"] = Weight(np.ones((1, 1), np.float32), "F32")
    build_model(read_config(folder), Checkpoint("old", tensors))
    assert not caplog.text


@pytest.mark.parametrize("variant", ["llama", "gpt2", "gemma3"])
def test_two_builds_have_the_same_names(variant: str, folder_of: FolderOf) -> None:
    names = [[node.get_friendly_name() for node in build(folder_of(variant)).get_ordered_ops()] for _ in range(4)]
    assert names[0] == names[1] == names[2] == names[3]
