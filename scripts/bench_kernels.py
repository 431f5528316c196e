#!/usr/bin/env python3
"""Time ovgen's native CPU kernels beside OpenVINO's own, openvino.genai and llama.cpp, on the same random models.

    python scripts/bench_kernels.py --peers-python peers/bin/python [--models gpt2 llama] [--precisions int8 int4]
        [--engines native plugin genai llamacpp] [--rounds 9] [--work FOLDER] [--json FILE]

Models are made in ``--work`` when they are not there: IR folders by ovgen, which openvino.genai reads too, and GGUF
files. Each engine has a process of its own, and they take turns. Shown are medians and quartiles of the rounds; gains
are quotients within a round, so that what disturbs for a while hits all engines alike. An engine that cannot be had is
left out, with the reason.

- decode: ms a token, one stream, greedy, after the prompt; batch: tokens a second of 16 streams;
- prefill: ms to the first token of a prompt; one, four: ms of a pass of so many tokens, without sampling;
- load: s, with files that have been read before; peak: MB of memory after loading and one generation;
- share: how much of a decode step it would take to read the weights at the speed that memory was read with, in percent.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from bench_engines import ENGINES, MOST_IDLE, Worker, WorkerError, in_turns, serve

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

Figures: TypeAlias = "dict[str, dict[str, list[float]]]"
"""By engine and measure, a number for each round."""

NATIVE = "native"
OURS = (NATIVE, "plugin")
COMPARED = (*OURS, "genai", "llamacpp")
UNITS = {
    "decode": "ms/token",
    "batch": "tokens/s",
    "prefill": "ms",
    "one": "ms",
    "four": "ms",
    "four/one": "",
    "load": "s",
    "peak": "MB",
    "share": "%",
}
HIGHER_IS_BETTER = {"batch", "share"}
ABSOLUTE = {"four/one", "share"}  # nothing that one engine does so many times as well as another
GAINS = {  # at least, against another engine
    ("gpt2", "int8", "decode", "genai"): 1.7,
    ("gpt2", "int4", "decode", "genai"): 2.5,
    ("llama", "int4", "decode", "genai"): 2.5,
    ("llama", "int4", "decode", "llamacpp"): 1.3,
}
GAINS_EVERYWHERE = {("batch", "plugin"): 2.0, ("prefill", "plugin"): 1.5}
FLOATS = ("f32", "f16", "bf16")  # nothing is wanted of these
SHARES = {"int8": 60.0, "int4": 50.0}
FOUR_TO_ONE = 1.5
BATCH_PROMPT = 16  # tokens; they are not what is measured
QUIET = 0.5  # load before the start; llama.cpp's threads wait for each other in loops, and lose most to other processes


def main() -> None:
    """Run the benchmark and print a table; or be an engine of one."""
    options = arguments()
    if options.worker:
        serve(options.worker, options.model)
        return
    load = os.getloadavg()[0]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        work = (options.work or Path(folder)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        for model in options.models:
            for precision in options.precisions:
                result = {**Benchmark(work, model, precision, options).run(), "load": load}
                results.append(result)
                print("\n".join(table(result)), flush=True)
                if options.json:  # what has been measured is kept if the rest fails
                    options.json.write_text(json.dumps(results, indent=2) + "\n")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["gpt2", "llama"], choices=("gpt2", "llama"))
    parser.add_argument("--precisions", nargs="+", default=["int8", "int4"], choices=(*FLOATS, "int8", "int4", "mixed"))
    parser.add_argument("--engines", nargs="+", default=COMPARED, choices=COMPARED)
    parser.add_argument("--peers-python", default=sys.executable, help="that has openvino_genai and llama_cpp")
    parser.add_argument("--rounds", type=int, default=9, help="that count (default: %(default)s)")
    parser.add_argument("--loads", type=int, default=3, help="times to load, which count (default: %(default)s)")
    parser.add_argument("--prompt", type=int, default=64, help="tokens before decoding (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=32, help="to decode in a turn (default: %(default)s)")
    parser.add_argument("--prefill", type=int, default=512, help="tokens of the long prompt (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="folder to keep the models in")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parser.add_argument("--worker", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    return parser.parse_args()


class Benchmark:
    """All engines with one model in one precision."""

    def __init__(self, work: Path, model: str, precision: str, options: argparse.Namespace) -> None:
        import bench_models as models  # needs what the Python of the peers may not have

        self._work, self._model, self._precision, self._options = work, model, precision, options
        source = models.Source(work, model, precision)
        formats = {name: "gguf" if name == "llamacpp" else "ir" for name in (*options.engines, "memory")}
        self._paths = {name: source.path(form) for name, form in formats.items()}
        self._vocabulary = source.vocabulary()
        self._weight_bytes = source.weight_bytes()
        self._rng = np.random.default_rng(0)
        self._workers: dict[str, Worker] = {}
        self._figures: Figures = {}
        self._missing: dict[str, str] = {}
        self._idle: dict[str, float] = {}

    def run(self) -> dict[str, Any]:
        """Everything measured."""
        try:
            self._load()
            if not self._figures:
                raise SystemExit(f"no engine can be had: {self._missing}")
            for number in range(self._options.rounds + 1):
                self._round(number)
        finally:
            for worker in self._workers.values():
                worker.close()
        bandwidth = self._figures.pop("memory", {}).get("bandwidth", [])
        for figures in self._figures.values():
            self._derive(figures, bandwidth)
        return {
            "model": self._model,
            "precision": self._precision,
            "weight_bytes": self._weight_bytes,
            "bandwidth": bandwidth,
            "figures": self._figures,
            "missing": self._missing,
            "idle": self._idle,
        }

    def _load(self) -> None:
        """Start all engines some times, in turns; the last ones stay. The first time may build and does not count."""
        for number in range(self._options.loads + 1):
            for name, path in self._paths.items():
                if name in self._missing or (name == "memory" and number < self._options.loads):
                    continue
                if path is None:
                    self._missing[name] = f"it has nothing like {self._precision}"
                    continue
                try:
                    worker = self._workers[name] = self._start(name, path)
                    if name == "memory":
                        continue
                    after = worker.ask("generate", **self._job(1, self._options.prompt, self._options.tokens))
                except WorkerError as error:
                    self._leave_out(name, error)
                    continue
                if number:
                    self._add(name, {"load": after["load"], "peak": after["peak"] / 1e6})
                if number < self._options.loads:
                    self._workers.pop(name).close()

    def _start(self, name: str, path: Path) -> Worker:
        python = sys.executable if name in (*OURS, "memory") else self._options.peers_python
        command = [python, str(Path(__file__).resolve()), "--worker", name, "--model", str(path)]
        return Worker(command, self._work / f"{name}.log")

    def _round(self, number: int) -> None:
        """A turn for each engine, another one first each time; the first round does not count."""
        for name in in_turns(self._workers, number):
            try:
                figures = self._turn(name)
            except WorkerError as error:
                self._leave_out(name, error)
                continue
            idle = figures.pop("idle")
            if number:
                self._idle[name] = max(idle, self._idle.get(name, 0.0))
                self._add(name, figures)

    def _turn(self, name: str) -> dict[str, float]:
        worker, tokens = self._workers[name], self._options.tokens
        if name == "memory":
            read = worker.ask("read")
            return {"bandwidth": read["bandwidth"], "idle": read["idle"]}
        stream = worker.ask("generate", **self._job(1, self._options.prompt, tokens + 1))
        batch = worker.ask("generate", **self._job(16, BATCH_PROMPT, tokens // 2 + 1))
        prefill = worker.ask("generate", **self._job(1, self._options.prefill, 1))
        figures = {
            "decode": 1000 * stream["rest"] / tokens,
            "batch": 16 * (tokens // 2) / batch["rest"],
            "prefill": 1000 * prefill["first"],
            "idle": stream["idle"],  # while all others had their turns
        }
        if name in OURS:
            for measure, count in (("one", 1), ("four", 4)):
                figures[measure] = 1000 * worker.ask("step", tokens=count, past=self._options.prompt)["step"]
        return figures

    def _job(self, count: int, length: int, tokens: int) -> dict[str, Any]:
        """Prompts that no engine has seen, as some keep what they have computed."""
        return {"prompts": self._rng.integers(0, self._vocabulary, (count, length)).tolist(), "tokens": tokens}

    def _add(self, name: str, figures: dict[str, float]) -> None:
        kept = self._figures.setdefault(name, {})
        for measure, value in figures.items():
            kept.setdefault(measure, []).append(value)

    def _leave_out(self, name: str, error: WorkerError) -> None:
        self._missing[name] = str(error)
        self._figures.pop(name, None)
        if name in self._workers:
            self._workers.pop(name).close()

    def _derive(self, figures: dict[str, list[float]], bandwidth: Sequence[float]) -> None:
        """What follows from the figures of a round."""
        if "four" in figures:
            figures["four/one"] = [four / one for four, one in zip(figures["four"], figures["one"], strict=True)]
        # llama.cpp reads a file of its own.
        if figures is not self._figures.get("llamacpp"):
            times = zip(bandwidth, figures["decode"], strict=False)
            figures["share"] = [100 * self._weight_bytes / speed / (ms / 1000) for speed, ms in times]


def table(result: dict[str, Any]) -> Iterator[str]:
    """Lines for people."""
    yield ""
    speed = spread([value / 1e9 for value in result["bandwidth"]]) if result["bandwidth"] else "unknown"
    title = f"{result['model']} {result['precision']}: {result['weight_bytes'] / 1e6:.1f} MB of weights a step"
    yield f"{title}; memory is read at {speed} GB/s"
    if result["load"] > QUIET:
        yield f"  nothing is judged: the machine was busy with something else before (load {result['load']:.1f})"
    for name, reason in result["missing"].items():
        yield f"  without {name}: {reason}"
    for name, idle in result["idle"].items():
        if idle > MOST_IDLE:
            yield f"  {name} kept {idle:.0%} of a core busy while it had nothing to do: the others were slowed down"
    yield f"  {'':19}{'engine':9}{'median (quartiles)':32}{'gain of native (quartiles)':30}goal"
    figures: Figures = result["figures"]
    for measure, unit in UNITS.items():
        label = f"{measure} {unit}"
        for engine, values in figures.items():
            if values.get(measure):
                line = f"  {label:19}{engine:9}{spread(values[measure]):32}{comparison(result, measure, engine)}"
                yield line.rstrip()
                label = ""


def comparison(result: dict[str, Any], measure: str, engine: str) -> str:
    """The end of a line: how many times as good native kernels are, and whether that is what it is to be."""
    figures: Figures = result["figures"]
    if engine == NATIVE or measure in ABSOLUTE:
        goal = {"share": SHARES.get(result["precision"]), "four/one": FOUR_TO_ONE}.get(measure)
        goal = None if result["precision"] in FLOATS else goal
        if engine != NATIVE or goal is None:
            return ""
        return f"{'':30}{verdict(result, figures[engine][measure], goal, least=measure == 'share')}"
    ours = figures.get(NATIVE, {}).get(measure)
    if not ours:
        return ""
    gains = [a / b for a, b in zip(figures[engine][measure], ours, strict=True)]
    if measure in HIGHER_IS_BETTER:
        gains = [1 / gain for gain in gains]
    everywhere = GAINS_EVERYWHERE.get((measure, engine))
    goal = GAINS.get((result["model"], result["precision"], measure, engine), everywhere)
    goal = None if result["precision"] in FLOATS else goal
    return f"{spread(gains):30}" + ("" if goal is None else verdict(result, gains, goal, least=True))


def verdict(result: dict[str, Any], values: Sequence[float], goal: float, *, least: bool) -> str:
    """The goal, and whether the median reaches it."""
    found = statistics.median(values)
    reached = "reached" if (found >= goal if least else found <= goal) else "missed"
    return f"{'>=' if least else '<='} {goal:g} {'not judged' if result['load'] > QUIET else reached}"


def spread(values: Sequence[float]) -> str:
    """Median and quartiles."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.2f} ({low:.2f} .. {high:.2f})"


if __name__ == "__main__":
    main()
