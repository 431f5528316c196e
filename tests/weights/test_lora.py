"""LoRA adapters as PEFT writes them: read, refused where they ask for more, and added to weights."""

from __future__ import annotations

import json
import shutil
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from ovgen.errors import CorruptFileError, ModelError, ModelNotFoundError, UnsupportedModelError
from ovgen.weights import Adapter, Checkpoint, Compressed, LowRank, MergedCheckpoint, Weight, read_adapter
from tests.fuzzing import CASES, mutants, reads_or_raises
from tests.tiny_lora import golden

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
Q = "base_model.model.model.layers.0.self_attn.q_proj"
A: NDArray[np.float32] = np.array([[1, 2, 3], [0, -1, 4]], np.float32)  # (rank, inputs)
B: NDArray[np.float32] = np.array([[1, 0], [2, 1], [0, 3], [-1, 1]], np.float32)  # (outputs, rank)
PAIR = {f"{Q}.lora_A.weight": A, f"{Q}.lora_B.weight": B}


def saved(folder: Path, tensors: dict[str, Any] = PAIR, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / TENSORS)
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 6, **config}))
    return folder


def adapter(rows: int = 4, columns: int = 3, *, module: str = "h.0.fc") -> Adapter:
    rng = np.random.default_rng(0)
    down, up = (rng.standard_normal(shape, np.float32) for shape in ((2, columns), (rows, 2)))
    return Adapter("an adapter", {module: LowRank(down, up)}, "")


def test_matrices_come_with_the_scaling(tmp_path: Path) -> None:
    read = read_adapter(saved(tmp_path))
    (layer,) = read.layers.values()
    assert list(read.layers) == ["model.layers.0.self_attn.q_proj"]
    assert (layer.rank, layer.shape) == (2, (4, 3))
    np.testing.assert_array_equal(layer.down, A)
    np.testing.assert_array_equal(layer.up, 3 * B)  # 6 / 2


def test_what_peft_saves_is_read_with_its_patterns() -> None:
    case = golden("llama-patterns")
    read = read_adapter(case.folder)
    raw = load_file(case.folder / TENSORS)
    assert {f"base_model.model.{module}.lora_A.weight" for module in read.layers} == {n for n in raw if "lora_A" in n}
    scalings = {  # of r=2, alpha=5, scaled by the root of the rank
        "model.layers.0.self_attn.q_proj": 5 / sqrt(2),
        "model.layers.0.self_attn.k_proj": 5 / sqrt(3),
        "model.layers.1.mlp.down_proj": 5 / sqrt(5),
        "model.layers.2.mlp.down_proj": 5 / sqrt(2),
        "model.layers.2.self_attn.o_proj": 9 / sqrt(2),
        "model.layers.1.self_attn.o_proj": 5 / sqrt(2),
        "model.layers.0.mlp.up_proj": 2 / sqrt(2),
    }
    for module, scaling in scalings.items():
        b = raw[f"base_model.model.{module}.lora_B.weight"].astype(np.float32)
        np.testing.assert_allclose(read.layers[module].up, scaling * b, rtol=1e-6)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"peft_type": "IA3"}, "peft_type must be LORA, got 'IA3'"),
        ({"use_dora": True}, "use_dora=True is not implemented"),
        ({"bias": "all"}, "bias='all'"),
        ({"lora_bias": True}, "lora_bias=True"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save=\['lm_head'\]"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'.*merge the adapter with PEFT"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication"),
        ({"something_of_next_year": {"a": 1}}, "something_of_next_year"),
    ],
)
def test_what_is_not_implemented_is_refused(config: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=told):
        read_adapter(saved(tmp_path, **config))


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.model.embed_tokens.lora_embedding_A",
        f"{Q}.lora_magnitude_vector.weight",
        "base_model.model.lm_head.base_layer.weight",
    ],
)
def test_tensors_that_are_no_such_matrices_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=name):
        read_adapter(saved(tmp_path, {**PAIR, name: A}))


