"""Models from GGUF files compute what Hugging Face computes, and what would change that is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import openvino as ov
import openvino.opset15 as op
import pytest
from gguf import GGMLQuantizationType as Stored
from gguf import GGUFReader, quants
from numpy.typing import NDArray

from ovgen.errors import CorruptFileError, MissingTensorError, ModelError, UnsupportedModelError
from ovgen.graph import build_model, estimate_size
from ovgen.graph.constants import Constants, weight_node
from ovgen.weights import Checkpoint, Compressed, Compression, Weight, open_checkpoint
from ovgen.weights.gguf import GGUF, gguf_checkpoint, gguf_config, read_gguf
from tests import tiny_gguf
from tests.graph.test_logits import golden, infer
from tests.graph.tools import compile_exact
from tests.tiny_models import make
from tests.weights.gguf_bytes import ARRAY, BOOL, F32, I32, STRING, U32, encode
from tests.weights.test_gguf_blocks import BLOCKS, blocks, repacked


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The Hugging Face folder of a variant."""
    return cache(lambda variant: make(variant, tmp_path_factory.mktemp(variant)))


def logits(config: Mapping[str, Any], checkpoint: Checkpoint, variant: str) -> NDArray[np.float32]:
    case = golden(variant)
    request = compile_exact(build_model(config, checkpoint)).create_infer_request()
    return infer(request, case, 0, case.input_ids.shape[1])[:, case.kept]


