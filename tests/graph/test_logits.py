"""Logits of every variant equal those that Hugging Face computes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from ovgen.graph import build_model
from ovgen.weights import open_checkpoint
from tests.graph.tools import build, compile_exact
from tests.tiny_models import VARIANTS, make

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
PREFILL = 24


@dataclass(frozen=True)
class Golden:
    """What Hugging Face computed: inputs ``(2, length)``, logits ``(2, kept, vocab)`` at the positions ``kept``."""

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    kept: NDArray[np.int64]
    logits: NDArray[np.float32]


def golden(variant: str) -> Golden:
    with np.load(GOLDEN / "logits" / f"{variant}.npz") as file:
        return Golden(**{name: file[name] for name in Golden.__annotations__})


def infer(request: ov.InferRequest, case: Golden, begin: int, end: int) -> NDArray[np.float32]:
    """Logits ``(2, end - begin, vocab)`` of columns that follow what the request has seen."""
    request.infer(
        {
            "input_ids": case.input_ids[:, begin:end],
            "attention_mask": case.attention_mask[:, :end],
            "position_ids": case.position_ids[:, begin:end],
            "beam_idx": np.arange(2, dtype=np.int32),
        }
    )
    return np.array(request.get_tensor("logits").data)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_hugging_face(variant: str, folder_of: Callable[[str], Path]) -> None:
    case = golden(variant)
    request = compile_exact(build(folder_of(variant))).create_infer_request()
    length = case.input_ids.shape[1]

    pieces = [infer(request, case, 0, PREFILL)]
    pieces += [infer(request, case, column, column + 1) for column in range(PREFILL, length)]
    stepwise = np.concatenate(pieces, 1)[:, case.kept]  # (2, kept, vocab)
    request.reset_state()
    at_once = infer(request, case, 0, length)[:, case.kept]

    np.testing.assert_allclose(stepwise, case.logits, rtol=0, atol=1e-4)
    np.testing.assert_allclose(at_once, case.logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_configuration_that_hugging_face_writes_gives_the_same(
    variant: str, folder_of: Callable[[str], Path]
) -> None:
    case = golden(variant)
    config = json.loads((GOLDEN / "configs" / f"{variant}.json").read_text())
    request = compile_exact(build_model(config, open_checkpoint(folder_of(variant)))).create_infer_request()
    logits = infer(request, case, 0, case.input_ids.shape[1])[:, case.kept]
    np.testing.assert_allclose(logits, case.logits, rtol=0, atol=1e-4)


FULL, SLIDING = "full_attention", "sliding_attention"
LONGROPE = VARIANTS["phi3-longrope"].config["rope_scaling"]
AS_IN_GGUF = VARIANTS["llama-longrope"].config["rope_scaling"]
BY_LAYER_KIND = VARIANTS["gemma3"].config["rope_parameters"]


@pytest.mark.parametrize(
    ("variant", "changes"),
    [
        ("llama-linear", {"rope_scaling": None}),
        ("llama-llama3", {"rope_parameters": None, "rope_theta": 500.0}),
        ("llama-yarn", {"rope_scaling": None}),
        ("llama-longrope", {"rope_scaling": AS_IN_GGUF | {"attention_factor": 1.0}}),
        ("llama-longrope", {"rope_scaling": AS_IN_GGUF | {"short_factor": [1] * 8, "long_factor": [1] * 8}}),
        ("mistral", {"sliding_window": 9}),
        ("qwen2-windows", {"use_sliding_window": False}),
        ("qwen2-windows", {"max_window_layers": 2}),
        ("qwen3-windows", {"layer_types": [SLIDING, FULL, FULL]}),
        ("phi3", {"sliding_window": None}),
        ("phi3-longrope", {"original_max_position_embeddings": 256}),
        ("phi3-longrope", {"rope_scaling": LONGROPE | {"attention_factor": 1.0}}),
        ("smollm3", {"no_rope_layer_interval": 4}),
        ("smollm3-windows", {"no_rope_layers": [1, 1, 1], "layer_types": [SLIDING, FULL, FULL]}),
        ("smollm3-windows", {"use_sliding_window": False}),
        ("granite", {"attention_multiplier": 0.25}),
        ("granite", {"embedding_multiplier": None}),
        ("granite", {"residual_multiplier": None}),
        ("granite", {"logits_scaling": None}),
        ("stablelm", {"partial_rotary_factor": 0.5}),
        ("stablelm-parallel", {"use_parallel_residual": False}),
        ("stablelm-parallel", {"qk_layernorm": False}),
        ("gemma2", {"attn_logit_softcapping": 50.0}),
        ("gemma2", {"final_logit_softcapping": 30.0}),
        ("gemma2", {"query_pre_attn_scalar": 32}),
        ("gemma2-layer-types", {"layer_types": None}),
        ("gemma3", {"rope_parameters": BY_LAYER_KIND | {SLIDING: BY_LAYER_KIND[FULL]}}),
        ("gemma3-pattern", {"rope_local_base_freq": None}),
        ("gemma3-pattern", {"rope_scaling": None}),
        ("gemma3-pattern", {"sliding_window_pattern": 3}),
    ],
    ids=str,
)
def test_every_option_matters(variant: str, changes: dict[str, Any], tmp_path: Path) -> None:
    case = golden(variant)
    request = compile_exact(build(make(variant, tmp_path, **changes))).create_infer_request()
    logits = infer(request, case, 0, case.input_ids.shape[1])[:, case.kept]
    assert np.abs(logits - case.logits).max() > 0.05


def test_recorded_positions_see_padding_and_decode() -> None:
    case = golden("llama")
    assert case.attention_mask[1, 0] == 0, "the second sequence must be padded"
    assert case.attention_mask[:, case.kept].all(), "logits of padding mean nothing"
    assert (case.kept >= PREFILL).sum() >= 8


def test_beam_idx_reorders_the_cache(folder_of: Callable[[str], Path]) -> None:
    case = golden("llama")
    request = compile_exact(build(folder_of("llama"))).create_infer_request()
    infer(request, case, 0, PREFILL)
    request.infer(
        {
            "input_ids": case.input_ids[:, PREFILL : PREFILL + 1][::-1].copy(),
            "attention_mask": case.attention_mask[:, : PREFILL + 1][::-1].copy(),
            "position_ids": case.position_ids[:, PREFILL : PREFILL + 1][::-1].copy(),
            "beam_idx": np.array([1, 0], np.int32),
        }
    )
    column = list(case.kept).index(PREFILL)
    swapped = request.get_tensor("logits").data[::-1, 0]  # (2, vocab)
    np.testing.assert_allclose(swapped, case.logits[:, column], rtol=0, atol=1e-4)
