"""What a user may set: defaults, checks, and the messages of what is refused."""

from __future__ import annotations

import contextlib
import pickle
from dataclasses import FrozenInstanceError, asdict, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovgen.config import EngineConfig, SamplingParams, StructuredOutputs, override
from ovgen.errors import ConfigError, OvgenError


def test_the_defaults_are_greedy_and_change_no_logit() -> None:
    params = SamplingParams()
    assert params.greedy
    assert not SamplingParams(temperature=0.1).greedy
    off = {"top_k": 0, "top_p": 1, "min_p": 0, "typical_p": 1, "repetition_penalty": 1, "logit_bias": {}}
    assert {name: getattr(params, name) for name in off} == off


def test_each_option_has_a_line_of_help() -> None:
    for config in (SamplingParams, EngineConfig):
        for field in fields(config):
            assert field.metadata["help"].strip(), field.name


def test_lists_become_tuples() -> None:
    params = SamplingParams(
        suppress_tokens=[1, 2],  # type: ignore[arg-type]
        stop_token_ids={7},  # type: ignore[arg-type]
        stop=["a", "b"],  # type: ignore[arg-type]
        bad_words=["x", [3, 4]],  # type: ignore[arg-type]
    )
    assert params.suppress_tokens == (1, 2)
    assert params.stop_token_ids == (7,)
    assert params.stop == ("a", "b")
    assert params.bad_words == ("x", (3, 4))


def test_one_stop_string_needs_no_list() -> None:
    assert SamplingParams(stop="END").stop == ("END",)  # type: ignore[arg-type]


def test_the_mapping_given_is_copied() -> None:
    bias = {1: 2.0}
    params = SamplingParams(logit_bias=bias)
    bias[1] = 3.0
    assert params.logit_bias == {1: 2.0}


def test_params_are_frozen_and_can_be_sent_and_listed() -> None:
    params = SamplingParams(temperature=0.5, logit_bias={3: -1.0}, bad_words=((1, 2),))
    with pytest.raises(FrozenInstanceError):
        params.temperature = 1.0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(params)) == params
    assert asdict(params)["logit_bias"] == {3: -1.0}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", 1.5),
        ("max_new_tokens", True),
        ("min_new_tokens", -1),
        ("min_new_tokens", None),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "1"),
        ("temperature", None),
        ("top_k", -1),
        ("top_k", None),
        ("top_p", 0),
        ("top_p", 1.01),
        ("min_p", -0.01),
        ("min_p", 1.01),
        ("typical_p", 0.0),
        ("typical_p", 2),
        ("repetition_penalty", 0),
        ("presence_penalty", float("nan")),
        ("frequency_penalty", True),
        ("no_repeat_ngram_size", -2),
        ("logit_bias", {-1: 1.0}),
        ("logit_bias", {"5": 1.0}),
        ("logit_bias", {5: float("-inf")}),
        ("logit_bias", [5]),
        ("suppress_tokens", [-1]),
        ("suppress_tokens", [1.0]),
        ("suppress_tokens", 3),
        ("begin_suppress_tokens", ["a"]),
        ("forced_bos_token_id", -1),
        ("forced_eos_token_id", [1]),
        ("bad_words", "word"),
        ("bad_words", [""]),
        ("bad_words", [[]]),
        ("bad_words", [[1, -2]]),
        ("bad_words", [5]),
        ("stop", [""]),
        ("stop", [1]),
        ("stop", b"x"),
        ("stop_token_ids", [-5]),
        ("include_stop_str_in_output", 1),
        ("ignore_eos", "no"),
        ("skip_special_tokens", None),
        ("add_special_tokens", 0),
        ("seed", -1),
        ("seed", 1.0),
        ("logprobs", -1),
        ("prompt_logprobs", "5"),
        ("logits_processors", ["upper"]),
        ("logits_processors", len),
        ("structured_outputs", {"regex": "a"}),
        ("n", 0),
        ("n", True),
        ("n", None),
        ("best_of", 0),
        ("best_of", 2.0),
        ("num_beams", 0),
        ("num_beams", "4"),
        ("length_penalty", float("nan")),
        ("length_penalty", None),
        ("length_penalty", 21.0),
        ("early_stopping", "always"),
        ("early_stopping", 1),
        ("early_stopping", None),
        ("num_beam_groups", 0),
        ("diversity_penalty", -0.5),
        ("diversity_penalty", float("inf")),
        ("prompt_lookup_num_tokens", -1),
        ("prompt_lookup_num_tokens", None),
        ("max_matching_ngram_size", 0),
        ("max_matching_ngram_size", 2.5),
        ("num_assistant_tokens", -1),
        ("num_assistant_tokens", False),
        ("adapter", ""),
        ("adapter", 1),
        ("priority", 0.5),
        ("priority", True),
        ("priority", None),
        ("context_shift", -1),
        ("context_shift", "4"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} must be ") as caught:
        SamplingParams(**{name: value})
    shown = value if not isinstance(value, list) else value[0] if value else value
    assert repr(shown) in str(caught.value) or repr(tuple(shown)) in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 1, "min_new_tokens": 1},
        {"top_p": 1, "min_p": 1, "typical_p": 1.0, "temperature": 1},
        {"presence_penalty": -2.0, "frequency_penalty": 2, "repetition_penalty": 0.5},
        {"seed": 2**80, "logprobs": 0, "prompt_logprobs": 0},
        {"logits_processors": [lambda ids, logits: logits]},
        {"n": 3, "best_of": 3, "temperature": 0.1},
        {"n": 4, "num_beams": 4, "num_beam_groups": 4, "diversity_penalty": 0, "early_stopping": "never"},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "early_stopping": True, "length_penalty": -1},
        {"prompt_lookup_num_tokens": 0, "max_matching_ngram_size": 1, "num_assistant_tokens": 0, "best_of": 1},
        {"priority": -(2**40), "context_shift": 0, "adapter": " "},
    ],
)
def test_the_edges_of_what_can_be_used(options: dict[str, Any]) -> None:
    params = SamplingParams(**options)
    assert all(getattr(params, name) == value for name, value in options.items() if name != "logits_processors")