@pytest.mark.parametrize(
    ("tensors", "config", "told"),
    [
        ({f"{Q}.lora_A.weight": A}, {}, r"q_proj has \{'lora_A': \(2, 3\)\}"),
        ({**PAIR, f"{Q}.lora_B.weight": B[:, :1].copy()}, {}, r"'lora_B': \(4, 1\)"),
        ({**PAIR, f"{Q}.lora_A.weight": A[0].copy()}, {}, r"'lora_A': \(3,\)"),
        ({**PAIR, f"{Q}.lora_B.weight": B * np.float32("nan")}, {}, "q_proj has values that are not finite"),
        ({}, {}, "no layers"),
        ({**PAIR, **{f"model.{name}": matrix for name, matrix in PAIR.items()}}, {}, "has one twice"),
        ({**PAIR, f"{Q}.lora_B.weight": B * np.float32(1e38)}, {"lora_alpha": 60}, "values that are not finite"),
        (PAIR, {"lora_alpha": 10**400}, "lora_alpha must be a number, got 1000"),
        (PAIR, {"lora_alpha": "6"}, "lora_alpha must be a number, got '6'"),
        (PAIR, {"alpha_pattern": {"q_proj": None}}, "alpha_pattern must be a number, got None"),
        (PAIR, {"alpha_pattern": {"q_(": 1}}, r"alpha_pattern is \{'q_\(': 1\}"),
        (PAIR, {"alpha_pattern": ["q_proj"]}, "alpha_pattern is"),
    ],
)
def test_damage_is_named(tensors: dict[str, Any], config: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match=told):
        read_adapter(saved(tmp_path, tensors, **config))


def test_matrices_of_integers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"lora_A\.weight is stored as I8"):
        read_adapter(saved(tmp_path, {**PAIR, f"{Q}.lora_A.weight": A.astype(np.int8)}))


@pytest.mark.parametrize(("name", "told"), [(CONFIG, "give the folder of a LoRA"), (TENSORS, "safe_serialization")])
def test_a_missing_file_is_named(name: str, told: str, tmp_path: Path) -> None:
    (saved(tmp_path) / name).unlink()
    with pytest.raises(ModelNotFoundError, match=f"has no {name}: .*{told}"):
        read_adapter(tmp_path)


