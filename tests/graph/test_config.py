"""Configurations are read whole: what is not implemented is an error that names it, never ignored."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ovgen.errors import CorruptFileError, ModelError, ModelNotFoundError, UnsupportedModelError
from ovgen.graph import build_model, read_config
from ovgen.graph.arch import ARCHITECTURES, DECODERS, read_decoder
from ovgen.graph.arch.gpt2 import GPT2Config
from ovgen.graph.arch.options import DecoderOptions
from ovgen.graph.rope import Rope
from ovgen.weights import Checkpoint
from tests.shared_data import SHARED, needs_shared
from tests.tiny_models import VARIANTS

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "configs"
LLAMA = VARIANTS["llama"].config
GPT2 = VARIANTS["gpt2"].config
LLAMA3 = VARIANTS["llama-llama3"].config["rope_parameters"]
LONGROPE = VARIANTS["phi3-longrope"].config["rope_scaling"]
PLAIN = {variant.base["model_type"]: variant.config for variant in reversed(VARIANTS.values())}  # the first of a family


def described(options: DecoderOptions) -> dict[str, Any]:
    """Options in a form that compares equal where they are."""

    def value(each: Any) -> Any:
        if isinstance(each, tuple):
            return [value(item) for item in each]
        return {key: repr(item) for key, item in vars(each).items()} if isinstance(each, Rope) else repr(each)

    return {field.name: value(getattr(options, field.name)) for field in dataclass_fields(options)}


def frequencies(config: dict[str, Any]) -> NDArray[np.float32]:
    rope = read_decoder(config).ropes[0]
    assert rope is not None
    return rope.frequencies


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
        ("sliding_window", 64),
        ("layer_types", ["full_attention", "sliding_attention", "full_attention"]),
        ("rope_scaling", {"type": "dynamic", "factor": 4.0}),
        ("rope_parameters", {"rope_type": "proportional", "rope_theta": 1e4}),
        ("rope_parameters", {"rope_theta": 1e4, "partial_rotary_factor": 0.25}),
        ("rope_parameters", {"rope_theta": 1e4, "mrope_section": [2, 3, 3]}),
        ("rope_parameters", {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 0.7}),
        ("rope_parameters", {"full_attention": {"rope_theta": 1e4}}),
    ],
)
def test_llama_refuses_what_it_does_not_compute(key: str, value: Any) -> None:
    with pytest.raises(UnsupportedModelError, match=rf"config\.json: {key}.* is not implemented for llama: "):
        read_decoder(LLAMA | {key: value})


# What the configurations of Hugging Face's decoders have that changes the mathematics, with a value that does.
CHANGES: dict[str, Any] = {
    "attention_bias": True,
    "attention_multiplier": 0.5,
    "attn_logit_softcapping": 7.0,
    "clip_qkv": 8.0,
    "embedding_multiplier": 2.0,
    "final_logit_softcapping": 7.0,
    "head_dim": 8,
    "layer_types": ["full_attention", "full_attention", "sliding_attention"],
    "lm_head_bias": True,
    "logit_scale": 0.5,
    "logits_scaling": 0.7,
    "mlp_bias": True,
    "no_rope_layers": [1, 1, 0],
    "num_local_experts": 4,
    "partial_rotary_factor": 0.75,
    "qk_layernorm": True,
    "quantization_config": {"quant_method": "gptq"},
    "query_pre_attn_scalar": 100,
    "residual_multiplier": 0.5,
    "rope_local_base_freq": 3.0,
    "sliding_window": 7,
    "use_bidirectional_attention": True,
    "use_parallel_residual": True,
    "use_qkv_bias": True,
    "use_sliding_window": True,
}
# Hugging Face ignores them too, where use_sliding_window is not set.
IGNORED = {("qwen2", "sliding_window"), ("qwen3", "sliding_window"), ("smollm3", "sliding_window")}


@pytest.mark.parametrize(("kind", "key"), sorted({(kind, key) for kind in DECODERS for key in CHANGES} - IGNORED))
def test_no_family_ignores_what_changes_the_mathematics(kind: str, key: str) -> None:
    context = {"sliding_window": 8, "max_window_layers": 0} if key in ("layer_types", "use_sliding_window") else {}
    config = VARIANTS["gemma3-pattern"].config if kind == "gemma3_text" else PLAIN[kind]
    plain = {name: value for name, value in config.items() if name != key}
    expected = described(read_decoder(plain))
    with suppress(UnsupportedModelError):
        changed = read_decoder(plain | context | {key: CHANGES[key]})
        assert described(changed) != expected


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
    ],
)
def test_llama_values_that_cannot_be(key: str, value: Any) -> None:
    with pytest.raises(CorruptFileError, match=rf"config\.json: {key} must be"):
        read_decoder(LLAMA | {key: value})


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("gemma2", "layer_types", 3),
        ("gemma2", "layer_types", ["full_attention"] * 2),
        ("gemma2", "sliding_window", None),
        ("smollm3", "no_rope_layers", []),
        ("phi3", "partial_rotary_factor", 0.05),
        ("phi3", "partial_rotary_factor", 1.5),
        ("granite", "logits_scaling", 0),
    ],
)
def test_values_that_cannot_be(kind: str, key: str, value: Any) -> None:
    with pytest.raises(CorruptFileError, match=rf"config\.json: {key} must be"):
        read_decoder(PLAIN[kind] | {key: value})


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("gemma2", "layer_types", ["full_attention", "chunked_attention", "full_attention"]),
        ("gemma2", "layer_types", ["full_attention", [], "full_attention"]),
        ("smollm3", "no_rope_layers", [1, 2, 1]),
        ("gemma3_text", "rope_parameters", {"rope_type": "default", "rope_theta": 1e4}),
        ("mistral", "layer_types", ["full_attention", "sliding_attention", "full_attention"]),
    ],
)
def test_values_that_are_not_implemented(kind: str, key: str, value: Any) -> None:
    with pytest.raises(UnsupportedModelError, match=rf"config\.json: {key}=.* is not implemented for {kind}"):
        read_decoder(PLAIN[kind] | {key: value})


def test_rope_fields_are_named_with_their_path() -> None:
    with pytest.raises(CorruptFileError, match=r"rope_scaling\.factor must be a number above 0, it is missing"):
        read_decoder(LLAMA | {"rope_scaling": {"rope_type": "linear"}})
    with pytest.raises(CorruptFileError, match=r"rope_parameters\.high_freq_factor must be above low_freq_factor"):
        read_decoder(LLAMA | {"rope_parameters": LLAMA3 | {"high_freq_factor": 1.0}})
    yarn = VARIANTS["llama-yarn"].config["rope_scaling"]
    for betas in ({"beta_fast": 1.0}, {"beta_fast": 2.0, "beta_slow": 3.0}, {"beta_slow": 4.0}):
        with pytest.raises(CorruptFileError, match=r"rope_scaling\.beta_fast must be above beta_slow"):
            read_decoder(LLAMA | {"rope_scaling": yarn | betas})


@pytest.mark.parametrize(("key", "value"), [("n_embd", 65), ("n_layer", None), ("n_inner", -1)])
def test_gpt2_values_that_cannot_be(key: str, value: Any) -> None:
    with pytest.raises(CorruptFileError, match=rf"config\.json: {key} must be"):
        GPT2Config.parse(GPT2 | {key: value})


HARMLESS = {"architectures", "attention_dropout", "bos_token_id", "embd_pdrop", "eos_token_id", "hidden_dropout"}
HARMLESS |= {"initializer_range", "pad_token_id", "pretraining_tp", "resid_pdrop", "transformers_version", "use_cache"}
HARMLESS |= {"model_type", "_sliding_window_pattern"}  # the first chooses the family, the second repeats another key
# Read only where another key asks for it, which other tests do.
SOMETIMES = {"max_position_embeddings", "max_window_layers", "original_max_position_embeddings", "sliding_window"}


@pytest.mark.parametrize("variant", [name for name, v in VARIANTS.items() if v.base["model_type"] in DECODERS])
def test_every_key_that_hugging_face_writes_is_known(variant: str) -> None:
    config = json.loads((GOLDEN / f"{variant}.json").read_text())
    for key in config.keys() - HARMLESS - SOMETIMES:
        with pytest.raises(ModelError, match=key):
            read_decoder(config | {key: "x"})


NUMBERS = (0, -1, 1, 2**31, 10**400, 1e-300, 1e300, float("nan"), float("inf"))
OBJECTS: tuple[dict[str, Any], ...] = ({}, {"x": 1}, {"rope_type": "yarn"}, {"rope_type": "longrope", "factor": 2.0})
JUNK: list[Any] = [None, True, *NUMBERS, "", "x", [], [None], [[]], [1] * 3, *OBJECTS]


def spoilt(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Copies with junk in place of one value, also of those in objects within; or without it."""
    for key, value in config.items():
        yield {name: other for name, other in config.items() if name != key}
        yield from (config | {key: junk} for junk in JUNK)
        if isinstance(value, dict):
            yield from (config | {key: inner} for inner in spoilt(value))