def test_the_least_may_not_exceed_the_most() -> None:
    with pytest.raises(ConfigError, match="min_new_tokens must be <= max_new_tokens, got 6"):
        SamplingParams(min_new_tokens=6, max_new_tokens=5)
    assert SamplingParams(min_new_tokens=6).min_new_tokens == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 3, "best_of": 2, "temperature": 1}, r"best_of must be at least n \(3\), got 2"),
        ({"n": 2}, "2 greedy texts of a prompt would be the same: set temperature above 0, or num_beams"),
        ({"n": 1025, "temperature": 1}, "n must be at most 1024, got 1025"),
        ({"best_of": 10**9, "temperature": 1}, "best_of must be at most 1024, got 1000000000"),
        ({"num_beams": 2000}, "num_beams must be at most 1024, got 2000"),
        ({"best_of": 3}, "3 greedy texts of a prompt would be the same: set temperature above 0, or num_beams"),
        ({"n": 3, "num_beams": 2}, r"n must be at most num_beams \(2\), got 3"),
        ({"num_beams": 4, "num_beam_groups": 3}, r"num_beam_groups must be a divisor of num_beams \(4\), got 3"),
        ({"num_beams": 4, "num_beam_groups": 8}, r"num_beam_groups must be a divisor of num_beams \(4\), got 8"),
        ({"num_beam_groups": 2}, "num_beam_groups must be 1 without num_beams, got 2"),
        ({"num_beams": 2, "diversity_penalty": 1.5}, "diversity_penalty must be 0 without num_beam_groups, got 1.5"),
    ],
)
def test_options_for_several_texts_have_to_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{message}$"):
        SamplingParams(**options)


@pytest.mark.parametrize(
    ("name", "value", "off"),
    [
        ("temperature", 0.5, "0.0"),
        ("best_of", 2, "None"),
        ("logprobs", 0, "None"),
        ("stop", ("x",), r"\(\)"),
        ("prompt_lookup_num_tokens", 3, "0"),
        ("context_shift", 0, "None"),
    ],
)
def test_what_a_beam_search_cannot_have(name: str, value: Any, off: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} must be {off} in a beam search \(num_beams=2\), got ") as caught:
        SamplingParams(num_beams=2, **{name: value})
    assert str(caught.value).endswith(f"got {value!r}")
    options = {name: value} if name == "temperature" else {name: value, "temperature": 0.5}
    assert getattr(SamplingParams(**options), name) == value  # the beams are what was wrong


_IN_RANGE: dict[str, st.SearchStrategy[Any]] = {
    **{name: st.integers(1, 6) for name in ("n", "best_of", "num_beams", "num_beam_groups")},
    **{name: st.integers(0, 6) for name in ("prompt_lookup_num_tokens", "context_shift", "logprobs")},
    "temperature": st.sampled_from([0.0, 0.7]),
    "length_penalty": st.floats(-2, 2),
    "early_stopping": st.sampled_from([True, False, "never"]),
    "diversity_penalty": st.sampled_from([0.0, 0.5]),
    "stop": st.sampled_from([(), ("x",)]),
}


