"""A draft model beside a model: the same texts in fewer steps, and refusals that say why."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import ovgen
from tests.tiny_models import make

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
PROMPTS = ["Once upon a time", "One day, a fox met a bear.", "The king had"]


def texts(llm: ovgen.LLM, **options: Any) -> list[tuple[int, ...]]:
    outputs = llm.generate(PROMPTS, max_new_tokens=60, ignore_eos=True, **options)
    if llm.engine.scheduler.kept is not None:
        llm.engine.scheduler.kept.clear()
    assert llm.engine.pool.used == 0
    return [out.token_ids for out in outputs]


@pytest.mark.parametrize("form", ["paged", "stateful", "static"])
def test_texts_are_the_same_in_fewer_steps(form: str) -> None:
    config = EXACT if form != "static" else {"INFERENCE_PRECISION_HINT": "f32"}
    plain = ovgen.LLM(ovgen.bundled_model(), form=form, device_config=config, batch_slots=3)  # type: ignore[arg-type]
    fast = ovgen.LLM(
        ovgen.bundled_model(),
        form=form,  # type: ignore[arg-type]
        device_config=config,
        batch_slots=3,
        draft_model=ovgen.bundled_model("storyteller-draft"),
    )
    for options in ({"temperature": 0}, {"temperature": 0.7, "seed": 3}):
        assert texts(fast, **options) == texts(plain, **options)
    assert fast.metrics.steps < plain.metrics.steps
    assert fast.metrics.acceptance is not None
    assert fast.metrics.acceptance > 0.3


def test_a_request_can_do_without() -> None:
    llm = ovgen.LLM(ovgen.bundled_model(), draft_model=ovgen.bundled_model("storyteller-draft"))
    texts(llm, num_assistant_tokens=0)
    assert llm.metrics.drafted_tokens == 0


def test_other_tokenizers_and_vocabularies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ovgen.ConfigError, match="the draft model has a vocabulary of"):
        ovgen.LLM(ovgen.bundled_model(), draft_model=make("gpt2", tmp_path / "other"))
    with pytest.raises(ovgen.ModelNotFoundError, match="no model at"):
        ovgen.LLM(ovgen.bundled_model(), draft_model=tmp_path / "nothing")
    swapped = Path(shutil.copytree(ovgen.bundled_model("storyteller-draft"), tmp_path / "swapped"))
    tokenizer = json.loads((swapped / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    first, second = (word for word, number in vocabulary.items() if number in (2400, 2408))
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (swapped / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(ovgen.ConfigError, match=r"token 2400 is .* to the draft model and .* to the model"):
        ovgen.LLM(ovgen.bundled_model(), draft_model=swapped)
