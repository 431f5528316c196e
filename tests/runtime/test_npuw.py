"""The plugin's own form for language models, with the CPU underneath: the logits of the stateful form."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ovgen
from ovgen.errors import ConfigError, DeviceError, UnsupportedModelError
from tests.conftest import F32, NPU_ON_CPU
from tests.tiny_models import make

IR = Path(__file__).resolve().parents[1] / "golden" / "ir"
EXACT = {**NPU_ON_CPU, "KV_CACHE_PRECISION": "f32", "NPUW_LLM_PREFILL_HINT": "STATIC"}
"""Exact where weights are float16, which the plugin makes of others. Prompts in chunks take no cache in float32."""
LONGEST = 96


class Both:
    """A session in each form, whose logits are compared."""

    def __init__(self, model: Path, **options: Any) -> None:
        self.llm = npuw(model, **options)
        self.tolerance = 1e-4 if "NPUW_LLM_PREFILL_HINT" in options.get("device_config", EXACT) else 0.03
        self.ours = self.llm.session()
        self.theirs = ovgen.LLM(model, device_config=F32, form="stateful", max_model_len=LONGEST).session()
        self._rng = np.random.default_rng(0)

    def step(self, count: int, rows: int) -> None:
        """Append so many random tokens, and compare so many rows."""
        ids = self._rng.integers(0, self.llm.engine.runner.vocab_size, count).tolist()
        self.compare(self.ours.forward(ids, rows=rows), self.theirs.forward(ids, rows=rows))

    def compare(self, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> None:
        np.testing.assert_allclose(ours, theirs, atol=self.tolerance, rtol=0)

    def trim(self, length: int) -> None:
        self.ours.trim(length)
        self.theirs.trim(length)


def npuw(model: Path, **options: Any) -> ovgen.LLM:
    return ovgen.LLM(
        model, **{"device": "NPU", "device_config": EXACT, "form": "npuw", "max_model_len": LONGEST, **options}
    )


@pytest.fixture(params=["llama-f16", "gpt2-f16", "gpt-neox-f16"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make(request.param, tmp_path / "model")


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return make("llama-f16", tmp_path / "model")


def test_every_way_of_cutting_a_sequence_gives_its_logits(model: Path) -> None:
    both = Both(model)
    both.step(5, 1)  # a prompt
    both.step(1, 1)
    both.step(3, 3)
    both.step(20, 1)  # enough for the whole to be computed again
    both.step(20, 0)  # computed with what follows
    both.step(7, 5)
    both.trim(12)  # the plugin rewinds
    both.step(2, 2)
    both.trim(0)
    both.step(1, 1)  # a prompt of one token
    both.step(1, 1)
    both.trim(0)
    both.step(40, 1)
    both.trim(37)  # into a prompt that no token has followed
    both.step(1, 1)
    both.step(LONGEST - 38, 2)  # to the last token of the context


def test_prompts_are_computed_in_chunks(llama: Path) -> None:
    both = Both(llama, device_config=NPU_ON_CPU, prefill_chunk_size=20)
    both.step(70, 1)
    both.step(2, 2)
    both.trim(15)
    both.step(1, 1)


def test_a_prompt_longer_than_the_plugin_takes_goes_on_token_by_token(llama: Path) -> None:
    both = Both(llama, device_config={**EXACT, "NPUW_LLM_MAX_PROMPT_LEN": 64})
    both.step(80, 1)
    both.step(1, 1)


def test_sessions_and_requests_take_turns(llama: Path, tmp_path: Path) -> None:
    both = Both(llama)
    both.step(30, 30)
    twin, reference = both.ours.fork(), both.theirs.fork()
    both.step(9, 1)
    both.compare(twin.forward([5, 6, 7]), reference.forward([5, 6, 7]))
    both.llm.generate([[1, 2, 3], [9] * 40], max_new_tokens=3, ignore_eos=True)
    both.step(1, 1)
    twin.save(tmp_path / "s.kv")
    loaded = both.llm.session(tmp_path / "s.kv")
    both.step(2, 1)
    both.compare(loaded.forward([8]), reference.forward([8]))


def test_requests_are_those_of_the_stateful_form(llama: Path) -> None:
    options: dict[str, Any] = {"max_new_tokens": 12, "ignore_eos": True, "prompt_logprobs": 1, "logprobs": 1}
    prompts = [[1, 2, 3], [4], [7] * 50, [1, 2, 3, 9]]
    ours = npuw(llama).generate(prompts, **options)
    theirs = ovgen.LLM(llama, device_config=F32, form="stateful").generate(prompts, **options)
    for a, b in zip(ours, theirs, strict=True):
        assert a.token_ids == b.token_ids
        for mine, other in ((a.logprobs, b.logprobs), (a.prompt_logprobs, b.prompt_logprobs)):
            assert mine is not None
            assert other is not None
            values = [[p.logprob for p in probs if p is not None] for probs in (mine, other)]
            assert values[0] == pytest.approx(values[1], abs=1e-4)


def test_the_bundled_model_tells_the_same_stories() -> None:
    prompts = ["Once upon a time", "Tom and the dragon went to the river. " * 9, "Lily"]
    ours = ovgen.LLM(ovgen.bundled_model(), device="NPU", device_config=NPU_ON_CPU, form="npuw", weights="int8")
    theirs = ovgen.LLM(ovgen.bundled_model(), device_config=F32, weights="int8", kernels="off")
    texts = [[out.text for out in llm.generate(prompts, max_new_tokens=60, temperature=0)] for llm in (ours, theirs)]
    assert texts[0] == texts[1]
    assert (ours.form, ours.device) == ("npuw", "NPU")


def test_a_request_is_aborted_and_the_next_is_right(llama: Path) -> None:
    llm = npuw(llama)
    alone = llm.generate([5, 6, 7], max_new_tokens=8, ignore_eos=True).token_ids
    stream = llm.stream([5, 6, 9], max_new_tokens=20, ignore_eos=True)
    next(stream)
    stream.close()
    assert llm.generate([5, 6, 7], max_new_tokens=8, ignore_eos=True).token_ids == alone


def test_a_request_that_gave_way_to_a_session_is_computed_again(llama: Path) -> None:
    alone = npuw(llama).generate([5, 6, 7], max_new_tokens=20, ignore_eos=True).token_ids
    llm = npuw(llama, cache_size=3.5e-5)
    assert llm.engine.pool.limit == 3
    stream = llm.stream([5, 6, 7], max_new_tokens=20, ignore_eos=True)
    pieces = [next(stream)]
    with llm.session() as session:
        session.forward([9] * 80)  # takes every block
        assert not llm.engine.scheduler.running
    pieces += stream
    assert [token for piece in pieces for token in piece.token_ids] == list(alone)


class Failing:
    """An infer request whose next inference fails without having begun."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._failures = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

    def start_async(self) -> None:
        if not self._failures:
            self._request.start_async()

    def wait(self) -> None:
        if self._failures:
            self._failures -= 1
            raise RuntimeError("the device is gone")
        self._request.wait()


