"""Configurations are read whole: what is not implemented is an error that names it, never ignored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovgen.errors import CorruptFileError, ModelNotFoundError, UnsupportedModelError
from ovgen.graph import build_model, read_config
from ovgen.graph.arch import ARCHITECTURES
from ovgen.graph.arch.gpt2 import GPT2Config
from ovgen.graph.arch.llama import LlamaConfig
from ovgen.weights import Checkpoint
from tests.shared_data import SHARED, needs_shared
from tests.tiny_models import VARIANTS

LLAMA = VARIANTS["llama"].config
GPT2 = VARIANTS["gpt2"].config
LLAMA3 = VARIANTS["llama-llama3"].config["rope_parameters"]


@pytest.mark.parametrize("kind", ["mamba", None, 3, ["llama"]])
def test_unknown_architecture_lists_the_known(kind: Any) -> None:
    with pytest.raises(UnsupportedModelError, match=", ".join(ARCHITECTURES)):
        build_model({"model_type": kind}, Checkpoint("nothing", {}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "snake"),
        ("quantization_config", {"quant_method": "gptq"}),
        ("partial_rotary_factor", 0.5),
        ("attn_logit_softcapping", 50.0),
        ("num_local_experts", 8),
        ("use_sliding_window", True),
        ("layer_types", ["full_attention", "sliding_attention", "full_attention"]),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
        ("rope_scaling", {"type": "dynamic", "factor": 4.0}),
        ("rope_parameters", {"rope_type": "longrope", "rope_theta": 1e4}),
        ("rope_parameters", {"rope_theta": 1e4, "partial_rotary_factor": 0.25}),
    ],
)
def test_llama_refuses_what_it_does_not_compute(key: str, value: Any) -> None:
    culprit = "partial_rotary_factor" if "partial_rotary_factor" in str(value) else key
    with pytest.raises(UnsupportedModelError, match=rf"config\.json: .*{culprit}"):
        LlamaConfig.parse(LLAMA | {key: value})


@pytest.mark.parametrize(
    ("key", "value"), [("activation_function", "tanh"), ("add_cross_attention", True), ("pruned_heads", {"0": [1]})]
)
def test_gpt2_refuses_what_it_does_not_compute(key: str, value: Any) -> None:
    with pytest.raises(UnsupportedModelError, match=rf"config\.json: {key}="):
        GPT2Config.parse(GPT2 | {key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", None),
        ("hidden_size", 0),
        ("hidden_size", "64"),
        ("hidden_size", 66),
        ("num_hidden_layers", True),
        ("num_key_value_heads", 3),
        ("head_dim", 15),
        ("vocab_size", 300.0),
        ("rms_norm_eps", -1e-5),
        ("rms_norm_eps", float("inf")),
        ("attention_bias", 1),
        ("hidden_act", 1),
        ("rope_theta", "big"),
        ("rope_scaling", "linear"),
        ("layer_types", 3),
    ],
)
def test_llama_values_that_cannot_be(key: str, value: Any) -> None:
    with pytest.raises(CorruptFileError, match=rf"config\.json: {key} must be"):
        LlamaConfig.parse(LLAMA | {key: value})


def test_rope_fields_are_named_with_their_path() -> None:
    with pytest.raises(CorruptFileError, match=r"rope_scaling\.factor must be a number above 0, it is missing"):
        LlamaConfig.parse(LLAMA | {"rope_scaling": {"rope_type": "linear"}})
    with pytest.raises(CorruptFileError, match=r"rope_parameters\.high_freq_factor must be above low_freq_factor"):
        LlamaConfig.parse(LLAMA | {"rope_parameters": LLAMA3 | {"high_freq_factor": 1.0}})


@pytest.mark.parametrize(("key", "value"), [("n_embd", 65), ("n_layer", None), ("n_inner", -1)])
def test_gpt2_values_that_cannot_be(key: str, value: Any) -> None:
    with pytest.raises(CorruptFileError, match=rf"config\.json: {key} must be"):
        GPT2Config.parse(GPT2 | {key: value})


def test_harmless_keys_are_ignored() -> None:
    extra = {"attention_dropout": 0.1, "initializer_range": 1, "pretraining_tp": 2, "use_cache": False, "mine": []}
    assert LlamaConfig.parse(LLAMA | extra).hidden_size == 64
    neutral = {"partial_rotary_factor": 1.0, "pruned_heads": {}, "layer_types": ["full_attention"] * 3}
    assert LlamaConfig.parse(LLAMA | neutral).hidden_size == 64


def test_both_spellings_of_rope_give_the_same() -> None:
    inside = LLAMA | {"rope_parameters": LLAMA3, "rope_theta": None}
    scaling = {key: value for key, value in LLAMA3.items() if key != "rope_theta"}
    beside = LLAMA | {"rope_scaling": scaling, "rope_theta": LLAMA3["rope_theta"]}
    one, other = (LlamaConfig.parse(config).rope_frequencies for config in (inside, beside))
    np.testing.assert_array_equal(one, other)


def test_llama3_frequencies_are_kept_divided_and_between() -> None:
    plain = LlamaConfig.parse(LLAMA | {"rope_theta": 500.0}).rope_frequencies
    ratio = plain / LlamaConfig.parse(LLAMA | {"rope_parameters": LLAMA3}).rope_frequencies  # (8,)
    assert ratio[-1] == pytest.approx(4.0)
    assert np.all(np.diff(ratio) > -1e-6)
    longer = LLAMA3 | {"original_max_position_embeddings": 64}
    ratio = plain / LlamaConfig.parse(LLAMA | {"rope_parameters": longer}).rope_frequencies
    assert ratio[0] == 1.0
    assert np.any((ratio > 1.1) & (ratio < 3.9))


def test_read_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert read_config(tmp_path) == LLAMA


def test_read_config_that_is_absent(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="nowhere is not a folder"):
        read_config(tmp_path / "nowhere")
    with pytest.raises(ModelNotFoundError, match=r"config\.json does not exist"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n  "a": 1,\n}', "line 3, column 1"),
        ("", "line 1, column 1"),
        ("[1]", "JSON object, not list"),
        ('{"a": 1, "a": 2}', "'a' occurs twice"),
    ],
)
def test_read_config_that_is_damaged(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CorruptFileError, match=message):
        read_config(tmp_path)


@needs_shared
@pytest.mark.parametrize("name", ["Llama-3.2-1B-Instruct", "llama3-8B-instruct"])
def test_published_configs_are_understood(name: str) -> None:
    config = LlamaConfig.parse(json.loads((SHARED / "configs" / f"{name}.config.json").read_text()))
    assert len(config.rope_frequencies) == config.head_dim // 2
