"""How long the choice of a token takes on the host. Run with ``--benchmark-enable --benchmark-only``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ovgen.config import SamplingParams
from ovgen.sampling import Choice, Sampler, SamplerState, StopStrings, token_logprobs
from ovgen.sampling.beams import BeamSearch
from ovgen.sampling.transforms import Logits

SMALL, LARGE = 50_257, 151_936  # vocabularies of GPT-2 and of Qwen2


def peaked(vocab: int) -> Logits:
    """A row like a language model's: a few thousand tokens stand out, a few hundred hold nearly all."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-5, 2, vocab)
    logits[rng.permutation(vocab)[:3000]] += np.linspace(15, 0, 3000)
    return logits.astype(np.float32)


def flat(vocab: int) -> Logits:
    """A row of nearly even logits, as high temperatures give: the worst case of top-p."""
    return np.random.default_rng(0).normal(0, 1, vocab).astype(np.float32)


def measure(benchmark: BenchmarkFixture, logits: Logits, rows: int, prompt: int, options: dict[str, Any]) -> None:
    """Time ``Sampler.choose`` on rows of fresh logits, which it may overwrite."""
    fresh = np.tile(logits, (rows, 1))
    work = np.empty_like(fresh)
    params = SamplingParams(**options)
    tokens = np.random.default_rng(1).integers(0, logits.size, prompt).tolist()
    states = [SamplerState(params, tokens, frozenset({2})) for _ in range(rows)]
    sampler = Sampler()

    def refill() -> None:
        np.copyto(work, fresh)

    chosen = benchmark.pedantic(  # type: ignore[no-untyped-call]
        lambda: [sampler.choose(*each) for each in zip(work, states, strict=True)],
        setup=refill,
        rounds=300,
        warmup_rounds=5,
    )
    assert all(isinstance(choice, Choice) for choice in chosen)


@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("vocab", [SMALL, LARGE])
def test_greedy(benchmark: BenchmarkFixture, vocab: int, rows: int) -> None:
    measure(benchmark, peaked(vocab), rows, 16, {})


@pytest.mark.parametrize("make", [peaked, flat])
@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0},
        {"temperature": 0.8, "top_k": 50, "top_p": 0.95},
        {"temperature": 1.0, "top_k": 50, "top_p": 0.95},
        {"temperature": 1.0, "top_p": 0.95},
        {"temperature": 0.8, "top_p": 0.95},
        {"temperature": 1.0, "min_p": 0.05},
        {"temperature": 1.0, "typical_p": 0.9},
    ],
    ids=lambda options: "-".join(f"{name}={value}" for name, value in options.items()),
)
def test_draw(benchmark: BenchmarkFixture, options: dict[str, Any], make: Any) -> None:
    measure(benchmark, make(LARGE), 1, 16, options)


@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("vocab", [SMALL, LARGE])
def test_draw_for_a_batch(benchmark: BenchmarkFixture, vocab: int, rows: int) -> None:
    measure(benchmark, peaked(vocab), rows, 16, {"temperature": 0.8, "top_k": 50, "top_p": 0.95})


@pytest.mark.parametrize("beams", [2, 4, 16])
@pytest.mark.parametrize("vocab", [SMALL, LARGE])
def test_beams(benchmark: BenchmarkFixture, vocab: int, beams: int) -> None:
    """A step of a search: the candidates of each beam, and which of them go on."""
    params = SamplingParams(num_beams=beams)
    search = BeamSearch(params, frozenset({2}), 1 << 20)
    fresh, state = peaked(vocab), SamplerState(params, [1], frozenset({2}))
    work = np.empty((beams, vocab), np.float32)
    search.step([search.candidates(fresh.copy(), state)])

    def refill() -> None:
        work[:] = fresh

    def step() -> int:
        return len(search.step([search.candidates(row, state) for row in work]))

    assert benchmark.pedantic(step, setup=refill, rounds=50, warmup_rounds=2) == beams  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("history", [100, 1_000, 10_000])
@pytest.mark.parametrize(
    "options",
    [{"repetition_penalty": 1.1}, {"presence_penalty": 0.1, "frequency_penalty": 0.1}, {"no_repeat_ngram_size": 3}],
    ids=["repetition", "frequency", "ngram"],
)
def test_history(benchmark: BenchmarkFixture, options: dict[str, Any], history: int) -> None:
    measure(benchmark, peaked(LARGE), 1, history, options)


@pytest.mark.parametrize("history", [100, 10_000])
def test_append(benchmark: BenchmarkFixture, history: int) -> None:
    params = SamplingParams(repetition_penalty=1.1, frequency_penalty=0.1, no_repeat_ngram_size=3)
    state = SamplerState(params, list(range(history)), frozenset())
    benchmark(state.append, 7)
    assert state.generated > 0


def test_sampled_logprobs(benchmark: BenchmarkFixture) -> None:
    measure(benchmark, peaked(LARGE), 1, 16, {"logprobs": 5})


@pytest.mark.parametrize(("vocab", "rows"), [(4_096, 512), (LARGE, 16)])
def test_prompt_logprobs(benchmark: BenchmarkFixture, vocab: int, rows: int) -> None:
    logits = np.tile(peaked(vocab), (rows, 1))
    entries = benchmark(token_logprobs, logits, list(range(rows)), 5)
    assert len(entries) == rows


@pytest.mark.parametrize("stops", [[], ["\n\n"], ["</s>", "User:", "\n\n", "###"]], ids=len)
def test_stop_strings(benchmark: BenchmarkFixture, stops: list[str]) -> None:
    """One token's text."""
    watcher = StopStrings(stops, include=False)
    assert benchmark(watcher.feed, " word")[1] is False
