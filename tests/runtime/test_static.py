"""The static form against the paged one: the same logits, whatever the sizes of its graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

import ovgen
from ovgen.loader import load
from ovgen.runtime import device, static, static_graphs
from ovgen.runtime.forms import Form
from ovgen.runtime.runner import Chunk
from ovgen.runtime.static import StaticRunner
from ovgen.runtime.windows import attention_windows
from tests.conftest import F32, NPU_ON_CPU
from tests.tiny_models import make

LONGEST = 100
DEVICES: dict[str, Mapping[str, Any]] = {"CPU": F32, "NPU": {**NPU_ON_CPU, "KV_CACHE_PRECISION": "f32"}}


@pytest.fixture(autouse=True)
def small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contexts of 16, 32, 64 and 100 tokens."""
    monkeypatch.setattr(static, "_SHORTEST", 16)


class Truth:
    """Logits of whole sequences, computed in one piece in the stateful form."""

    def __init__(self, model: Path) -> None:
        self._session = ovgen.LLM(model, device_config=F32, form="stateful").session()

    def __call__(self, tokens: list[int], rows: int) -> NDArray[np.float32]:
        self._session.trim(0)
        return self._session.forward(tokens, rows=rows)


class Sequences:
    """A runner with sequences whose every logit is compared."""

    def __init__(self, model: Path, device: str = "CPU", slots: int = 2, chunk: int = 8) -> None:
        graph = load(model).build()
        windows = attention_windows(graph)
        self.runner = StaticRunner(
            graph,
            windows,
            device,
            DEVICES[device],
            slots=slots,
            chunk=chunk,
            longest=LONGEST,
            cache_size=1 << 30,
        )
        self.tokens: dict[int, list[int]] = {}
        self._truth = Truth(model)
        self._rng = np.random.default_rng(0)

    def step(self, *parts: tuple[int, int, int]) -> None:
        """Append so many random tokens to each sequence, and compare so many rows."""
        chunks = []
        for number, count, rows in parts:
            tokens = self.tokens.setdefault(number, [])
            new = self._rng.integers(0, self.runner.vocab_size, count).tolist()
            chunks.append(Chunk(number, new, len(tokens), (), rows))
            tokens += new
        self.runner.start(chunks)
        logits = self.runner.wait()
        expected = [self._truth(self.tokens[number], rows) for number, _, rows in parts]
        np.testing.assert_allclose(logits, np.concatenate(expected), atol=1e-4, rtol=0)

    def trim(self, number: int, length: int) -> None:
        self.runner.trim(number, length)
        del self.tokens[number][length:]

    def fork(self, source: int, target: int) -> None:
        self.runner.fork(source, target)
        self.tokens[target] = list(self.tokens[source])