def configs() -> Iterator[Any]:
    """One of each family as Hugging Face 5 writes it, and some as earlier versions did."""
    for variant in {variant.base["model_type"]: name for name, variant in VARIANTS.items()}.values():
        yield pytest.param(json.loads((GOLDEN / f"{variant}.json").read_text()), id=f"{variant}-5")
    for variant in ("llama-yarn", "llama-longrope", "phi3-longrope", "gemma3-pattern"):
        yield pytest.param(VARIANTS[variant].config, id=variant)


@pytest.mark.parametrize("config", list(configs()))
def test_junk_anywhere_is_one_of_our_errors(config: dict[str, Any]) -> None:
    for each in spoilt(config):
        tracemalloc.start()
        with pytest.raises(ModelError, match=r"config\.json"):
            build_model(each, Checkpoint("no file", {}))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 64 << 20


def test_harmless_keys_are_ignored() -> None:
    extra = {"attention_dropout": 0.1, "initializer_range": 1, "pretraining_tp": 2, "use_cache": False, "mine": []}
    assert read_decoder(LLAMA | extra).hidden_size == 64
    neutral = {"partial_rotary_factor": 1.0, "pruned_heads": {}, "layer_types": ["full_attention"] * 3}
    assert read_decoder(LLAMA | neutral).hidden_size == 64


