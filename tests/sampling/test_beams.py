"""Beam search over models that are tables: what transformers found is found, to the token."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovgen.config import SamplingParams
from ovgen.errors import GenerationError
from ovgen.sampling import SamplerState
from ovgen.sampling.beams import BeamSearch, Hypothesis, Successor
from ovgen.sampling.transforms import Logits
from tests.sampling.tables import END, PROMPT, table

GOLDEN = Path(__file__).parents[1] / "golden"
RECORDED: list[dict[str, Any]] = json.loads((GOLDEN / "beams.json").read_text("utf-8"))
RECORDED += json.loads((GOLDEN / "beams_diverse.json").read_text("utf-8"))
CASES = [case for case in RECORDED if isinstance(case["model"], int)]
TABLES = [table(seed) for seed in range(3)]
Model = Callable[[list[int]], Logits]
STANDING = ("model", "prompt", "texts", "scores", "eos_token_id")


def name_of(case: dict[str, Any]) -> str:
    given = {name: value for name, value in case.items() if name not in ("prompt", "texts", "scores")}
    return ",".join(map(str, given.values()))


def following(logits: Logits) -> Model:
    """A model by its table."""
    return lambda tokens: logits[tokens[-2], tokens[-1]].copy()


def run(model: Model, prompt: list[int], stop: list[int], most: int, **options: Any) -> list[Hypothesis]:
    """Search as the engine does, a state for each beam."""
    params = SamplingParams(max_new_tokens=most, **options)
    search = BeamSearch(params, frozenset(stop), most)
    beams = [(prompt, SamplerState(params, prompt, frozenset(stop)))]
    while not search.done:
        candidates = [search.candidates(model(tokens), state) for tokens, state in beams]
        parents, beams = beams, []
        for parent, token in search.step(candidates):
            tokens, state = parents[parent]
            beams.append(([*tokens, token], state.fork()))
            beams[-1][1].append(token)
    return search.best(params.num_beams)


def run_case(case: dict[str, Any]) -> list[Hypothesis]:
    options = {name: value for name, value in case.items() if name not in STANDING}
    if "logit_bias" in options:
        options["logit_bias"] = {int(token): bias for token, bias in options["logit_bias"].items()}
    most = options.pop("max_new_tokens")
    return run(following(TABLES[case["model"]]), case["prompt"], case["eos_token_id"], most, **options)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_transformers_finds_the_same(case: dict[str, Any]) -> None:
    found = run_case(case)
    assert [list(text.token_ids) for text in found] == case["texts"]
    np.testing.assert_allclose([text.score for text in found], case["scores"], rtol=1e-5, atol=1e-4)


def constant(*probabilities: float) -> Model:
    """A model that always thinks the same of each token."""
    with np.errstate(divide="ignore"):
        row = np.log(np.array(probabilities, np.float32))
    return lambda _tokens: row.copy()


def searching(
    num_beams: int = 2, stop: tuple[int, ...] = (), most: int = 4, **options: Any
) -> tuple[BeamSearch, SamplerState]:
    params = SamplingParams(num_beams=num_beams, **options)
    return BeamSearch(params, frozenset(stop), most), SamplerState(params, PROMPT, frozenset(stop))


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.5, -1.0])
@pytest.mark.parametrize("stop", [[], [0], [0, 2]])
def test_enough_beams_find_every_text_of_a_small_vocabulary(stop: list[int], length_penalty: float) -> None:
    logits = np.random.RandomState(5).normal(0, 2, (3, 3, 3)).astype(np.float32)
    logprobs = np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
    scores: dict[tuple[int, ...], float] = {}
    for tokens in itertools.product(range(3), repeat=3):
        end = next((place for place, token in enumerate(tokens, 1) if token in stop), 3)
        whole = (1, 1, *tokens[:end])
        score = sum(logprobs[whole[i], whole[i + 1], whole[i + 2]] for i in range(end))
        scores[tokens[:end]] = score / end**length_penalty
    found = run(following(logits), [1, 1], stop, 3, num_beams=27, length_penalty=length_penalty)
    assert [text.token_ids for text in found] == sorted(scores, key=lambda tokens: -scores[tokens])
    np.testing.assert_allclose([text.score for text in found], sorted(scores.values(), reverse=True), rtol=1e-5)


def test_one_beam_is_greedy() -> None:
    search, state = searching(1, most=9)
    tokens = list(PROMPT)
    while not search.done:
        row = following(TABLES[0])(tokens)
        likeliest = int(row.argmax())
        for successor in search.step([search.candidates(row, state)]):
            assert successor == Successor(0, likeliest)
        tokens.append(likeliest)
    assert search.best(1)[0].token_ids == tuple(tokens[len(PROMPT) :])


def test_beams_and_their_parents_by_hand() -> None:
    search, state = searching(2, stop=(3,), most=3)
    first = search.candidates(constant(0.5, 0.3, 0.0, 0.2)([]), state)
    assert first.token_ids.tolist() == [0, 1, 3]  # 2 cannot come; twice as many as beams are asked for
    assert search.step([first]) == [(0, 0), (0, 1)]
    likely, unlikely = constant(0.6, 0.3, 0.0, 0.1)([]), constant(0.1, 0.0, 0.0, 0.9)([])
    # 0.5 * 0.6 = 0.30; 0.3 * 0.9 = 0.27, which ends; 0.5 * 0.3 = 0.15
    assert search.step([search.candidates(row, state) for row in (likely, unlikely)]) == [(0, 0), (0, 1)]
    assert [text.token_ids for text in search.best(2)] == [(1, 3)]
    assert search.best(2)[0].score == pytest.approx(np.log(0.27) / 2)


def test_all_beams_may_finish_at_once() -> None:
    search, state = searching(2, stop=(2,), most=9, early_stopping=True)
    assert len(search.step([search.candidates(constant(0.5, 0.4, 0.1)([]), state)])) == 2
    assert search.step([search.candidates(constant(0.01, 0.01, 0.98)([]), state) for _ in range(2)]) == []
    assert search.done
    assert [text.token_ids for text in search.best(9)] == [(0, 2), (1, 2)]


def test_an_end_that_is_not_among_the_best_is_passed_over() -> None:
    search, state = searching(1, stop=(1,), most=9)
    assert search.step([search.candidates(constant(0.7, 0.3)([]), state)]) == [(0, 0)]
    assert search.best(1) == []


def test_candidates_keep_nothing_of_the_row() -> None:
    search, state = searching()
    row = following(TABLES[0])(PROMPT)
    kept = search.candidates(row, state)
    before = kept.token_ids.tolist(), kept.scores.tolist()
    row.fill(np.nan)
    assert (kept.token_ids.tolist(), kept.scores.tolist()) == before


def test_logits_that_are_no_numbers() -> None:
    search, state = searching()
    with pytest.raises(GenerationError, match="logit of token 1 is NaN"):
        search.candidates(np.array([1, np.nan, 2], np.float32), state)
    search, state = searching(logits_processors=[lambda _ids, row: row * np.float32(np.nan)])
    with pytest.raises(GenerationError, match="logit of token 0 is NaN"):
        search.candidates(np.array([1, 1, 2], np.float32), state)


def test_a_beam_that_nothing_is_left_to_ends_and_the_others_go_on() -> None:
    def dead_end(ids: Sequence[int], row: Logits) -> Logits:
        return np.full_like(row, -np.inf) if ids[-1] == 0 else row

    found = run(constant(0.6, 0.3, 0.1), PROMPT, [], 2, num_beams=2, logits_processors=[dead_end])
    assert [text.token_ids for text in found] == [(1, 0), (1, 1)]


def test_when_nothing_is_left_to_any_beam_the_search_fails_or_has_its_texts() -> None:
    with pytest.raises(GenerationError, match="no token is left"):
        run(constant(0.5, 0.5), PROMPT, [], 4, num_beams=2, no_repeat_ngram_size=1)
    assert run(constant(0.5, 0.5), PROMPT, [0], 4, num_beams=2, no_repeat_ngram_size=1)[0].token_ids == (0,)


def test_groups_begin_with_different_tokens_if_they_must() -> None:
    search, state = searching(6, stop=(END,), num_beam_groups=3, diversity_penalty=1e3)
    tokens = [token for _, token in search.step([search.candidates(following(TABLES[0])(PROMPT), state)])]
    ranked = np.argsort(-following(TABLES[0])(PROMPT)).tolist()
    assert tokens == [token for token in ranked if token != END][:6]


def test_a_group_that_is_done_leaves_the_others_their_beams() -> None:
    search, state = searching(4, stop=(2,), most=9, num_beam_groups=2, diversity_penalty=1.0, early_stopping=True)
    first = search.candidates(constant(0.4, 0.3, 0.1, 0.1, 0.1)([]), state)
    assert [parent for parent, _ in search.step([first])] == [0, 0, 0, 0]
    ends, goes_on = constant(0.01, 0.01, 0.98, 0.0, 0.0), constant(0.5, 0.5, 0.0, 0.0, 0.0)
    rows = [model([]) for model in (ends, ends, goes_on, goes_on)]
    assert [parent for parent, _ in search.step([search.candidates(row, state) for row in rows])] in ([2, 2], [2, 3])
    assert len(search.step([search.candidates(goes_on([]), state) for _ in range(2)])) == 2
    assert not search.done


def test_there_are_candidates_beside_all_that_end_the_text() -> None:
    search, state = searching(1, stop=(0, 1, 2), most=99, early_stopping="never")
    assert search.step([search.candidates(constant(0.3, 0.3, 0.3, 0.1)([]), state)]) == [(0, 3)]


@pytest.mark.parametrize(("early_stopping", "done"), [(True, True), (False, False), ("never", False)])
def test_where_longer_texts_lose_a_beam_is_judged_by_what_it_is_now(early_stopping: Any, done: bool) -> None:
    search, state = searching(2, stop=(1,), most=99, early_stopping=early_stopping, length_penalty=-1.0)
    for _ in range(2):
        search.step([search.candidates(constant(0.6, 0.4)([]), state)])
    assert [text.token_ids for text in search.best(2)] == [(1,), (0, 1)]
    assert search.done is done
