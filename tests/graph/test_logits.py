"""Logits of every variant equal those that Hugging Face computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from tests.graph.tools import build, compile_exact
from tests.tiny_models import VARIANTS

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "logits"
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
    with np.load(GOLDEN / f"{variant}.npz") as file:
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


def test_recorded_positions_see_padding_and_decode() -> None:
    case = golden("llama")
    assert case.attention_mask[1, 0] == 0, "the second sequence must be padded"
    assert case.attention_mask[:, case.kept].all(), "logits of padding mean nothing"
    assert (case.kept >= PREFILL).sum() >= 8


@pytest.mark.parametrize(("one", "other"), list(combinations(["llama", "llama-linear", "llama-llama3"], 2)))
def test_rope_variants_differ(one: str, other: str) -> None:
    assert np.abs(golden(one).logits - golden(other).logits).max() > 0.05


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
