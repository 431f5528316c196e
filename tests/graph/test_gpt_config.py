"""What the ``config.json`` of GPT-Neo and GPT-NeoX may say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ovgen.errors import CorruptFileError, UnsupportedModelError
from ovgen.graph.arch.gpt_neo import GPTNeoConfig
from ovgen.graph.arch.gpt_neox import GPTNeoXConfig
from tests.tiny_models import VARIANTS

NEO = VARIANTS["gpt-neo"].config
NEOX = VARIANTS["gpt-neox"].config


def neo(**changes: Any) -> GPTNeoConfig:
    return GPTNeoConfig.parse({**NEO, **changes})


def neox(**changes: Any) -> GPTNeoXConfig:
    return GPTNeoXConfig.parse({**NEOX, **changes})


def test_attention_types_of_gpt_neo_are_spelled_out() -> None:
    assert neo().windows == (None, 8, 8)
    types = [[["local"], 1], [["global", "local"], 2], [["global"], 0]]
    assert neo(num_layers=5, attention_types=types).windows == (8, None, 8, None, 8)
    assert neo(num_layers=24, attention_types=None, window_size=None).windows == (None, 256) * 12


def test_attention_layers_hold_as_in_hugging_face() -> None:
    layers = ["local", "local", "global"]
    assert neo(attention_layers=layers).windows == (8, 8, None)
    assert neo(attention_layers=layers, attention_types=None).windows == (8, 8, None)


@pytest.mark.parametrize(
    "types",
    [
        [[["global"], 2]],  # of three layers
        [[["global"], 10**12]],
        [[["global", 3], 2]],
        ["global", "local", "local"],
        [["global", 3]],
        [[["global"], "3"]],
        {"global": 3},
        7,
    ],
)
def test_attention_types_that_cannot_be(types: Any) -> None:
    with pytest.raises(CorruptFileError, match="attention_types"):
        neo(attention_types=types)


def test_kinds_of_attention_that_nobody_knows() -> None:
    with pytest.raises(UnsupportedModelError, match="attention_layers"):
        neo(attention_types=[[["global", "strided"], 1], [["local"], 1]])
    with pytest.raises(UnsupportedModelError, match="attention_layers"):
        neo(attention_layers=["global", [], "local"])


def test_as_many_layers_as_would_fill_the_memory() -> None:
    with pytest.raises(CorruptFileError, match="num_layers"):
        neo(num_layers=2**31 - 1, attention_types=[[["global"], 2**31 - 1]])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hidden_size": 30}, "hidden_size"),
        ({"window_size": 0}, "window_size"),
        ({"num_heads": True}, "num_heads"),
        ({"attention_layers": ["local"]}, "attention_layers"),
    ],
)
def test_values_that_no_gpt_neo_has(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(CorruptFileError, match=field):
        neo(**changes)


def test_rotation_of_gpt_neox_by_either_spelling() -> None:
    exponents = np.arange(0, 8, 2) / 8  # half of 16 elements turn
    expected = 500.0**-exponents
    old = neox(rotary_pct=0.5, rotary_emb_base=500)
    new = neox(rotary_pct=None, rope_parameters={"partial_rotary_factor": 0.5, "rope_theta": 500.0})
    np.testing.assert_allclose(old.rope.frequencies, expected, rtol=1e-6)
    np.testing.assert_array_equal(old.rope.frequencies, new.rope.frequencies)
    np.testing.assert_allclose(neox(rotary_pct=None).rope.frequencies, [1.0, 0.01], rtol=1e-6)  # a quarter
    both = neox(rotary_pct=0.5, partial_rotary_factor=0.5, rotary_emb_base=500, rope_theta=500.0)
    np.testing.assert_array_equal(both.rope.frequencies, new.rope.frequencies)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hidden_size": 30}, "hidden_size"),
        ({"rotary_pct": 1.5}, "partial_rotary_factor"),
        ({"rotary_emb_base": -1}, "rotary_emb_base"),
        ({"rotary_emb_base": 500, "rope_theta": 10000.0}, "rope_theta must be equal to rotary_emb_base=500"),
        ({"rotary_pct": 0.25, "partial_rotary_factor": 0.5}, "partial_rotary_factor must be equal to rotary_pct=0.25"),
        ({"use_parallel_residual": "yes"}, "use_parallel_residual"),
    ],
)
def test_values_that_no_gpt_neox_has(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(CorruptFileError, match=field):
        neox(**changes)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hidden_act": "mish"}, "hidden_act"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling"),
        ({"sliding_window": 16}, "sliding_window"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    ],
)
def test_what_gpt_neox_does_not_compute(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(UnsupportedModelError, match=field):
        neox(**changes)