def test_null_means_none_where_the_default_is_something() -> None:
    assert read_decoder(PLAIN["mistral"] | {"sliding_window": None}).windows == (None,) * 3
    absent = {key: value for key, value in PLAIN["mistral"].items() if "window" not in key and "max" not in key}
    assert read_decoder(absent).windows == (4096,) * 3
    uncapped = {"attn_logit_softcapping": None, "final_logit_softcapping": None}
    options = read_decoder(PLAIN["gemma2"] | uncapped)
    assert (options.softcap, options.logits_softcap) == (None, None)
    absent = {key: value for key, value in PLAIN["gemma2"].items() if "softcapping" not in key}
    assert (read_decoder(absent).softcap, read_decoder(absent).logits_softcap) == (50.0, 30.0)


def test_a_window_as_long_as_the_context_is_none() -> None:
    assert read_decoder(PLAIN["mistral"] | {"sliding_window": 256}).windows == (None,) * 3
    assert read_decoder(PLAIN["mistral"] | {"sliding_window": 255}).windows == (255,) * 3


def test_both_spellings_of_rope_give_the_same() -> None:
    inside = LLAMA | {"rope_parameters": LLAMA3, "rope_theta": None}
    scaling = {key: value for key, value in LLAMA3.items() if key != "rope_theta"}
    beside = LLAMA | {"rope_scaling": scaling, "rope_theta": LLAMA3["rope_theta"]}
    np.testing.assert_array_equal(frequencies(inside), frequencies(beside))


def test_llama3_frequencies_are_kept_divided_and_between() -> None:
    plain = frequencies(LLAMA | {"rope_theta": 500.0})
    ratio = plain / frequencies(LLAMA | {"rope_parameters": LLAMA3})  # (8,)
    assert ratio[-1] == pytest.approx(4.0)
    assert np.all(np.diff(ratio) > -1e-6)
    longer = LLAMA3 | {"original_max_position_embeddings": 64}
    ratio = plain / frequencies(LLAMA | {"rope_parameters": longer})
    assert ratio[0] == 1.0
    assert np.any((ratio > 1.1) & (ratio < 3.9))


def test_longrope_scales_by_how_far_the_context_was_stretched() -> None:
    config = VARIANTS["phi3-longrope"].config
    rope = read_decoder(config).ropes[0]
    assert rope is not None
    assert rope.scale == pytest.approx(2**0.5)  # sqrt(1 + ln(256 / 16) / ln(16))
    assert rope.original_context == 16
    unstretched = read_decoder(config | {"original_max_position_embeddings": 256}).ropes[0]
    assert unstretched is not None
    assert unstretched.scale == 1.0


def test_longrope_that_is_the_same_everywhere_needs_no_choice() -> None:
    rope = read_decoder(VARIANTS["llama-longrope"].config).ropes[0]
    assert rope is not None
    assert rope.long_frequencies is None
    assert rope.scale == pytest.approx(1.2)


def test_longrope_factors_must_be_one_for_each_pair() -> None:
    shorter = LONGROPE | {"short_factor": [1.0] * 5}
    with pytest.raises(CorruptFileError, match=r"rope_scaling\.short_factor must be a list of 6 numbers above 0"):
        read_decoder(VARIANTS["phi3-longrope"].config | {"rope_scaling": shorter})


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
@pytest.mark.parametrize("path", sorted((SHARED / "configs").glob("*.json")), ids=lambda path: path.name.split(".c")[0])
def test_published_configs_are_understood(path: Path) -> None:
    options = read_decoder(json.loads(path.read_text()))
    assert len(frequencies(json.loads(path.read_text()))) == options.head_dim // 2
    assert options.windows == (None,) * options.layers
    assert options.qkv_bias == ("Qwen2" in path.name)