@pytest.fixture(params=["llama", "mistral", "gpt2", "gemma2", "gemma3"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make(request.param, tmp_path / "model")


@pytest.mark.parametrize("device", DEVICES)
def test_every_way_of_cutting_a_sequence_gives_its_logits(model: Path, device: str) -> None:
    s = Sequences(model, device)
    s.step((0, 5, 1))  # shorter than a chunk of 8
    s.step((0, 8, 8))  # as long as one
    s.step((0, 1, 1))
    s.step((0, 21, 1))  # longer, and the cache grows
    s.step((0, 2, 2))
    s.step((0, 11, 3))
    s.step((0, 40, 40))
    s.trim(0, 10)
    s.step((0, 9, 9))
    s.step((0, LONGEST - 19, 1))  # to the last token of the context


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_sequences_take_turns_in_the_slots(tiny_llama: Path, slots: int) -> None:
    s = Sequences(tiny_llama, slots=slots)
    for number in range(4):  # more than there are slots
        s.step((number, 3 + 5 * number, 2))
    s.step((0, 1, 1))
    s.fork(0, 4)
    s.fork(2, 5)
    s.trim(2, 4)
    for number in range(6):
        s.step((number, 1 + 2 * number, 1))
    together = list(range(slots))
    s.step(*((number, 1, 1) for number in together))  # one pass over all slots
    s.step(*((number, 4, 4) for number in together))  # drafts
    s.step(*((number, 1 + 9 * number, 1) for number in together))  # decode and prefill in one step
    s.runner.release(1)
    del s.tokens[1]
    s.step((1, 30, 2))
    s.step(*((number, 1, 1) for number in together))


def test_saved_rows_go_on_in_another_context_and_slot(tiny_llama: Path) -> None:
    s, other = Sequences(tiny_llama), Sequences(tiny_llama)
    s.step((0, 13, 1))
    other.step((7, 50, 1))
    assert s.runner.cache_layout == other.runner.cache_layout
    other.runner.import_cache(3, (), s.runner.export_cache(0, ()), 13)
    other.tokens[3] = list(s.tokens[0])
    other.step((3, 4, 4), (7, 1, 1))


def test_the_cache_becomes_short_again_when_it_is_empty(tiny_llama: Path) -> None:
    s = Sequences(tiny_llama)
    s.step((0, 60, 1))
    assert s.runner.compiled.input("past_key_values.0.key").shape[2] == 64
    s.runner.release(0)
    s.step((1, 3, 1))
    assert s.runner.compiled.input("past_key_values.0.key").shape[2] == 16


def test_a_sequence_that_is_released_while_the_device_works_leaves_nothing(tiny_llama: Path) -> None:
    s = Sequences(tiny_llama)
    s.step((0, 5, 1))
    s.runner.start([Chunk(1, [4] * 20, 0, (), 1)])
    s.runner.release(1)
    s.runner.wait()
    s.step((0, 1, 1), (2, 12, 1))


@pytest.mark.parametrize("slots", [1, 2])
def test_compiling_ahead_leaves_nothing_to_compile(
    tiny_llama: Path, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = ovgen.LLM(
        tiny_llama, form="static", compile_ahead=True, max_model_len=64, prefill_chunk_size=8, batch_slots=slots
    )
    monkeypatch.setattr(static_graphs, "compile_model", None)
    for count in (20, 3, 11):
        outputs = llm.generate([[1] * count, [2] * 9], ignore_eos=True)
        assert [len(out.token_ids) for out in outputs] == [64 - count, 55]


def test_compressed_gpt2_runs_where_an_npu_would(tmp_path: Path) -> None:
    folder = make("gpt2", tmp_path / "model")
    for weights in ("int8", "int4"):
        npu = ovgen.LLM(folder, device="NPU", device_config=NPU_ON_CPU, weights=weights)
        cpu = ovgen.LLM(folder, device_config=F32, weights=weights, kernels="off")
        assert (npu.device, npu.form) == ("NPU", "static")
        ids = [1, 17, 250, 3, 99]
        exact = cpu.session().forward(ids)
        assert np.abs(npu.session().forward(ids) - exact).max() < 0.01 * np.abs(exact).max()  # a cache in float16


def test_the_bundled_model_tells_the_same_stories(storyteller: ovgen.LLM) -> None:
    prompts = ["Once upon a time", "Tom and the dragon went to the river. " * 9, "Lily"]
    expected = [out.text for out in storyteller.generate(prompts, max_new_tokens=60, temperature=0)]
    for slots in (1, 2):
        llm = ovgen.LLM(
            ovgen.bundled_model(), device_config=F32, form="static", batch_slots=slots, prefill_chunk_size=32
        )
        assert [out.text for out in llm.generate(prompts, max_new_tokens=60, temperature=0)] == expected


def test_a_device_that_fails_to_compile_for_more_tokens_can_be_tried_again(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = Sequences(tiny_llama)
    s.step((0, 10, 1), (1, 5, 1))
    compile_model = device.compile_model

    def fail(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(static_graphs, "compile_model", compile_model)
        raise ovgen.DeviceError("out of memory")

    monkeypatch.setattr(static_graphs, "compile_model", fail)
    with pytest.raises(ovgen.DeviceError, match="out of memory"):
        s.runner.start([Chunk(0, [7] * 20, 10, (), 1)])
    s.step((1, 1, 1))
    s.step((0, 20, 3))


def test_what_a_sequence_leaves_behind_does_no_harm(tiny_llama: Path) -> None:
    s = Sequences(tiny_llama)
    s.step((0, 14, 1))
    for array in s.runner._cache.arrays:
        array[0, :, 5:14] = np.inf  # as a float16 cache of a model with large keys holds it
    s.trim(0, 5)
    s.step((0, 2, 2))
    for array in s.runner._cache.arrays:
        array[0, :, 5:7] = np.inf
    s.runner.release(0)
    s.step((1, 2, 2))


def test_graphs_of_contexts_that_are_not_in_use_are_freed(tiny_llama: Path) -> None:
    s = Sequences(tiny_llama)
    for count in (10, 20, 30, 30):
        s.step((0, count, 1))
    assert {shape.context for shape in s.runner._graphs._made} == {64, 100}
    s.runner.release(0)
    s.step((1, 5, 1))
    assert {shape.context for shape in s.runner._graphs._made} == {16, 100}


def test_a_sequence_that_is_not_at_work_makes_no_step_longer(tiny_llama: Path) -> None:
    s = Sequences(tiny_llama)
    contexts = []
    for number, count in ((0, 60), (1, 5), (1, 1), (0, 2), (1, 1)):
        s.step((number, count, 1))  # which compares the logits
        contexts.append(s.runner._context)
    assert contexts == [64, 16, 16, 64, 64]  # 1 is at work, and in the cache, when the last step begins


def test_short_ends_of_prompts_share_a_pass_only_where_there_is_a_graph(tiny_llama: Path) -> None:
    s = Sequences(tiny_llama, chunk=16)

    def compiled() -> bool:
        return (2, 8) in {(shape.batch, shape.tokens) for shape in s.runner._graphs._made}

    s.step((0, 10, 1), (1, 10, 1))
    s.step((0, 3, 3))  # now there is one for drafts of one sequence
    s.step((0, 3, 1), (1, 2, 1))
    assert not compiled()
    s.step((0, 3, 3), (1, 3, 3))
    assert compiled()


def test_the_cache_takes_no_more_than_it_may(tiny_llama: Path) -> None:
    slots, size = 4, 0.0002  # GiB
    llm = ovgen.LLM(tiny_llama, form="static", batch_slots=slots, cache_size=size, device_config=F32)
    room = llm.engine.pool.limit * llm.engine.runner.block_size
    assert 16 < room < 256
    llm.generate([1] * (room - 5), max_new_tokens=5, ignore_eos=True)
    assert llm.engine.runner.cache_bytes <= size * 2**30
    with pytest.raises(ovgen.ContextLengthError, match="raise cache_size"):
        llm.generate([1] * room, max_new_tokens=1)


@pytest.mark.parametrize("value", ["FP32", "f32", ov.Type.f32])
def test_exact_arithmetic_has_an_exact_cache(tiny_llama: Path, value: Any) -> None:
    for config in ({"INFERENCE_PRECISION_HINT": value}, {"KV_CACHE_PRECISION": value}):
        assert "float32" in ovgen.LLM(tiny_llama, form="static", device_config=config).engine.runner.cache_layout
    accurate = {"EXECUTION_MODE_HINT": "ACCURACY"}
    assert "float32" in ovgen.LLM(tiny_llama, form="static", device_config=accurate).engine.runner.cache_layout
    assert "float16" in ovgen.LLM(tiny_llama, form="static").engine.runner.cache_layout


@pytest.mark.parametrize("precision", ["u8", "bf16"])
def test_a_cache_precision_that_is_not_there_is_refused(tiny_llama: Path, precision: str) -> None:
    with pytest.raises(ovgen.ConfigError, match="KV_CACHE_PRECISION must be f16 or f32 in the static form"):
        ovgen.LLM(tiny_llama, form="static", device_config={"KV_CACHE_PRECISION": precision})


def test_sampling_and_logprobs_are_those_of_the_paged_form(storyteller: ovgen.LLM) -> None:
    llm = ovgen.LLM(ovgen.bundled_model(), device_config=F32, form="static", batch_slots=2, prefill_chunk_size=8)
    options: dict[str, Any] = {
        "temperature": 0.9,
        "top_p": 0.9,
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 3,
        "seed": 5,
        "logprobs": 2,
        "prompt_logprobs": 1,
        "stop": ["forest"],
        "max_new_tokens": 40,
    }
    prompts = ["One day, a little fox went to", "Lily and Ben"]
    for ours, theirs in zip(llm.generate(prompts, **options), storyteller.generate(prompts, **options), strict=True):
        assert (ours.text, ours.finish_reason) == (theirs.text, theirs.finish_reason)
        for mine, other in ((ours.logprobs, theirs.logprobs), (ours.prompt_logprobs, theirs.prompt_logprobs)):
            assert mine is not None
            assert other is not None
            assert len(mine) == len(other)
            for a, b in zip(mine, other, strict=True):
                assert (a is None) == (b is None)
                if a is not None and b is not None:
                    assert a.logprob == pytest.approx(b.logprob, abs=1e-3)


def test_a_session_rewinds_forks_and_is_saved(storyteller: ovgen.LLM, tmp_path: Path) -> None:
    llm = ovgen.LLM(ovgen.bundled_model(), device_config=F32, form="static", prefill_chunk_size=8)
    past, future = list(range(300, 340)), [400, 401, 402]
    with storyteller.session() as reference:
        reference.forward(past)
        expected = reference.forward(future)
    session = llm.session()
    session.forward([*past, 7, 8, 9])
    session.trim(len(past))
    twin = session.fork()
    session.forward([500] * 20)
    np.testing.assert_allclose(twin.forward(future), expected, atol=1e-4, rtol=0)
    twin.trim(len(past))
    twin.save(tmp_path / "s.kv")
    llm.generate("A story about somebody else", max_new_tokens=5)  # takes the only slot
    loaded = llm.session(tmp_path / "s.kv")
    np.testing.assert_allclose(loaded.forward(future), expected, atol=1e-4, rtol=0)
    with pytest.raises(ovgen.CacheFileError, match="another cache"):
        storyteller.session(tmp_path / "s.kv")


def test_compiled_graphs_are_kept_and_made_again_when_the_model_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    config = {**NPU_ON_CPU, "KV_CACHE_PRECISION": "f32", "CACHE_DIR": str(cache)}
    model = make("llama", tmp_path / "model")

    def logits() -> NDArray[np.float32]:
        return ovgen.LLM(model, device="NPU", device_config=config).session().forward([1, 2, 3])

    first = logits()
    kept = {file.name: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert len(kept) == 3  # one token, a chunk with one row, and with all of them
    np.testing.assert_array_equal(logits(), first)
    assert {file.name: file.stat().st_mtime_ns for file in cache.iterdir()} == kept
    raw = np.fromfile(model / "model.safetensors", np.uint8)
    begin = 8 + int(raw[:8].view(np.uint64)[0])
    raw[begin:].view(np.float32)[:] *= np.float32(1.1)
    raw.tofile(model / "model.safetensors")
    assert np.abs(logits() - first).max() > 0.01
    assert len(list(cache.iterdir())) == 6


@pytest.mark.parametrize("form", ["static", "stateful", "paged"])
def test_a_saved_session_that_does_not_fit_its_tokens_is_refused(tiny_llama: Path, form: Form, tmp_path: Path) -> None:
    llm = ovgen.LLM(tiny_llama, form=form, device_config=F32)
    with llm.session() as session:
        session.forward([1] * 40)
        session.save(tmp_path / "s.kv")
    with np.load(tmp_path / "s.kv") as file:
        good = dict(file)

    def refused(**changes: Any) -> bool:
        with open(tmp_path / "bad.kv", "wb") as file:
            np.savez(file, **(good | changes))
        try:
            llm.session(tmp_path / "bad.kv")
        except ovgen.CacheFileError:
            return True
        return False

    first = good["cache_0000"]
    assert not refused()
    assert refused(tokens=good["tokens"][:5])
    assert refused(tokens=np.append(good["tokens"], [1] * 40))
    assert refused(cache_0000=first[: len(first) // 2])
    assert refused(cache_0000=first.astype(np.float64))
    assert len(llm.session(tmp_path / "s.kv")) == 40
