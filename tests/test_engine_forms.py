"""What the engine offers, in every form of a model: the same texts as the plain way gives."""

from collections.abc import Iterator
from typing import Any

import pytest

import ovgen

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
OPTIONS: dict[str, dict[str, Any]] = {
    "paged": {},
    "stateful": {},
    "static": {"batch_slots": 2, "prefill_chunk_size": 16},
}
PROMPT = "One day, a fox met a bear in the garden."


@pytest.fixture(scope="module", params=OPTIONS)
def llm(request: pytest.FixtureRequest) -> Iterator[ovgen.LLM]:
    form = request.param
    device_config = EXACT if form != "static" else {"INFERENCE_PRECISION_HINT": "f32"}
    yield ovgen.LLM(ovgen.bundled_model(), form=form, device_config=device_config, max_model_len=64, **OPTIONS[form])


@pytest.fixture(autouse=True)
def everything_is_free(llm: ovgen.LLM) -> Iterator[None]:
    yield
    assert llm.engine.pool.used == 0
    llm.engine.pool.check()


def ids(llm: ovgen.LLM, prompt: Any = PROMPT, **options: Any) -> list[tuple[int, ...]]:
    out = llm.generate(prompt, **{"max_new_tokens": 20, "ignore_eos": True, **options})
    return [text.token_ids for text in out.outputs]


def test_several_texts_are_those_of_the_next_seeds(llm: ovgen.LLM) -> None:
    several = ids(llm, n=3, temperature=1.0, seed=11)
    assert several == [ids(llm, temperature=1.0, seed=11 + i)[0] for i in range(3)]
    assert len(set(several)) == 3


def test_texts_go_on_when_the_context_is_full(llm: ovgen.LLM) -> None:
    (text,) = ids(llm, context_shift=4, temperature=0, max_new_tokens=100)
    prompt = list(llm.tokenizer.encode(PROMPT)) if llm.tokenizer else []
    tokens = list(prompt)
    expected: list[int] = []
    while len(expected) < 100:  # each stretch as a prompt of its own
        kept = tokens if len(tokens) < 64 else tokens[:4] + tokens[-30:]
        (more,) = ids(llm, kept, temperature=0, max_new_tokens=min(64 - len(kept), 100 - len(expected)))
        expected += more
        tokens = [*kept, *more]
    assert list(text) == expected
