"""Beam search over real models, from prompt to texts: what transformers found is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import ovgen
from tests.conftest import F32

GOLDEN = Path(__file__).parent / "golden"
CASES: list[dict[str, Any]] = [
    case
    for name in ("beams.json", "beams_diverse.json")
    for case in json.loads((GOLDEN / name).read_text("utf-8"))
    if isinstance(case["model"], str)
]
STANDING = ("model", "prompt", "texts", "scores", "eos_token_id")


def options_of(case: dict[str, Any]) -> dict[str, Any]:
    options = {name: value for name, value in case.items() if name not in STANDING}
    return options | {
        "temperature": 0.0,
        "ignore_eos": True,
        "stop_token_ids": case["eos_token_id"],
        "n": case["num_beams"],
    }


def check(out: ovgen.GenerationOutput, case: dict[str, Any]) -> None:
    assert [list(text.token_ids) for text in out.outputs] == case["texts"]
    assert [text.score for text in out.outputs] == pytest.approx(case["scores"], rel=1e-4, abs=1e-4)
    for text in out.outputs:
        assert text.finish_reason == ("stop" if text.token_ids[-1] in case["eos_token_id"] else "length")


def name_of(case: dict[str, Any]) -> str:
    given = {name: value for name, value in case.items() if name not in ("prompt", "texts", "scores")}
    return ",".join(map(str, given.values()))


@pytest.fixture(scope="module")
def models(storyteller: ovgen.LLM, tiny_llama: Path) -> dict[str, ovgen.LLM]:
    return {"storyteller": storyteller, "llama": ovgen.LLM(tiny_llama, device_config=F32)}


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_transformers_finds_the_same(case: dict[str, Any], models: dict[str, ovgen.LLM]) -> None:
    llm = models[case["model"]]
    check(llm.generate(case["prompt"], **options_of(case)), case)
    assert llm.engine.pool.used == 0


@pytest.mark.parametrize("form", ["paged", "stateful", "static"])
def test_every_form_searches(form: Any) -> None:
    case = CASES[0]
    llm = ovgen.LLM(ovgen.bundled_model(), device_config=F32, form=form, batch_slots=case["num_beams"])
    check(llm.generate(case["prompt"], **options_of(case)), case)


def test_searches_run_beside_each_other_and_beside_plain_requests(models: dict[str, ovgen.LLM]) -> None:
    llm = models["storyteller"]
    mine = [case for case in CASES if case["model"] == "storyteller"]
    plain = ovgen.SamplingParams(max_new_tokens=30)
    alone = llm.generate(mine[0]["prompt"], plain)
    params = [ovgen.SamplingParams(**options_of(case)) for case in mine] + [plain]
    outs = llm.generate([*(case["prompt"] for case in mine), mine[0]["prompt"]], params)
    for out, case in zip(outs, mine, strict=False):
        check(out, case)
    assert outs[-1].token_ids == alone.token_ids


def test_the_best_text_comes_first_and_n_says_how_many(models: dict[str, ovgen.LLM]) -> None:
    case = CASES[4]
    out = models["storyteller"].generate(case["prompt"], **options_of(case) | {"n": 2})
    assert [list(text.token_ids) for text in out.outputs] == case["texts"][:2]
    assert out.outputs[0].text == out.text
