"""`LLM` on the bundled model: what its users rely on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ovgen
from ovgen.graph import passes, private
from tests.conftest import F32

PROMPTS = ["Once upon a time", "One day, a little fox", "In", "The dog and the bird went to the park. They saw a big"]


def test_one_prompt_gives_one_output(storyteller: ovgen.LLM) -> None:
    out = storyteller.generate(PROMPTS[0], max_new_tokens=20, temperature=0)
    assert len(out.token_ids) == 20
    assert out.finish_reason == "length"
    assert out.metrics.prompt_tokens == len(out.prompt_token_ids)
    assert out.metrics.generated_tokens == 20
    assert storyteller.tokenizer is not None
    whole = storyteller.tokenizer.decode([*out.prompt_token_ids, *out.token_ids])
    assert PROMPTS[0] + out.text == whole


def test_a_list_of_prompts_gives_a_list_and_token_ids_are_prompts_too(storyteller: ovgen.LLM) -> None:
    assert storyteller.tokenizer is not None
    ids = storyteller.tokenizer.encode(PROMPTS[1])
    text, from_ids = storyteller.generate([PROMPTS[1], ids], max_new_tokens=8, temperature=0)
    assert text.token_ids == from_ids.token_ids
    assert storyteller.generate(np.array(ids), max_new_tokens=8, temperature=0).token_ids == text.token_ids  # type: ignore[call-overload]


def test_a_batch_of_unequal_prompts_gives_what_each_gives_alone(storyteller: ovgen.LLM) -> None:
    together = storyteller.generate(PROMPTS, max_new_tokens=40, temperature=0)
    alone = [storyteller.generate(prompt, max_new_tokens=40, temperature=0) for prompt in PROMPTS]
    assert [out.token_ids for out in together] == [out.token_ids for out in alone]


def test_pieces_of_the_stream_add_up_to_the_output(storyteller: ovgen.LLM) -> None:
    out = storyteller.generate(PROMPTS[0], max_new_tokens=30, temperature=0, logprobs=1)
    pieces = list(storyteller.stream(PROMPTS[0], max_new_tokens=30, temperature=0, logprobs=1))
    assert "".join(piece.text for piece in pieces) == out.text
    assert tuple(token for piece in pieces for token in piece.token_ids) == out.token_ids
    assert tuple(entry for piece in pieces for entry in piece.logprobs or ()) == out.logprobs
    assert [piece.finish_reason for piece in pieces] == [None] * 29 + ["length"]


def test_the_same_seed_gives_the_same_text_in_any_company(storyteller: ovgen.LLM) -> None:
    options: dict[str, Any] = {"temperature": 1.0, "top_p": 0.95, "max_new_tokens": 30}
    alone = storyteller.generate(PROMPTS[0], seed=5, **options)
    params = [ovgen.SamplingParams(seed=seed, **options) for seed in (5, 6, 7, 8)]
    company = storyteller.generate([PROMPTS[0]] * 4, params)
    assert company[0].token_ids == alone.token_ids
    assert len({out.token_ids for out in company}) == 4


def test_a_stop_string_ends_the_text_before_it(storyteller: ovgen.LLM) -> None:
    free = storyteller.generate(PROMPTS[0], max_new_tokens=40, temperature=0).text
    stop = free[20:29]
    out = storyteller.generate(PROMPTS[0], max_new_tokens=40, temperature=0, stop=stop)
    assert (out.text, out.finish_reason) == (free[: free.index(stop)], "stop")
    kept = storyteller.generate(
        PROMPTS[0], max_new_tokens=40, temperature=0, stop=[stop], include_stop_str_in_output=True
    )
    assert kept.text == free[: free.index(stop) + len(stop)]


def test_eos_ends_a_story_and_can_be_ignored(storyteller: ovgen.LLM) -> None:
    out = storyteller.generate(PROMPTS[0], temperature=0)
    assert out.finish_reason == "stop"
    assert out.token_ids[-1] in storyteller.engine.eos_token_ids
    longer = storyteller.generate(PROMPTS[0], temperature=0, ignore_eos=True, max_new_tokens=len(out.token_ids) + 5)
    assert longer.token_ids[: len(out.token_ids)] == out.token_ids
    assert longer.finish_reason == "length"


def test_logprobs_are_those_of_the_sessions_logits(storyteller: ovgen.LLM) -> None:
    out = storyteller.generate(PROMPTS[0], max_new_tokens=3, temperature=0, logprobs=2, prompt_logprobs=0)
    with storyteller.session() as session:
        logits = session.forward([*out.prompt_token_ids, *out.token_ids]).astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    start = len(out.prompt_token_ids)
    assert out.logprobs is not None
    for i, entry in enumerate(out.logprobs):
        assert entry.logprob == pytest.approx(expected[start + i - 1, entry.token_id], abs=1e-4)
        assert len(entry.top) == 2
    assert out.prompt_logprobs is not None
    assert out.prompt_logprobs[0] is None
    for i, known in enumerate(out.prompt_logprobs[1:], 1):
        assert known is not None
        assert known.logprob == pytest.approx(expected[i - 1, out.prompt_token_ids[i]], abs=1e-4)


def test_a_processor_of_ones_own_sees_ids_and_changes_logits(storyteller: ovgen.LLM) -> None:
    seen: list[list[int]] = []

    def only_seven(token_ids: Sequence[int], logits: np.ndarray[Any, np.dtype[np.float32]]) -> Any:
        seen.append(list(token_ids))
        return np.where(np.arange(len(logits)) == 7, logits, -np.inf).astype(np.float32)

    out = storyteller.generate([5, 6], max_new_tokens=3, logits_processors=[only_seven])
    assert out.token_ids == (7, 7, 7)
    assert seen == [[5, 6], [5, 6, 7], [5, 6, 7, 7]]


@pytest.mark.parametrize("length", [96, 91])  # whole blocks of 32 tokens, and not
def test_a_prefix_that_was_computed_before_gives_the_same_logits(length: int) -> None:
    llm = ovgen.LLM(ovgen.bundled_model(), device_config=F32, max_num_batched_tokens=64)
    ids = np.random.default_rng(0).integers(0, llm.engine.runner.vocab_size, length).tolist()

    def run() -> tuple[np.ndarray[Any, np.dtype[np.float32]], ovgen.GenerationOutput]:
        seen = []

        def see(token_ids: Sequence[int], logits: np.ndarray[Any, np.dtype[np.float32]]) -> Any:
            seen.append(logits.copy())
            return logits

        out = llm.generate(ids, max_new_tokens=3, temperature=0, ignore_eos=True, logits_processors=[see])
        return np.array(seen), out

    cold, first = run()
    hit, second = run()
    known = second.metrics.cached_tokens
    assert (first.metrics.cached_tokens, known) == (0, 95 if length == 96 else 64)
    assert second.token_ids == first.token_ids
    if length == 91:  # 27 tokens were computed at once, both times
        assert np.array_equal(hit, cold)
    else:  # fewer tokens at once are summed in another order
        assert np.abs(hit - cold).max() < 1e-4


def test_the_next_turn_of_a_chat_begins_with_the_last_one(storyteller: ovgen.LLM) -> None:
    turn: list[dict[str, Any]] = [
        {"role": "user", "content": "Tell me about a fox who lost its hat in the woods. " * 4}
    ]
    out = storyteller.chat(turn, max_new_tokens=20, temperature=0)
    longer = [*turn, {"role": "assistant", "content": out.text}, {"role": "user", "content": "And then?"}]
    metrics = storyteller.chat(longer, max_new_tokens=5, temperature=0).metrics
    assert metrics.cached_tokens >= out.metrics.prompt_tokens // 32 * 32 > 0


def test_chat_uses_the_template_and_does_not_double_special_tokens(storyteller: ovgen.LLM) -> None:
    messages = [{"role": "user", "content": "Tell me a story about a fox."}]
    ids = storyteller.apply_chat_template(messages)
    assert storyteller.tokenizer is not None
    assert ids.count(storyteller.tokenizer.bos_token_id or 0) == 1
    out = storyteller.chat(messages, max_new_tokens=20, temperature=0)
    assert out.prompt_token_ids == tuple(ids)
    streamed = "".join(p.text for p in storyteller.stream_chat(messages, max_new_tokens=20, temperature=0))
    assert streamed == out.text


def test_session_rewinds_forks_saves_and_loads_bit_equal(storyteller: ovgen.LLM, tmp_path: Path) -> None:
    past, future = [0, 300, 301, 302, 303], [304, 305, 306]
    with storyteller.session() as plain:
        plain.forward(past)
        expected = plain.forward(future)
    with storyteller.session() as session:
        session.forward(past)
        session.forward([400] * 70)
        session.trim(len(past))
        with session.fork() as twin:
            twin.forward([500])
            np.testing.assert_array_equal(session.forward(future), expected)
            twin.trim(len(past))
            np.testing.assert_array_equal(twin.forward(future), expected)
        session.trim(len(past))
        session.save(tmp_path / "s.kv")
    with storyteller.session(tmp_path / "s.kv") as loaded:
        assert loaded.token_ids == tuple(past)
        np.testing.assert_array_equal(loaded.forward(future), expected)


def test_the_stateful_form_says_the_same(
    storyteller: ovgen.LLM, storyteller_stateful: ovgen.LLM, tmp_path: Path
) -> None:
    assert (storyteller.form, storyteller_stateful.form) == ("paged", "stateful")
    paged, stateful = (
        llm.generate(PROMPTS, max_new_tokens=40, temperature=0) for llm in (storyteller, storyteller_stateful)
    )
    assert [out.token_ids for out in paged] == [out.token_ids for out in stateful]
    past, future = [0, 300, 301, 302, 303], [304, 305, 306]
    session = storyteller_stateful.session()
    session.forward(past)
    expected = session.forward(future)
    session.trim(len(past))
    np.testing.assert_array_equal(session.forward(future), expected)
    session.trim(len(past))
    twin = session.fork()
    session.forward([400])
    np.testing.assert_array_equal(twin.forward(future), expected)
    twin.trim(len(past))
    twin.save(tmp_path / "s.kv")
    loaded = storyteller_stateful.session(tmp_path / "s.kv")
    np.testing.assert_array_equal(loaded.forward(future), expected)
    with pytest.raises(ovgen.CacheFileError, match="another cache"):
        storyteller.session(tmp_path / "s.kv")


def test_falls_back_to_the_stateful_form_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tiny_llama: Path
) -> None:
    def refuse(model: object) -> None:
        raise private.TransformationError("no attention that it knows")

    expected = ovgen.LLM(tiny_llama, device_config=F32).generate([1, 2, 3], max_new_tokens=9).token_ids
    monkeypatch.setattr(passes.paged, "to_paged_attention", refuse)
    with caplog.at_level(logging.WARNING, "ovgen"):
        llm = ovgen.LLM(tiny_llama, device_config=F32)
    assert llm.form == "stateful"
    assert "using the stateful form on CPU instead of the paged form on CPU: no attention that it knows" in caplog.text
    assert [(f.device, f.form, f.reason) for f in llm.fallbacks] == [("CPU", "paged", "no attention that it knows")]
    assert [(a.form, a.reason is None) for a in llm.device_report] == [("paged", False), ("stateful", True)]
    assert llm.generate([1, 2, 3], max_new_tokens=9).token_ids == expected
    with pytest.raises(ovgen.UnsupportedModelError, match="no attention that it knows"):
        ovgen.LLM(tiny_llama, form="paged")


def test_leaving_a_stream_frees_its_cache_and_one_never_begun_takes_none(storyteller: ovgen.LLM) -> None:
    stream = storyteller.stream(PROMPTS[0], temperature=0)
    next(stream)
    assert storyteller.engine.pool.used > 0
    stream.close()
    storyteller.stream(PROMPTS[0])
    assert storyteller.engine.pool.used == 0
    assert not storyteller.engine.scheduler.waiting


def test_threads_share_a_model(storyteller: ovgen.LLM) -> None:
    expected = [out.text for out in storyteller.generate(PROMPTS, max_new_tokens=40, temperature=0)]
    texts = [""] * len(PROMPTS)

    def stream(i: int) -> None:
        for piece in storyteller.stream(PROMPTS[i], max_new_tokens=40, temperature=0):
            texts[i] += piece.text

    threads = [threading.Thread(target=stream, args=(i,)) for i in range(len(PROMPTS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == expected


def test_nan_logits_fail_the_request_and_leave_the_engine_usable(storyteller: ovgen.LLM) -> None:
    def nan(token_ids: Sequence[int], logits: Any) -> Any:
        return np.full_like(logits, np.nan)

    with pytest.raises(ovgen.GenerationError, match="NaN"):
        storyteller.generate(PROMPTS[0], logits_processors=[nan], max_new_tokens=5)
    assert storyteller.generate(PROMPTS[0], max_new_tokens=5, temperature=0).text


def test_options_without_effect_are_reported(storyteller: ovgen.LLM, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ovgen"):
        storyteller.generate(PROMPTS[0], ovgen.SamplingParams(top_p=0.5), max_new_tokens=1)
    assert "top_p: no effect, since temperature is 0" in caplog.text
    caplog.clear()
    options: dict[str, Any] = {"length_penalty": 2.0, "max_matching_ngram_size": 2, "num_assistant_tokens": 3}
    storyteller.generate("Once", max_new_tokens=1, temperature=1.0, top_p=0.9, **options)
    assert [record.getMessage() for record in caplog.records] == [
        "length_penalty: no effect, since num_beams is 1",
        "max_matching_ngram_size: no effect, since prompt_lookup_num_tokens is 0",
        "num_assistant_tokens: no effect, since there is no draft model",
    ]


@pytest.mark.parametrize("option", [{"num_beams": 2}, {"best_of": 2, "temperature": 1.0}])
def test_what_is_chosen_at_the_end_is_not_streamed(storyteller: ovgen.LLM, option: dict[str, Any]) -> None:
    with pytest.raises(ovgen.RequestError, match=f"{next(iter(option))}: texts are chosen at the end"):
        storyteller.stream("Once", **option)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("x",), {"tmperature": 1}, ovgen.ConfigError, "did you mean 'temperature'"),
        (("x",), {"temperature": -1}, ovgen.ConfigError, "temperature must be a number of at least 0, got -1"),
        (([],), {}, ovgen.RequestError, "empty"),
        (("",), {"add_special_tokens": False}, ovgen.RequestError, "empty"),
        (([1, 10**6],), {}, ovgen.RequestError, "token id 1000000 is not in the vocabulary"),
        ((5,), {}, ovgen.RequestError, "got int"),
        (("fox " * 3000,), {}, ovgen.ContextLengthError, "the context holds"),
        ((["a", "b"], [ovgen.SamplingParams()]), {}, ovgen.RequestError, "1 params were given for 2 prompts"),
    ],
)
def test_bad_requests_name_the_cause(
    storyteller: ovgen.LLM, arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        storyteller.generate(*arguments, **options)


def test_without_a_tokenizer_token_ids_still_work(tiny_llama: Path) -> None:
    llm = ovgen.LLM(tiny_llama)
    out = llm.generate([1, 2, 3], max_new_tokens=4)
    assert (len(out.token_ids), out.text) == (4, "")
    with pytest.raises(ovgen.RequestError, match="has no tokenizer"):
        llm.generate("text")
    with pytest.raises(ovgen.RequestError, match="has no tokenizer"):
        llm.generate([1], stop="x")
    with pytest.raises(ovgen.TokenizerError, match="has no tokenizer"):
        llm.chat([{"role": "user", "content": "hello"}])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"device": "TPU"}, ovgen.DeviceError, "'TPU' is not available here; OpenVINO finds: .*CPU"),
        ({"device_config": {"NO_SUCH": 1}}, ovgen.ConfigError, "NO_SUCH"),
        ({"device_config": {"KV_CACHE_PRECISION": "i1"}}, ovgen.ConfigError, "KV_CACHE_PRECISION='i1'"),
        ({"form": "round"}, ovgen.ConfigError, "form must be one of auto, paged, stateful"),
        ({"cache_sze": 1}, ovgen.ConfigError, "did you mean 'cache_size'"),
        ({"cache_size": 0}, ovgen.ConfigError, "cache_size must be a number above 0"),
        ({"max_num_seqs": 0}, ovgen.ConfigError, "max_num_seqs must be a whole number"),
    ],
)
def test_bad_options_name_the_cause(
    tiny_llama: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ovgen.LLM(tiny_llama, **options)


def test_paths_that_are_not_models_are_told_apart(tmp_path: Path, tiny_llama: Path) -> None:
    with pytest.raises(ovgen.ModelNotFoundError, match="there is no model at"):
        ovgen.LLM(tmp_path / "nothing")
    with pytest.raises(ovgen.ModelNotFoundError, match="it holds: nothing"):
        ovgen.LLM(tmp_path)
    with pytest.raises(ovgen.UnsupportedModelError, match=f"is a file: .*: {tiny_llama}, maybe"):
        ovgen.LLM(tiny_llama / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_text("")
    with pytest.raises(ovgen.UnsupportedModelError, match="pickle"):
        ovgen.LLM(tmp_path)


def test_an_empty_path_is_not_the_current_folder() -> None:
    with pytest.raises(ovgen.ModelNotFoundError, match="the path of the model is empty"):
        ovgen.LLM("")
