#!/usr/bin/env python3
"""Time guesses by prompt lookup, and by a draft model, against plain decoding; both in turn, medians of ratios.

What a model says is forced by a logits processor, so that any model can be made to quote its prompt, or not to:

* quote: parts of the prompt, 10 to 40 tokens each, in another order;
* prose: a text that goes on (the README), which repeats itself as prose does;
* random: tokens that follow nothing.

scripts/bench_drafts.py models/storyteller
scripts/bench_drafts.py path/to/gpt2 --weights int8 --rounds 7 --batch 4
scripts/bench_drafts.py models/storyteller --draft-model models/storyteller-draft
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import ovgen

ROOT = Path(__file__).resolve().parent.parent
PROMPT, TOKENS = 300, 128


class Saying:
    """A logits processor that has a text said, whatever the model thinks."""

    def __init__(self, prompt: Sequence[int], said: Sequence[int]) -> None:
        self._tokens = [*prompt, *said]

    def __call__(self, token_ids: Sequence[int], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """All the weight on the next token of the text."""
        logits[self._tokens[len(token_ids)]] = 1e9
        return logits


def texts(llm: ovgen.LLM, seed: int) -> dict[str, tuple[list[int], list[int]]]:
    """By name: a prompt, and what is said after it."""
    rng = np.random.default_rng(seed)
    vocabulary = llm.engine.runner.vocab_size
    prompt = rng.integers(0, vocabulary, PROMPT).tolist()
    quote: list[int] = []
    while len(quote) < TOKENS:
        begin = int(rng.integers(0, PROMPT - 40))
        quote += prompt[begin : begin + int(rng.integers(10, 40))]
    found = {
        "quote": (prompt, quote[:TOKENS]),
        "random": (prompt, rng.integers(0, vocabulary, TOKENS).tolist()),
    }
    if llm.tokenizer is not None:
        prose = llm.tokenizer.encode((ROOT / "README.md").read_text(encoding="utf-8"), add_special_tokens=False)
        begin = int(rng.integers(0, len(prose) - PROMPT - TOKENS))
        found["prose"] = prose[begin : begin + PROMPT], prose[begin + PROMPT : begin + PROMPT + TOKENS]
    return found


def run(
    llm: ovgen.LLM, prompts: Sequence[Sequence[int]], said: Sequence[Sequence[int]], lookup: int
) -> tuple[float, float]:
    """Seconds of decoding, prompts not counted, and tokens a pass."""
    params = [
        ovgen.SamplingParams(
            max_new_tokens=len(text),
            ignore_eos=True,
            prompt_lookup_num_tokens=lookup,
            num_assistant_tokens=0,
            logits_processors=(Saying(prompt, text),),
        )
        for prompt, text in zip(prompts, said, strict=True)
    ]
    steps = llm.metrics.steps
    outputs = llm.generate(list(prompts), params)
    first = min(out.metrics.first_token or 0.0 for out in outputs)
    last = max(out.metrics.last_token or 0.0 for out in outputs)
    assert [list(out.token_ids) for out in outputs] == [list(text) for text in said]
    return last - first, sum(len(text) for text in said) / (llm.metrics.steps - steps) / len(prompts)


def lookups(llm: ovgen.LLM, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """By kind of text: tokens a pass, and how many times as fast as plain decoding."""
    results: dict[str, dict[str, float]] = {}
    for kind in texts(llm, 0):
        ratios, passes = [], []
        for number in range(options.rounds):
            pairs = [texts(llm, number * options.batch + i)[kind] for i in range(options.batch)]
            prompts, said = [prompt for prompt, _ in pairs], [text for _, text in pairs]
            order = (0, options.lookup) if number % 2 else (options.lookup, 0)
            taken = {lookup: run(llm, prompts, said, lookup) for lookup in order}
            ratios.append(taken[0][0] / taken[options.lookup][0])
            passes.append(taken[options.lookup][1])
        results[kind] = {"tokens a pass": statistics.median(passes), "speed": statistics.median(ratios)}
    return results


def draft_model(llm: ovgen.LLM, rounds: int) -> dict[str, dict[str, float]]:
    """The same for the draft model, which guesses what the model itself says."""
    ratios, passes = [], []
    for number in range(rounds):
        taken = {}
        for guesses in (0, 5) if number % 2 else (5, 0):
            steps, begin = llm.metrics.steps, time.perf_counter()
            prompt = f"{('One day', 'Once upon a time', 'In the morning')[number % 3]}, number {number}"
            llm.generate(prompt, max_new_tokens=TOKENS, ignore_eos=True, temperature=0, num_assistant_tokens=guesses)
            taken[guesses] = time.perf_counter() - begin, TOKENS / (llm.metrics.steps - steps)
        ratios.append(taken[0][0] / taken[5][0])
        passes.append(taken[5][1])
    return {"draft model": {"tokens a pass": statistics.median(passes), "speed": statistics.median(ratios)}}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--weights", choices=["f16", "int8", "int4"])
    parser.add_argument("--draft-model")
    parser.add_argument("--lookup", type=int, default=7, help="most tokens guessed at once (default: 7)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    llm = ovgen.LLM(
        options.model, weights=options.weights, draft_model=options.draft_model, enable_prefix_caching=False
    )
    lookups(llm, argparse.Namespace(**{**vars(options), "rounds": 1}))  # warm up
    results = lookups(llm, options)
    if options.draft_model:
        results |= draft_model(llm, options.rounds)
    if options.json:
        print(json.dumps(results))
        return
    for kind, figures in results.items():
        print(
            f"{kind:12} {figures['tokens a pass']:.2f} tokens a pass, {figures['speed']:.2f} times as fast as without"
        )


if __name__ == "__main__":
    main()
