#!/usr/bin/env python3
"""Run the same model and prompts through ovgen and the engines beside it that are installed, and compare.

    python scripts/bench_peers.py --peers-python peers/bin/python
    python scripts/bench_peers.py --models gpt2 --precisions f32 int8 --engines ovgen genai transformers --csv out.csv

Models have random weights and are made in ``--work`` when they are not there: folders for transformers, IR folders by
ovgen, which openvino.genai and optimum-intel read too, and GGUF files. Each engine has a process of its own, all with
the same number of threads; they take turns. Shown are medians of the rounds. "x" is how many times as fast an engine
decodes as the first one, the median of the quotients within a round, with the least and the most; "same tokens" is the
share of greedy tokens up to the first that differs from the first engine's. In f32 all keep the KV cache in float32,
too, but for llama.cpp (float16); else each does what it does by itself: OpenVINO keeps it in 8 bits, which changes the
texts of random models.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peer_engines  # noqa: F401 - which adds to ENGINES
from bench_engines import ENGINES, THREADS, Worker, WorkerError, serve

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

NAMES = {"ovgen": "ovgen", "genai": "openvino.genai", "optimum": "optimum-intel", "transformers": "PyTorch"}
NAMES |= {"llamacpp": "llama.cpp"}
MODELS = ("gpt2", "distilgpt2", "gpt-neo", "llama")
PRECISIONS = ("f32", "int8", "int4")
COLUMNS = ("engine", "load, s", "first token, ms", "ms/token", "tokens/s", "x", "peak, MB", "same tokens")
PAUSE = 0.05  # seconds before a turn, for threads of the one before that wait in a loop for a while


def main() -> None:
    """Run all, and print tables; or be an engine of one."""
    options = arguments()
    if options.worker:
        serve(options.worker, options.model)
        return
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        work = (options.work or Path(folder)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        for model in options.models:
            for precision in options.precisions:
                results += compared(work, model, precision, options)
                if options.json:  # what has been measured is kept if the rest fails
                    options.json.write_text(json.dumps(results, indent=2) + "\n")
                if options.csv:
                    write_csv(options.csv, results)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["gpt2", "llama"], choices=MODELS)
    parser.add_argument("--precisions", nargs="+", default=["f32", "int8", "int4"], choices=PRECISIONS)
    parser.add_argument("--engines", nargs="+", default=list(NAMES), choices=NAMES, help="the first is compared with")
    parser.add_argument("--peers-python", default=sys.executable, help="that has the other engines")
    parser.add_argument("--rounds", type=int, default=5, help="that count (default: %(default)s)")
    parser.add_argument("--prompt-tokens", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--new-tokens", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--work", type=Path, help="folder to keep the models in")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parser.add_argument("--csv", type=Path, help="also write the medians to this file")
    parser.add_argument("--worker", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    return parser.parse_args()


def compared(work: Path, model: str, precision: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All engines with one model in one precision; prints their table."""
    import bench_models as models  # needs what the Python of the peers may not have

    os.environ["BENCH_KV_CACHE"] = "f32" if precision == "f32" else ""  # for the processes of engines
    ir = models.ir_folder(work, model, precision)
    places: dict[str, Path | None] = dict.fromkeys(NAMES, ir)
    if "llamacpp" in options.engines:
        places["llamacpp"] = models.gguf_file(work, model, precision)
    places["transformers"] = models.hf_folder(work, model, precision) if precision == "f32" else None
    vocabulary = models.vocabulary(ir)
    workers: dict[str, Worker] = {}
    missing: dict[str, str] = {}
    rounds: list[dict[str, dict[str, Any]]] = []
    rng = np.random.default_rng(0)
    try:
        for name in options.engines:
            try:
                workers[name] = started(name, places[name], work, options)
            except WorkerError as error:
                missing[name] = str(error)
        for number in range(options.rounds + 1):
            prompts = rng.integers(0, vocabulary, (1, options.prompt_tokens)).tolist()
            rounds.append(taken_turns(workers, missing, prompts, options.new_tokens, number))
    finally:
        for worker in workers.values():
            worker.close()
    rows = summary([r for r in rounds[1:] if r], options.engines, options.new_tokens, missing)
    heading = f"{model}, {precision}, prompts of {options.prompt_tokens} tokens, {THREADS} threads"
    print(f"\n{heading}\n", *table(rows), sep="\n", flush=True)
    return [{"model": model, "precision": precision, **row} for row in rows]


