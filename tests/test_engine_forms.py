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
def llm(request: pytest.FixtureRequest) -> ovgen.LLM:
    form = request.param
    device_config = EXACT if form != "static" else {"INFERENCE_PRECISION_HINT": "f32"}
    return ovgen.LLM(ovgen.bundled_model(), form=form, device_config=device_config, max_model_len=64, **OPTIONS[form])


@pytest.fixture(autouse=True)
def everything_is_free(llm: ovgen.LLM) -> Iterator[None]:
    yield
    assert_all_is_free(llm)


def assert_all_is_free(llm: ovgen.LLM) -> None:
    """But for what is kept for requests to come."""
    if llm.engine.scheduler.kept is not None:
        llm.engine.scheduler.kept.clear()
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


@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 0.8, "seed": 5, "repetition_penalty": 1.1}])
def test_guesses_change_no_text(llm: ovgen.LLM, options: dict[str, Any]) -> None:
    accepted = 0
    for prompt in (PROMPT, [300, 301, 302, 303] * 5):
        plain = ids(llm, prompt, max_new_tokens=30, **options)
        out = llm.generate(prompt, max_new_tokens=30, ignore_eos=True, prompt_lookup_num_tokens=5, **options)
        assert out.token_ids == plain[0]
        assert out.metrics.drafted_tokens > 0
        accepted += out.metrics.accepted_tokens
    assert accepted > 0


def test_beams_are_found(llm: ovgen.LLM) -> None:
    """What a search finds is compared with Hugging Face elsewhere; here, that it is the best of what it looks at."""
    if llm.form == "static":
        llm = ovgen.LLM(ovgen.bundled_model(), form="static", max_model_len=64, batch_slots=4)
    found = llm.generate(PROMPT, temperature=0, num_beams=4, n=4, max_new_tokens=20, ignore_eos=True)
    scores = [text.score or 0.0 for text in found.outputs]
    assert len({text.token_ids for text in found.outputs}) == 4
    assert scores == sorted(scores, reverse=True)
    alone = llm.generate([*found.prompt_token_ids, *found.token_ids], prompt_logprobs=0, max_new_tokens=1)
    total = sum(entry.logprob for entry in (alone.prompt_logprobs or ())[-20:] if entry is not None)
    assert scores[0] == pytest.approx(total / 20, abs=1e-3)
    assert_all_is_free(llm)


def test_the_turns_of_a_chat_begin_where_the_last_one_ended(llm: ovgen.LLM) -> None:
    first = llm.generate([300 + i for i in range(35)], temperature=0, max_new_tokens=8, ignore_eos=True)
    turn = [*first.prompt_token_ids, *first.token_ids, 400, 401, 402]
    again = llm.generate(turn, temperature=0, max_new_tokens=8, ignore_eos=True)
    assert again.metrics.cached_tokens >= 32
    plain = ovgen.LLM(
        ovgen.bundled_model(),
        form=llm.form,  # type: ignore[arg-type]
        device_config=EXACT if llm.form != "static" else {"INFERENCE_PRECISION_HINT": "f32"},
        max_model_len=64,
        enable_prefix_caching=False,
    )
    alone = plain.generate(turn, temperature=0, max_new_tokens=8, ignore_eos=True)
    assert alone.metrics.cached_tokens == 0
    assert again.token_ids == alone.token_ids