@pytest.mark.parametrize("variant", tiny_gguf.VARIANTS)
def test_logits_equal_hugging_face(variant: str, folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    model = read_gguf(tiny_gguf.write(folder_of(variant), tmp_path / "model.gguf"))
    computed = logits(gguf_config(model), gguf_checkpoint(model), variant)
    np.testing.assert_allclose(computed, golden(variant).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("stored", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
@pytest.mark.parametrize("variant", ["llama", "gpt2"])
def test_blocks_compute_as_the_numbers_that_they_stand_for(
    variant: str, stored: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tiny_gguf.write(folder_of(variant), tmp_path / "model.gguf", stored)
    model = read_gguf(path)
    checkpoint = gguf_checkpoint(model)
    numbers = {name: Weight(np.ascontiguousarray(each.to_f32()), "F32") for name, each in checkpoint.items()}
    assert sum(isinstance(each, Compressed) for _, each in checkpoint.items()) >= 13
    np.testing.assert_allclose(
        logits(gguf_config(model), checkpoint, variant),
        logits(gguf_config(model), Checkpoint("numbers", numbers), variant),
        rtol=0,
        atol=1e-4,
    )


@pytest.mark.parametrize("name", BLOCKS)
def test_the_plugin_keeps_every_kind_of_block_compressed(name: str) -> None:
    matrix = repacked(name, blocks(name, 128, 512))
    x = op.parameter([-1, 512], ov.Type.f32, name="x")
    model = ov.Model([op.result(op.matmul(x, weight_node("w", matrix), False, True))], [x], "linear")
    compiled = compile_exact(model)
    rows = np.random.RandomState(1).standard_normal((3, 512)).astype(np.float32)

    (linear,) = (
        node
        for node in compiled.get_runtime_model().get_ops()
        if node.get_rt_info()["layerType"].astype(str) == "FullyConnected"
    )
    assert linear.input_value(1).get_element_type().get_type_name() == matrix.dtype
    np.testing.assert_allclose(compiled({"x": rows})[0], rows @ matrix.to_f32().T, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("variant", ["llama", "gpt2", "phi3"])
def test_blocks_are_hugging_face_s_weights_quantised(
    variant: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """Un-permuting and transposing move whole rows with their scales: nothing is quantised another time."""
    path = tiny_gguf.write(folder_of(variant), tmp_path / "model.gguf", "Q8_0")
    ours = dict(gguf_checkpoint(read_gguf(path)).items())
    stored = sorted(
        quants.dequantize(tensor.data, Stored.Q8_0).sum(dtype=np.float64)
        for tensor in GGUFReader(path).tensors
        if tensor.tensor_type == Stored.Q8_0
    )
    sums = sorted(each.to_f32().sum(dtype=np.float64) for each in ours.values() if isinstance(each, Compressed))
    np.testing.assert_allclose(sums, stored, rtol=1e-6)
    for name, weight in open_checkpoint(folder_of(variant)).items():
        expected = weight.to_f32()
        assert ours[name].shape == expected.shape
        np.testing.assert_allclose(ours[name].to_f32(), expected, rtol=0, atol=np.abs(expected).max() / 200)


def test_matrices_of_gpt2_are_the_file_s_own(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    """Turned for Hugging Face and turned back for the graph, without a copy."""
    model = read_gguf(tiny_gguf.write(folder_of("gpt2"), tmp_path / "model.gguf"))
    turned = gguf_checkpoint(model).get("transformer.h.0.mlp.c_fc.weight", (64, 256))
    stored = model.load("blk.0.ffn_up.weight")
    assert isinstance(turned, Weight)
    assert isinstance(stored, Weight)
    back = turned.transposed()
    assert np.shares_memory(back.array, stored.array)
    assert (back.file, back.offset) == (stored.file, stored.offset)


def test_bfloat16_of_gpt2_is_mapped(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    """The constant is what lies in the file: a change of the file, which is mapped, shows."""
    path = tiny_gguf.write(folder_of("gpt2-bf16"), tmp_path / "model.gguf")
    name = "transformer.h.0.mlp.c_fc.weight"
    matrix = Constants(gguf_checkpoint(read_gguf(path))).matrix(name, (256, 64), transposed=True)
    constant = matrix.input_value(0).get_node()
    stored = read_gguf(path).tensors["blk.0.ffn_up.weight"]
    with path.open("r+b") as file:
        file.seek(stored.begin)
        file.write(np.arange(64, dtype="<u2").tobytes())
    assert constant.get_output_shape(0) == [256, 64]
    assert constant.data.view(np.uint16)[0].tolist() == list(range(64))


def test_bfloat16_that_lies_otherwise_in_its_file_is_turned(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    stored = read_gguf(tiny_gguf.write(folder_of("gpt2-bf16"), tmp_path / "model.gguf")).load(
        "blk.0.attn_output.weight"
    )
    assert isinstance(stored, Weight)
    square, column = replace(stored, array=stored.array.T), replace(stored, array=stored.array[:1].T)
    constants = Constants(Checkpoint("here", {"square": square, "column": column}))
    for node, expected in (
        (constants.get("square", (64, 64)), stored.array.T),
        (constants.matrix("column", (1, 64), transposed=True), stored.array[:1]),
    ):
        np.testing.assert_array_equal(node.input_value(0).get_node().data.view(np.uint16), expected)


@pytest.mark.parametrize(
    ("variant", "stored"), [("llama", "Q4_1"), ("llama", "BF16"), ("gpt2", "Q5_0"), ("gpt2", "BF16"), ("gemma2", "F16")]
)
def test_what_is_known_of_a_tensor_before_it_is_made(
    variant: str, stored: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    checkpoint = gguf_checkpoint(read_gguf(tiny_gguf.write(folder_of(variant), tmp_path / "model.gguf", stored)))
    known = {name: (each.shape, each.nbytes) for name, each in checkpoint.stored().items()}
    assert known == {name: (each.shape, each.nbytes) for name, each in checkpoint.items()}


@pytest.mark.parametrize("compression", [None, Compression(weights="int8")])
def test_tensors_are_made_one_at_a_time_and_not_kept(
    compression: Compression | None, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    model = read_gguf(tiny_gguf.write(folder_of("llama"), tmp_path / "model.gguf", "Q8_0"))
    checkpoint = gguf_checkpoint(model)
    name, shape = "model.layers.0.mlp.up_proj.weight", (96, 64)
    with mock.patch.object(GGUF, "load", autospec=True, side_effect=GGUF.load) as load:
        estimate_size(checkpoint, compression)
        constants = Constants(checkpoint)
        assert load.call_count == 0
        constants.matrix(name, shape)
        assert [call.args[1] for call in load.call_args_list] == ["blk.0.ffn_up.weight"]
    assert checkpoint.get(name, shape) is not checkpoint.get(name, shape)


@pytest.mark.parametrize("name", ["blk.1.attn_norm.bias", "output_norm.bias", "blk.9.attn_norm.weight"])
def test_tensors_that_the_model_does_not_use(name: str, folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    """llama.cpp does not load such files either."""
    model = read_gguf(tiny_gguf.write(folder_of("llama"), tmp_path / "model.gguf", more=[name]))
    with pytest.raises(UnsupportedModelError, match=r"model.gguf: 1 tensors are not used by a model of this config"):
        build_model(gguf_config(model), gguf_checkpoint(model))


@pytest.mark.parametrize("lacking", ["blk.1.attn_q", "blk.0.attn_output", "blk.0.ffn_gate", "blk.1.ffn_down"])
def test_biases_that_some_layers_lack(lacking: str, folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    group = ("ffn_gate", "ffn_up", "ffn_down") if "ffn" in lacking else ("attn_q", "attn_k", "attn_v", "attn_output")
    names = [f"blk.{layer}.{module}.bias" for layer in range(3) for module in group]
    names.remove(f"{lacking}.bias")
    with pytest.raises(UnsupportedModelError, match=rf"only some of .* have a bias: there is no {lacking}\.bias"):
        gguf_config(read_gguf(tiny_gguf.write(folder_of("llama"), tmp_path / "model.gguf", more=names)))


def test_what_does_not_fit_names_the_file(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    model = read_gguf(tiny_gguf.write(folder_of("llama"), tmp_path / "model.gguf"))
    config, checkpoint = gguf_config(model), gguf_checkpoint(model)
    config["rope_scaling"] = {"rope_type": "other"}
    with pytest.raises(UnsupportedModelError, match=r"model\.gguf, metadata .*: rope_scaling\.rope_type='other'"):
        build_model(config, checkpoint)
    config["rope_scaling"], config["num_key_value_heads"] = None, 3
    with pytest.raises(CorruptFileError, match=r"model\.gguf, metadata by the names of config\.json: num_key_value"):
        build_model(config, checkpoint)
    config["num_key_value_heads"], config["vocab_size"] = 2, 301
    with pytest.raises(MissingTensorError, match=r"has shape \(300, 64\), but by its metadata it is \(301, 64\)"):
        build_model(config, checkpoint)


LLAMA: dict[str, tuple[int, Any]] = {
    "general.architecture": (STRING, "llama"),
    "llama.block_count": (U32, 1),
    "llama.context_length": (U32, 64),
    "llama.embedding_length": (U32, 8),
    "llama.feed_forward_length": (U32, 16),
    "llama.attention.head_count": (U32, 2),
    "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5),
}
EMBEDDING = ("token_embd.weight", [8, 4], 0, bytes(128))


def config(folder: Path, changes: dict[str, tuple[int, Any] | None], *tensors: Any) -> dict[str, Any]:
    """The configuration of a Llama with other metadata, None to leave one out, and more tensors."""
    metadata = {key: value for key, value in {**LLAMA, **changes}.items() if value is not None}
    (folder / "model.gguf").write_bytes(encode(metadata, [EMBEDDING, *tensors]))
    return gguf_config(read_gguf(folder / "model.gguf"))


def test_the_configuration_of_a_llama(tmp_path: Path) -> None:
    expected = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 4,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 4,
        "hidden_act": "silu",
        "rms_norm_eps": np.float32(1e-5),
        "max_position_embeddings": 64,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    ids = {"tokenizer.ggml.bos_token_id": (U32, 1), "tokenizer.ggml.eos_token_id": (U32, 2)}
    assert config(tmp_path, {**ids}) == expected


def test_metadata_that_change_nothing(tmp_path: Path) -> None:
    neutral: dict[str, tuple[int, Any] | None] = {
        "llama.expert_count": (U32, 0),
        "llama.attention.clamp_kqv": (F32, 0.0),
        "llama.attention.causal": (BOOL, True),
        "llama.rope.scaling.type": (STRING, "none"),
        "llama.tensor_data_layout": (STRING, "Meta AI original pth"),
        "llama.vocab_size": (U32, 5),
        "llama.attention.head_count_kv": (ARRAY, (I32, [2])),
        "general.url": (STRING, "…"),
    }
    assert config(tmp_path, neutral) == config(tmp_path, {})


@pytest.mark.parametrize(
    ("changes", "scaling"),
    [
        ({"llama.rope.scaling.factor": (F32, 4.0)}, {"rope_type": "linear", "factor": 4.0}),
        ({"llama.rope.scale_linear": (F32, 4.0)}, {"rope_type": "linear", "factor": 4.0}),
        (
            {
                "llama.rope.scaling.type": (STRING, "yarn"),
                "llama.rope.scaling.factor": (F32, 4.0),
                "llama.rope.scaling.original_context_length": (U32, 16),
            },
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        ),
    ],
)
def test_stretched_positions(changes: Any, scaling: dict[str, Any], tmp_path: Path) -> None:
    assert config(tmp_path, changes)["rope_scaling"] == scaling


def numbered(name: str) -> tuple[str, list[int], int, bytes]:
    return name, [2], 0, np.array([1.0, 2.0], np.float32).tobytes()


REFUSED: dict[str, tuple[dict[str, tuple[int, Any] | None], type[ModelError], str]] = {
    "no architecture": ({"general.architecture": None}, UnsupportedModelError, "general.architecture=None"),
    "another architecture": ({"general.architecture": (STRING, "mamba")}, UnsupportedModelError, "='mamba' is not"),
    "experts": ({"llama.expert_count": (U32, 8)}, UnsupportedModelError, "llama.expert_count=8 is not implemented"),
    "clamping": ({"llama.attention.clamp_kqv": (F32, 8.0)}, UnsupportedModelError, "llama.attention.clamp_kqv=8.0"),
    "a window": ({"llama.attention.sliding_window": (U32, 8)}, UnsupportedModelError, "sliding_window=8"),
    "an unknown key": ({"llama.fancy.trick": (F32, 0.0)}, UnsupportedModelError, "fancy.trick=0.0 is not implemented"),
    "an unknown layout": ({"llama.tensor_data_layout": (STRING, "x")}, UnsupportedModelError, "data_layout='x'"),
    "heads of two sizes": ({"llama.attention.value_length": (U32, 8)}, UnsupportedModelError, "value_length=8"),
    "layers that differ": (
        {"llama.attention.head_count_kv": (ARRAY, (I32, [2, 1]))},
        UnsupportedModelError,
        "all layers must be alike",
    ),
    "unknown stretching": (
        {"llama.rope.scaling.type": (STRING, "su")},
        UnsupportedModelError,
        "rope.scaling.type='su' is not implemented: there are none, linear, yarn, longrope",
    ),
    "scaled attention": ({"llama.rope.scaling.attn_factor": (F32, 1.5)}, UnsupportedModelError, "attn_factor=1.5"),
    "no context": ({"llama.context_length": None}, CorruptFileError, "llama.context_length must be .* missing"),
    "context of 0": ({"llama.context_length": (U32, 0)}, CorruptFileError, "context_length must be .* got 0"),
    "context of a text": ({"llama.context_length": (STRING, "8")}, CorruptFileError, "context_length must be"),
    "no number": ({"llama.rope.freq_base": (F32, float("nan"))}, CorruptFileError, "rope.freq_base must be a number"),
    "no layers to compare": ({"llama.block_count": (ARRAY, (I32, []))}, UnsupportedModelError, "alike"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_metadata(case: str, tmp_path: Path) -> None:
    changes, error, message = REFUSED[case]
    with pytest.raises(error, match=message) as caught:
        config(tmp_path, changes)
    assert str(tmp_path / "model.gguf") in str(caught.value)


def test_factors_beside_another_stretching(tmp_path: Path) -> None:
    changes: dict[str, tuple[int, Any] | None] = {"llama.rope.scaling.factor": (F32, 8.0)}
    with pytest.raises(UnsupportedModelError, match="only 1 beside factors"):
        config(tmp_path, changes, numbered("rope_freqs.weight"))


def test_half_of_the_factors(tmp_path: Path) -> None:
    with pytest.raises(MissingTensorError, match=r"rope_factors_short.weight"):
        config(tmp_path, {}, numbered("rope_factors_long.weight"))
    with pytest.raises(MissingTensorError, match=r"rope_factors_long.weight"):
        config(tmp_path, {"llama.rope.scaling.type": (STRING, "longrope")}, numbered("rope_factors_short.weight"))


def test_a_vocabulary_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(encode(LLAMA))
    with pytest.raises(MissingTensorError, match=r"lacks the tensor 'token_embd.weight'"):
        gguf_config(read_gguf(tmp_path / "model.gguf"))


@pytest.mark.parametrize("name", ["blk.0.ffn_gate_exps.weight", "blk.0.attn_q.scale", "v.patch_embd.weight", "blk.0"])
def test_tensors_that_the_architecture_does_not_have(name: str, tmp_path: Path) -> None:
    config(tmp_path, {}, numbered(name))
    with pytest.raises(UnsupportedModelError, match=f"the tensor '{name}' is not known in the architecture llama"):
        gguf_checkpoint(read_gguf(tmp_path / "model.gguf"))


def test_queries_that_do_not_divide_into_heads(tmp_path: Path) -> None:
    config(tmp_path, {}, ("blk.0.attn_q.weight", [8, 6], 0, bytes(192)))
    checkpoint = gguf_checkpoint(read_gguf(tmp_path / "model.gguf"))
    with pytest.raises(CorruptFileError, match=r"'blk.0.attn_q.weight' of shape \(6, 8\) does not fit"):
        checkpoint.get("model.layers.0.self_attn.q_proj.weight", (6, 8))