def started(name: str, path: Path | None, work: Path, options: argparse.Namespace) -> Worker:
    """An engine's process, when it has loaded the model.

    Raises:
        WorkerError: it cannot be had.
    """
    if path is None:
        raise WorkerError("it does not take this model in this precision")
    python = sys.executable if name == "ovgen" else options.peers_python
    command = [python, str(Path(__file__).resolve()), "--worker", name, "--model", str(path)]
    return Worker(command, work / f"{name}.log")


def taken_turns(
    workers: dict[str, Worker], missing: dict[str, str], prompts: list[list[int]], tokens: int, number: int
) -> dict[str, dict[str, Any]]:
    """What each engine answers, another one first in each round; one that fails is left out from then on."""
    names = list(workers)
    first = number % len(names) if names else 0
    answers = {}
    for name in names[first:] + names[:first]:
        time.sleep(PAUSE)
        try:
            answers[name] = workers[name].ask("generate", prompts=prompts, tokens=tokens)
        except WorkerError as error:
            missing[name] = str(error)
            workers.pop(name).close()
    return answers


def summary(
    rounds: Sequence[dict[str, dict[str, Any]]], engines: Sequence[str], tokens: int, missing: dict[str, str]
) -> list[dict[str, Any]]:
    """A row of medians for each engine, or why there is none."""
    base = engines[0]
    rows: list[dict[str, Any]] = []
    for name in engines:
        mine = [(r[name], r.get(base)) for r in rounds if name in r]
        if name in missing or not mine:
            rows.append({"engine": NAMES[name], "missing": missing.get(name, "no round was completed")})
            continue
        quotients = [other["rest"] / own["rest"] for own, other in mine if other is not None]
        same = [agreement(other["ids"][0], own["ids"][0]) for own, other in mine if other is not None]
        decode = statistics.median(own["rest"] / (tokens - 1) for own, _ in mine)
        rows.append(
            {
                "engine": NAMES[name],
                "load": mine[-1][0]["load"],
                "first": statistics.median(own["first"] for own, _ in mine),
                "decode": decode,
                "speed": 1 / decode,
                "ratio": statistics.median(quotients) if quotients else None,
                "ratio_least": min(quotients, default=None),
                "ratio_most": max(quotients, default=None),
                "peak": max(own["peak"] for own, _ in mine),
                "same": statistics.mean(same) if same else None,
            }
        )
    return rows


def agreement(expected: Sequence[int], found: Sequence[int]) -> float:
    """Share of the tokens before the first that differs."""
    equal = [a == b for a, b in zip(expected, found, strict=True)]
    return (equal.index(False) if False in equal else len(equal)) / len(equal)


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The rows for people."""
    lines = [COLUMNS]
    for row in rows:
        if "missing" not in row:
            ratio = "-" if row["ratio"] is None else "{ratio:.2f} ({ratio_least:.2f} - {ratio_most:.2f})".format(**row)
            figures = (f"{row['load']:.2f}", f"{1000 * row['first']:.1f}", f"{1000 * row['decode']:.2f}")
            same = "-" if row["same"] is None else f"{100 * row['same']:.0f} %"
            lines.append((row["engine"], *figures, f"{row['speed']:.1f}", ratio, f"{row['peak'] / 1e6:.0f}", same))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        first, *others = (f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True))
        yield "  ".join([first.strip().ljust(widths[0]), *others])
    for row in rows:
        if "missing" in row:
            yield f"{row['engine']}: not available here: {row['missing']}"


def write_csv(file: Path, results: Sequence[dict[str, Any]]) -> None:
    """All rows, with the columns that any of them has."""
    names = list(dict.fromkeys(name for row in results for name in row))
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, names)
        writer.writeheader()
        writer.writerows(results)


if __name__ == "__main__":
    main()
