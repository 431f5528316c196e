"""Against transformers: the recording of ``scripts/record_sampling_golden.py``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovgen.config import SamplingParams
from ovgen.sampling import SamplerState
from ovgen.sampling.candidates import shortlist
from ovgen.sampling.transforms import Logits
from tests.sampling import reference

with np.load(Path(__file__).parents[1] / "golden" / "sampling.npz") as _file:
    CASES: list[dict[str, Any]] = json.loads(str(_file["cases"]))
    LOGITS: Logits = _file["logits"]
    EXPECTED: Logits = _file["expected"]


def double(_ids: object, logits: Logits) -> Logits:
    return logits * np.float32(2)


def revive(_ids: object, logits: Logits) -> Logits:
    return np.where(logits == -np.inf, np.float32(1.5), logits)


PROCESSORS = {"double": double, "revive": revive}
STANDING = ("prompt", "output", "eos", "processor", "bad_words")


def params_of(case: dict[str, Any]) -> SamplingParams:
    options = {name: value for name, value in case.items() if name not in STANDING}
    if "logit_bias" in options:
        options["logit_bias"] = {int(token): bias for token, bias in options["logit_bias"].items()}
    if "processor" in case:
        options["logits_processors"] = (PROCESSORS[case["processor"]],)
    return SamplingParams(**options)


def log_softmax(logits: Logits) -> Logits:
    shifted: Logits = logits - logits.max()
    shifted -= np.log(np.exp(shifted).sum())
    return shifted


def check(scores: Logits, index: int) -> None:
    expected = EXPECTED[index]
    if "temperature" in CASES[index]:  # the logits may be shifted, the probabilities are the same
        scores, expected = log_softmax(scores), log_softmax(expected)
    if "top_p" in CASES[index] and has_equals(LOGITS[index]):
        # Which of some equal tokens fit into p is left to an unstable sort there: how many do is compared.
        scores, expected = np.sort(scores), np.sort(expected)
    assert np.array_equal(scores == -np.inf, expected == -np.inf)
    left = expected > -np.inf
    np.testing.assert_allclose(scores[left], expected[left], rtol=2e-6, atol=2e-6)


def has_equals(logits: Logits) -> bool:
    return np.unique(logits).size < logits.size


@pytest.mark.parametrize("index", range(len(CASES)))
def test_the_reference_agrees_with_transformers(index: int) -> None:
    case = CASES[index]
    params = params_of(case)
    words, eos = case.get("bad_words", ()), frozenset(case["eos"])
    scores = reference.processed(LOGITS[index], params, case["prompt"], case["output"], eos, words)
    check(scores if params.greedy else reference.warped(scores, params), index)


@pytest.mark.parametrize("index", range(len(CASES)))
def test_the_sampler_agrees_with_transformers(index: int) -> None:
    case = CASES[index]
    params = params_of(case)
    state = SamplerState(params, case["prompt"], frozenset(case["eos"]), case.get("bad_words", ()))
    for token in case["output"]:
        state.append(token)
    scores = LOGITS[index].copy()
    state.process(scores)
    if not params.greedy:
        ids, values = shortlist(scores, params)
        left = np.arange(scores.size) if ids is None else ids
        scores = np.full_like(scores, -np.inf)
        scores[left] = values
    check(scores, index)


def test_the_recording_shows_an_effect_of_most_options() -> None:
    changed = [not np.array_equal(a, b) for a, b in zip(LOGITS, EXPECTED, strict=True)]
    # Unchanged are those that stand outside the reach of their option: an n-gram longer than the text,
    # min_new_tokens reached, a token forced or suppressed elsewhere, a top_k above the vocabulary.
    assert len(changed) - sum(changed) == 2 * 6