@pytest.mark.parametrize("name", [CONFIG, TENSORS])
def test_damaged_files_never_break_the_reader(name: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(golden("llama-attention").folder, tmp_path / "adapter"))
    raw = (folder / name).read_bytes()
    for damaged in mutants(raw, CASES // 4, 2000):
        (folder / name).write_bytes(damaged)
        reads_or_raises(lambda _: read_adapter(folder), folder)


def test_the_digest_tells_adapters_apart(tmp_path: Path) -> None:
    first, other = read_adapter(saved(tmp_path / "a")), read_adapter(saved(tmp_path / "b", lora_alpha=7))
    assert first.digest == read_adapter(tmp_path / "a").digest != other.digest


@pytest.mark.parametrize(
    "module", ["transformer.h.0.attn.c_attn", "h.0.attn.c_attn", "model.transformer.h.0.attn.c_attn"]
)
def test_names_may_begin_in_another_way(module: str) -> None:
    given = adapter(module=module)
    modules = ["transformer.h.0.attn.c_attn", "lm_head"]
    assert given.placed(modules) == {"transformer.h.0.attn.c_attn": given.layers[module]}


@pytest.mark.parametrize(
    ("modules", "told"),
    [
        (["model.layers.0.q_proj"], "1 of the adapter's 1 layers are not .*: h.0.fc; .* model.layers.0.q_proj"),
        ([], "called by no names of Hugging Face"),
        (["h.10.fc"], "1 of the adapter's 1"),
        (["vision_tower.h.0.fc"], "1 of the adapter's 1"),
    ],
)
def test_an_adapter_of_another_model_is_refused(modules: list[str], told: str) -> None:
    with pytest.raises(UnsupportedModelError, match=told):
        adapter().placed(modules)


@pytest.mark.parametrize("root", ["vision_tower.encoder", "model.vision_tower.encoder", "encoder", "model.visual"])
def test_layers_of_a_part_that_is_not_there_are_refused(root: str) -> None:
    given = adapter(module=f"{root}.layers.0.self_attn.q_proj")
    with pytest.raises(UnsupportedModelError, match="1 of the adapter's 1 layers are not"):
        given.placed(["model.layers.0.self_attn.q_proj"])


@pytest.mark.parametrize("transposed", [False, True])
def test_a_layer_of_another_shape_is_refused(transposed: bool) -> None:
    shape = (5, 4) if transposed else (4, 5)
    checkpoint = Checkpoint("a model", {"h.0.fc.weight": Weight(np.ones(shape, np.float32), "F32")})
    merged = MergedCheckpoint(checkpoint, adapter())
    with pytest.raises(UnsupportedModelError, match=r"another model: its h.0.fc is \(4, 3\), and the model's \(4, 5\)"):
        merged.matrix("h.0.fc.weight", (4, 5), transposed=transposed)


@pytest.mark.parametrize(("dtype", "largest"), [("F16", 65504.0), ("F32", 3.4e38), ("BF16", 3.38e38)])
def test_a_sum_that_its_precision_cannot_hold_is_refused(dtype: str, largest: float) -> None:
    exact = np.full((1, 1), largest, np.float32)
    given = Adapter("an adapter", {"fc": LowRank(exact, np.full((1, 1), 0.5, np.float32))}, "")
    stored = {"F32": np.float32, "F16": np.float16}
    values = (exact.view(np.uint32) >> 16).astype(np.uint16) if dtype == "BF16" else exact.astype(stored[dtype])
    merged = MergedCheckpoint(Checkpoint("a model", {"fc.weight": Weight(values, dtype)}), given)
    with pytest.raises(UnsupportedModelError, match=rf"an adapter: fc.weight .* too large for {dtype}.*adapters="):
        merged.matrix("fc.weight", (1, 1))


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("transposed", [False, True])
def test_merged_weights_keep_precision_and_order(dtype: str, transposed: bool) -> None:
    given = adapter()
    (layer,) = given.layers.values()
    exact = np.random.default_rng(1).standard_normal((3, 4) if transposed else (4, 3), np.float32)
    stored: dict[str, NDArray[Any]] = {
        "F32": exact,
        "F16": exact.astype(np.float16),
        "BF16": (exact.view(np.uint32) >> 16).astype(np.uint16),
    }
    weight = Weight(stored[dtype], dtype)
    merged = MergedCheckpoint(Checkpoint("a model", {"h.0.fc.weight": weight}), given)
    result = merged.as_stored("h.0.fc.weight", (4, 3), transposed=transposed)
    assert isinstance(result, Weight)
    assert (result.dtype, result.shape) == (dtype, exact.shape)
    change = layer.up.astype(np.float64) @ layer.down
    expected = weight.to_f32() + (change.T if transposed else change)
    bits = {"F32": 24, "F16": 11, "BF16": 8}[dtype]
    np.testing.assert_allclose(result.to_f32(), expected, rtol=2.0**-bits, atol=1e-6)
    merged.check_unused()


def test_only_weights_of_the_adapter_change() -> None:
    others = {
        "h.0.fc.bias": Weight(np.ones(4, np.float32), "F32"),
        "h.0.ln.weight": Weight(np.ones(3, np.float32), "F32"),
    }
    checkpoint = Checkpoint("a model", {"h.0.fc.weight": Weight(np.ones((4, 3), np.float32), "F32"), **others})
    merged = MergedCheckpoint(checkpoint, adapter())
    assert all(merged.get(name, tensor.shape) is tensor for name, tensor in others.items())
    assert merged.stored() is checkpoint.stored()
    assert merged.names == checkpoint.names
    assert vars(checkpoint).keys() <= vars(merged).keys()  # what inherited methods may ask for


def test_a_weight_that_the_model_does_not_take_is_told() -> None:
    checkpoint = Checkpoint("a model", {"lm_head.weight": Weight(np.ones((4, 3), np.float32), "F32")})
    merged = MergedCheckpoint(checkpoint, adapter(module="lm_head"))
    with pytest.raises(UnsupportedModelError, match=r"no weight of its own for lm_head.weight .*LLM\(adapters"):
        merged.check_unused()


def test_compressed_weights_are_not_compressed_again() -> None:
    codes = Compressed(np.zeros((4, 3), np.uint8), "u8", np.ones((4, 1), np.float16), None)
    merged = MergedCheckpoint(Checkpoint("a model", {"h.0.fc.weight": codes}), adapter())
    with pytest.raises(ModelError, match=r"h.0.fc.weight is compressed.*original model"):
        merged.matrix("h.0.fc.weight", (4, 3))
