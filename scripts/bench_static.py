#!/usr/bin/env python3
"""Time the static form beside the paged one, on the CPU and in steps of the same size.

    python scripts/bench_static.py [MODEL] [--weights int8 f16] [--caches f16 f32] [--contexts 256 1024] [--json FILE]

Without MODEL, a GPT-2 of 124 million random weights is made. Both forms take turns, and medians are shown: of a token
after a full context, for 1 and for 4 requests (the static form at most 1.25 times the paged one's time); of a prompt;
and of what the static form does in Python in a step.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, get_args

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import ovgen  # noqa: E402
from ovgen.engine.engine import Engine  # noqa: E402
from ovgen.graph.passes import StaticShape  # noqa: E402
from ovgen.runtime.forms import Form  # noqa: E402
from ovgen.runtime.runner import Chunk, Runner  # noqa: E402
from ovgen.runtime.slots import Slots  # noqa: E402
from ovgen.runtime.static_graphs import StaticGraph  # noqa: E402
from ovgen.weights import Precision  # noqa: E402
from tests.tiny_models import make  # noqa: E402

GPT2 = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12}
FORMS: tuple[Form, ...] = ("paged", "static")
STEPS = 8  # timed in a row before the other form has its turn


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="model folder (default: a random GPT-2)")
    parser.add_argument("--weights", nargs="+", choices=get_args(Precision), default=["int8", "f16"])
    parser.add_argument("--caches", nargs="+", default=["f16", "f32"], choices=("f16", "f32"))
    parser.add_argument("--contexts", nargs="+", type=int, default=[256, 1024])
    parser.add_argument("--slots", nargs="+", type=int, default=[1, 4], help="requests in a step")
    parser.add_argument("--prompts", nargs="+", type=int, default=[64, 512])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["OVGEN_HOME"] = folder  # compressed copies go with it
        model = options.model or make("gpt2", Path(folder) / "gpt2", **GPT2)
        print("weights  cache slots work              paged ms static ms  ratio  host ms")
        for weights in options.weights:
            for cache in options.caches:
                for slots in options.slots:
                    for row in measure(model, weights, cache, slots, options):
                        rows.append({"weights": weights, "cache": cache, "slots": slots, **row})
                        print(line(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def measure(
    model: Path, weights: Precision, cache: str, slots: int, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Rows of the table for one choice of precisions and slots."""
    config = {"KV_CACHE_PRECISION": cache}
    compiled: list[tuple[str, float]] = []
    with compile_times(compiled):
        engines: dict[Form, Engine] = {
            form: ovgen.LLM(
                model, form=form, weights=weights, device_config=config, batch_slots=slots, compile_ahead=True
            ).engine
            for form in FORMS
        }
    longest, limit = max(options.contexts + options.prompts), engines["paged"].max_model_len
    if longest > limit:
        raise SystemExit(f"{model} takes {limit} tokens: name shorter --contexts and --prompts than {longest}")
    work = {form: Work(engine.runner, slots, longest) for form, engine in engines.items()}
    for context in options.contexts:
        for each in work.values():
            each.fill(context - 1)
        times = in_turns({form: each.step for form, each in work.items()}, options.rounds, STEPS)
        with host_times() as host:
            for _ in range(STEPS):
                work["static"].step()
        yield {"work": f"token {context}", **times, "host": 1000 * sum(host) / STEPS}
        for each in work.values():
            each.empty()
    for prompt in options.prompts if slots == 1 else ():
        prompts = {form: partial(each.prompt, prompt) for form, each in work.items()}
        yield {"work": f"prompt {prompt}", **in_turns(prompts, options.rounds, 1)}
    for shape, seconds in compiled:
        yield {"work": "compile", "shape": shape, "seconds": seconds}


class Work:
    """What a runner is timed at.

    Args:
        runner: paged or static.
        slots: sequences in a step.
        longest: tokens of the longest.
    """

    def __init__(self, runner: Runner, slots: int, longest: int) -> None:
        self._runner = runner
        self._sequences = range(slots)
        self._past = 0
        blocks = -(-longest // runner.block_size)
        self._blocks = [range(number * blocks, (number + 1) * blocks) for number in self._sequences]
        runner.resize(blocks * slots)

    def fill(self, past: int) -> None:
        """Compute ``past`` tokens of each sequence."""
        self._past = past
        for number in self._sequences:
            for begin in range(0, past, 512):
                self._compute([self._chunk(number, min(512, past - begin), begin, 0)])

    def step(self) -> None:
        """One more token of each; it is forgotten."""
        for number in self._sequences:
            self._runner.trim(number, self._past)
        self._compute([self._chunk(number, 1, self._past, 1) for number in self._sequences])

    def prompt(self, count: int) -> None:
        """A prompt in pieces as the engine makes them; it is forgotten."""
        self.empty()
        for begin in range(0, count, 512):
            self._compute([self._chunk(0, min(512, count - begin), begin, int(begin + 512 >= count))])

    def empty(self) -> None:
        """Forget all sequences."""
        for number in self._sequences:
            self._runner.release(number)

    def _chunk(self, number: int, count: int, past: int, rows: int) -> Chunk:
        return Chunk(number, [7] * count, past, self._blocks[number], rows)

    def _compute(self, chunks: list[Chunk]) -> None:
        self._runner.start(chunks)
        self._runner.wait()


def in_turns(work: Mapping[Form, Callable[[], None]], rounds: int, steps: int) -> dict[str, float]:
    """Median milliseconds of each kind of work, done alternately; the first round is not counted."""
    times: dict[Form, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, do in work.items():
            for _ in range(steps):
                begin = time.perf_counter()
                do()
                if turn:
                    times[name].append(1000 * (time.perf_counter() - begin))
    return {name: statistics.median(values) for name, values in times.items()}


@contextmanager
def host_times() -> Iterator[list[float]]:
    """Seconds of every call that writes what a graph reads, or keeps what it gave."""
    seconds: list[float] = []
    methods = [(StaticGraph, "write"), (Slots, "append")]
    originals = [getattr(owner, name) for owner, name in methods]

    def timed(original: Any) -> Any:
        def call(*arguments: Any) -> Any:
            begin = time.perf_counter()
            result = original(*arguments)
            seconds.append(time.perf_counter() - begin)
            return result

        return call

    for (owner, name), original in zip(methods, originals, strict=True):
        setattr(owner, name, timed(original))
    try:
        yield seconds
    finally:
        for (owner, name), original in zip(methods, originals, strict=True):
            setattr(owner, name, original)


@contextmanager
def compile_times(found: list[tuple[str, float]]) -> Iterator[None]:
    """Collect what the static form logs of its graphs: shape and seconds."""

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.msg.startswith("compiled for") and isinstance(record.args, tuple):
                _, shape, seconds = record.args
                assert isinstance(shape, StaticShape)
                assert isinstance(seconds, float)
                found.append((f"{shape.batch} x {shape.tokens} after {shape.context}", seconds))

    log, handler = logging.getLogger("ovgen"), Collect()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    head = f"{row['weights']:8} {row['cache']:5} {row['slots']:5} {row['work']:16}"
    if "shape" in row:
        return f"{head} {row['seconds']:.1f} s for {row['shape']}"
    host = f"  {row['host']:.2f}" if "host" in row else ""
    return f"{head} {row['paged']:9.2f} {row['static']:9.2f} {row['static'] / row['paged']:6.2f}{host}"


if __name__ == "__main__":
    main()