def test_what_a_failed_inference_would_have_given_is_not_relied_on(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Both(llama)
    runner = both.llm.engine.runner
    monkeypatch.setattr(runner, "_request", Failing(runner._request))  # type: ignore[attr-defined]
    ids = list(range(21))
    with pytest.raises(DeviceError, match="the device is gone"):
        both.ours.forward(ids[:20], rows=1)
    both.compare(both.ours.forward(ids, rows=1), both.theirs.forward(ids, rows=1))


@pytest.mark.parametrize("call", ["set_tensor", "get_tensor"])
def test_every_call_that_fails_is_a_device_error(call: str, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the device is gone")

    both = Both(llama)
    runner: Any = both.llm.engine.runner
    with monkeypatch.context() as patch:
        request = Failing(runner._request)
        request._failures = 0
        patch.setattr(request, call, broken, raising=False)
        patch.setattr(runner, "_request", request)
        with pytest.raises(DeviceError, match="NPU failed while it ran the model: the device is gone"):
            both.ours.forward([1, 2, 3])
    both.step(5, 1)


def test_what_the_plugin_refuses_is_told_with_the_way_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(IR / "gpt2-int8.zip") as archive:  # its head shares the embedding's compressed weights
        archive.extractall(tmp_path)
    with pytest.raises(DeviceError, match=r"NPU cannot compile the model: .* form='static' does without it"):
        npuw(tmp_path)


def test_other_devices_have_no_such_form(llama: Path) -> None:
    with pytest.raises(DeviceError, match="CPU has no npuw form: it is a mode of the NPU's plugin"):
        ovgen.LLM(llama, form="npuw")


def test_a_sliding_window_is_refused_unless_it_is_as_long_as_the_context(tmp_path: Path) -> None:
    folder = make("mistral", tmp_path / "model", sliding_window=16)
    with pytest.raises(UnsupportedModelError, match=r"sliding window: take form='static', or set max_model_len"):
        npuw(folder)
    assert npuw(folder, max_model_len=16).form == "npuw"


def test_compiled_models_are_taken_back_from_cache_dir(llama: Path, tmp_path: Path) -> None:
    config = {**EXACT, "CACHE_DIR": str(tmp_path / "cache")}
    first, second = (npuw(llama, device_config=config).session().forward([5, 6, 7]) for _ in range(2))
    assert list((tmp_path / "cache").iterdir())
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "MAX_PROMPT_LEN",
            64,
            "MAX_PROMPT_LEN is openvino.genai's name: in device_config it is NPUW_LLM_MAX_PROMPT_LEN",
        ),
        ("PREFILL_HINT", "STATIC", "it is NPUW_LLM_PREFILL_HINT"),
        ("KV_CACHE_PRECISION", "u8", "KV_CACHE_PRECISION is 'f16' or 'f32', got 'u8'"),
    ],
)
def test_what_the_plugin_would_pass_over_is_refused(llama: Path, name: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        npuw(llama, device_config={**EXACT, name: value})


def test_lengths_that_do_not_hold_the_context_are_refused(llama: Path) -> None:
    lengths = {"NPUW_LLM_MAX_PROMPT_LEN": 64, "NPUW_LLM_MIN_RESPONSE_LEN": "16"}
    with pytest.raises(ConfigError, match=r"hold 64 \+ 16 tokens, and the longest sequence has 96"):
        npuw(llama, device_config={**EXACT, **lengths})
    with pytest.raises(ConfigError, match="NPUW_LLM_MAX_PROMPT_LEN must be a number of tokens, got 'many'"):
        npuw(llama, device_config={**EXACT, "NPUW_LLM_MAX_PROMPT_LEN": "many"})