def _fit(options: dict[str, Any]) -> bool:
    """Whether options that are each in their range can be used together."""
    beams, groups, n = (int(options.get(name, 1)) for name in ("num_beams", "num_beam_groups", "n"))
    sampled = bool(options.get("temperature"))
    if options.get("diversity_penalty") and groups == 1:
        return False
    if beams == 1:
        texts = int(options.get("best_of", n))
        return groups == 1 and texts >= n and (sampled or texts == 1)
    alone = {"best_of", "context_shift", "logprobs"}.isdisjoint(options)
    plain = not (sampled or options.get("stop") or options.get("prompt_lookup_num_tokens"))
    return n <= beams and beams % groups == 0 and alone and plain


@given(st.fixed_dictionaries({}, optional=_IN_RANGE))
def test_options_that_fit_are_taken_and_others_refused(options: dict[str, Any]) -> None:
    with contextlib.nullcontext() if _fit(options) else pytest.raises(ConfigError):
        params = SamplingParams(**options)
        assert {name: getattr(params, name) for name in options} == options


@pytest.mark.parametrize(
    ("ways", "message"),
    [
        ({}, "structured_outputs takes one of json, json_object, regex, choice, grammar; given: none"),
        ({"choice": []}, "given: none"),
        ({"json_object": True, "regex": "a"}, "given: json_object, regex"),
        ({"json": {}, "choice": ["a"]}, "given: json, choice"),
        ({"json": 3}, "json must be a JSON schema, as an object or as text, got 3"),
        ({"json_object": "yes"}, "json_object must be True or False, got 'yes'"),
        ({"regex": 5}, "regex must be text, or None, got 5"),
        ({"grammar": b"root"}, "grammar must be text, or None, got b'root'"),
        ({"choice": "ab"}, "choice must be a list, got 'ab'"),
        ({"choice": ["a", ""]}, r"choice must be non-empty strings, got \('a', ''\)"),
        ({"choice": [1]}, r"choice must be non-empty strings, got \(1,\)"),
    ],
)
def test_structured_outputs_are_one_way_of_the_right_type(ways: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"{message}$"):
        StructuredOutputs(**ways)


def test_structured_outputs_in_each_way() -> None:
    ways: list[dict[str, Any]] = [
        {"json": {"type": "object"}},
        {"json": '{"type": "object"}'},
        {"json_object": True},
        {"regex": "a+"},
        {"choice": ["yes", "no"]},
        {"grammar": 'root ::= "a"'},
    ]
    for way in ways:
        wanted = StructuredOutputs(**way)
        assert SamplingParams(structured_outputs=wanted).structured_outputs is wanted
        assert pickle.loads(pickle.dumps(wanted)) == wanted
    assert StructuredOutputs(choice=["yes", "no"]).choice == ("yes", "no")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs must be a whole number of at least 1, got 0"),
        ({"max_num_seqs": 2.5}, "max_num_seqs must be a whole number of at least 1, got 2.5"),
        ({"max_num_seqs": "8"}, "max_num_seqs must be a whole number of at least 1, got '8'"),
        ({"max_num_batched_tokens": 63}, r"max_num_batched_tokens must be at least max_num_seqs \(64\), got 63"),
        ({"max_num_batched_tokens": None}, "max_num_batched_tokens must be at least max_num_seqs"),
        ({"max_model_len": 0}, "max_model_len must be a whole number of at least 1, or None, got 0"),
        ({"cache_size": 0}, r"cache_size must be a number above 0 \(GiB\), got 0"),
        ({"cache_size": float("inf")}, r"cache_size must be a number above 0 \(GiB\), got inf"),
    ],
)
def test_the_engine_refuses_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EngineConfig(**options)


def test_the_engine_takes_budgets_that_fit() -> None:
    config = EngineConfig(max_num_seqs=8, max_num_batched_tokens=8, max_model_len=1, cache_size=0.25)
    assert (config.max_num_seqs, config.cache_size) == (8, 0.25)


def test_override_replaces_and_checks() -> None:
    params = SamplingParams(temperature=0.7, top_k=5)
    changed = override(params, {"top_k": 9})
    assert (changed.temperature, changed.top_k) == (0.7, 9)
    assert params.top_k == 5
    assert override(params, {}) is params
    with pytest.raises(ConfigError, match="top_k must be"):
        override(params, {"top_k": -1})


def test_override_suggests_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="unknown option 'temprature'; did you mean 'temperature'"):
        override(SamplingParams(), {"temprature": 1.0})
    with pytest.raises(ConfigError, match="unknown option 'zzz'; there are: max_num_seqs, "):
        override(EngineConfig(), {"zzz": 1})


def test_a_refusal_is_a_value_error_and_of_the_package() -> None:
    with pytest.raises(ValueError, match="top_p") as caught:
        SamplingParams(top_p=2)
    assert isinstance(caught.value, OvgenError)
