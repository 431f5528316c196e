#!/usr/bin/env python3
"""Run the same model and prompts through ovgen and the engines beside it that are installed, and compare.

    python scripts/bench_peers.py --peers-python peers/bin/python
    python scripts/bench_peers.py --models gpt2 path/to/hf-folder --precisions f32 int8 --batch 1 16 --plot peers.png
    python scripts/bench_peers.py --engines ovgen genai onnxruntime --devices CPU GPU --csv peers.csv

Models are made with random weights, or given: a Hugging Face folder, which is written in the format of each engine
(f32: with weights as they are), or an OpenVINO folder or a GGUF file, for the engines that read them as they are. What
is written is kept in ``--work``.

Each engine has a process of its own on each of ``--devices`` that it can use, in the first of ``--peers-python`` that
has it; all with the same number of threads; they take turns. Shown are medians of the rounds, and of two starts the
second. "as fast": how many times as fast an engine decodes as the first one, the median of the quotients within a
round, with the least and the most; "same tokens": the share of greedy tokens up to the first that differs from the
first engine's. In f32 all keep the KV cache in float32, too, but for llama.cpp (float16); else each does what it does
by itself: OpenVINO keeps it in 8 bits on a CPU, which changes the texts of random models.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import peer_engines  # noqa: F401 - which adds to ENGINES
from bench_engines import ENGINES, MOST_IDLE, THREADS, Worker, WorkerError, in_turns, serve
from peer_report import absent, as_csv, draw, table, write_whole

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PRECISIONS = ("f32", "int8", "int4")
AS_STORED = "as stored"
_NOT_SO = "not in this precision"
Key: TypeAlias = "tuple[str, str]"
"""An engine and a device."""


@dataclass(frozen=True, slots=True)
class Peer:
    """How an engine is called, the formats that it reads, the best first, and where it can compute and in what."""

    title: str
    formats: tuple[str, ...]
    devices: tuple[str, ...] = ("CPU",)
    precisions: tuple[str, ...] = PRECISIONS


PEERS = {
    "ovgen": Peer("ovgen", ("ir", "gguf"), ("CPU", "GPU", "NPU")),
    "genai": Peer("openvino.genai", ("ir", "gguf"), ("CPU", "GPU", "NPU")),
    "optimum": Peer("optimum-intel", ("ir",), ("CPU", "GPU", "NPU")),
    "transformers": Peer("PyTorch", ("hf",), precisions=("f32",)),
    "onnxruntime": Peer("ONNX Runtime", ("onnx",), ("CPU", "GPU")),
    "onnxgenai": Peer("onnxruntime-genai", ("onnx-genai",)),
    "ctranslate2": Peer("CTranslate2", ("ctranslate2",)),
    "llamacpp": Peer("llama.cpp", ("gguf",)),
}
MODELS = ("gpt2", "distilgpt2", "gpt-neo", "llama")


def main() -> None:
    """Run all, and print tables; or be an engine of one."""
    options = arguments()
    if options.worker:
        serve(options.worker, options.model, options.device)
        return
    from bench_models import is_stored  # needs what the Python of the peers may not have

    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        work = (options.work or Path(folder)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        for model in options.models:
            for precision in [AS_STORED] if is_stored(model) else options.precisions:
                results += Comparison(work, model, precision, options).run()
                if options.json:  # what has been measured is kept if the rest fails
                    write_whole(options.json, json.dumps(results, indent=2) + "\n")
                if options.csv:
                    write_whole(options.csv, as_csv(results))
                if options.plot:
                    draw(options.plot, results)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ", ".join(MODELS)
    parser.add_argument(
        "--models", nargs="+", default=["gpt2", "llama"], help=f"of {known}, or folders, or .gguf files"
    )
    parser.add_argument(
        "--precisions",
        nargs="+",
        default=list(PRECISIONS),
        choices=PRECISIONS,
        help="not of IR folders and .gguf files",
    )
    parser.add_argument(
        "--engines", nargs="+", default=list(PEERS), choices=PEERS, help="compared with the first that is there"
    )
    parser.add_argument("--devices", nargs="+", default=["CPU", "GPU", "NPU"], choices=("CPU", "GPU", "NPU"))
    parser.add_argument("--peers-python", nargs="+", default=[sys.executable], help="those that have the other engines")
    parser.add_argument("--batch", nargs="+", type=int, default=[1], help="texts at once (default: 1)")
    parser.add_argument("--rounds", type=int, default=5, help="that count (default: %(default)s)")
    parser.add_argument("--prompt-tokens", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--new-tokens", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--work", type=Path, help="folder to keep the models in")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parser.add_argument("--csv", type=Path, help="also write the medians to this file")
    parser.add_argument("--plot", type=Path, help="also draw them into this file (.png, .svg, .pdf)")
    parser.add_argument("--worker", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--device", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.batch.sort()  # as the peak of memory holds what was before
    for model in options.models:
        files = ("config.json", "openvino_model.xml")
        if model not in MODELS and not (
            (model.endswith(".gguf") and Path(model).is_file()) or any((Path(model) / file).is_file() for file in files)
        ):
            parser.error(f"there is no model {model}: give one of {known}, a folder with a model, or a .gguf file")
    for file in filter(None, (options.json, options.csv)):
        if not file.absolute().parent.is_dir():
            parser.error(f"there is no folder for {file}")
    if options.plot:
        from ovgen.benchmark_plot import check_picture
        from ovgen.errors import ConfigError

        try:
            check_picture(options.plot)
        except ConfigError as error:
            parser.error(str(error))
    for name, least in (("batch", 1), ("rounds", 1), ("prompt_tokens", 1), ("new_tokens", 2)):
        if np.min(getattr(options, name)) < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}")
    return options


class Comparison:
    """All engines with one model in one precision."""

    def __init__(self, work: Path, model: str, precision: str, options: argparse.Namespace) -> None:
        self._work, self._model, self._precision, self._options = work, model, precision, options
        engines, devices = dict.fromkeys(options.engines), dict.fromkeys(options.devices)
        self._keys = [(name, device) for name in engines for device in devices if device in PEERS[name].devices]
        self._workers: dict[Key, Worker] = {}
        self._missing: dict[Key, str] = {}
        self._idle: dict[Key, float] = {}  # most of a core that an engine kept busy while it waited
        self._rng = np.random.default_rng(0)
        self._unwritten: dict[str, str] = {}  # formats, and why not

    def run(self) -> list[dict[str, Any]]:
        """Measure; prints a table for each batch, and returns the rows of all."""
        import bench_models as models  # needs what the Python of the peers may not have

        from ovgen.errors import OvgenError

        source = models.Source(self._work, self._model, self._precision)
        results: list[dict[str, Any]] = []
        try:
            for key in self._keys:
                try:
                    self._workers[key] = self._started(key, source)
                except (WorkerError, OvgenError) as error:
                    self._missing[key] = str(error)
            for batch in self._options.batch:
                rows = self._measured(batch, source.vocabulary())
                options = self._options
                texts = f"{batch} prompt{'s' * (batch > 1)} of {options.prompt_tokens} tokens"
                heading = f"{source.name}, {self._precision}, {texts}, {options.new_tokens} new ones, {THREADS} threads"
                print(f"\n{heading}\n", *table(rows), sep="\n", flush=True)
                about = {"model": source.name, "precision": self._precision, "batch": batch}
                results += [about | row for row in rows]
            print(*absent(rows), sep="\n", flush=True)
            for (name, device), idle in self._idle.items():
                if idle > MOST_IDLE:
                    kept = f"{PEERS[name].title} on {device} kept {idle:.0%} of a core busy"
                    print(f"\n{kept} while it had nothing to do: the others were slowed down")
        finally:
            for worker in self._workers.values():
                worker.close()
        return results

    def _started(self, key: Key, source: Any) -> Worker:
        """An engine's process, when it has loaded the model for the second time.

        Raises:
            WorkerError: it cannot be had.
        """
        name, device = key
        peer = PEERS[name]
        if "ir" in peer.formats and device != "CPU":
            import openvino

            if not any(found.split(".")[0] == device for found in openvino.Core().available_devices):
                raise WorkerError(f"OpenVINO finds no {device}")
        if self._precision not in (*peer.precisions, AS_STORED):
            raise WorkerError(_NOT_SO)
        pythons = [sys.executable] if name == "ovgen" else self._options.peers_python
        usable = having(pythons, ENGINES[name].imports)
        if not usable:
            raise WorkerError(f"no {' or no '.join(ENGINES[name].imports)} in {', '.join(pythons)}")
        path = self._written(peer, source)
        script = str(Path(__file__).resolve())
        command = [usable[0], script, "--worker", name, "--model", str(path), "--device", device]
        log = self._work / f"{name}-{device}.log"
        environment = {"BENCH_EXACT": "yes" if self._precision == "f32" else ""}
        Worker(command, log, environment).close()  # it may build or compile what it keeps
        return Worker(command, log, environment)

    def _written(self, peer: Peer, source: Any) -> Path:
        """The model in the best format for an engine, written if it is not there yet.

        Raises:
            WorkerError: there is none.
        """
        from peer_formats import FORMATS

        for name in peer.formats:
            if path := source.path(name):
                return Path(path)
            if name not in FORMATS or not source.path("hf"):
                continue
            _, needs, precisions = FORMATS[name]
            target = self._work / f"{source.stem}-{self._precision}-{name}"
            if target.exists():
                return target
            if self._precision not in precisions:
                raise WorkerError(_NOT_SO)
            if name in self._unwritten:
                raise WorkerError(self._unwritten[name])
            usable = having(self._options.peers_python, needs)
            reasons = [] if usable else [f"that takes {' and '.join(needs)}"]
            for python in usable:
                command = [python, str(ROOT / "scripts" / "peer_formats.py"), name]
                command += [str(source.path("hf")), str(target), self._precision]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode == 0:
                    return target
                reasons += (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1:]
            self._unwritten[name] = f"its format could not be written: {'; '.join(dict.fromkeys(reasons))}"
            raise WorkerError(self._unwritten[name])
        raise WorkerError("it does not take this model in this precision")

    def _measured(self, batch: int, vocabulary: int) -> list[dict[str, Any]]:
        options = self._options
        rounds = []
        for number in range(options.rounds + 1):
            # New ones for each batch, too: some engines keep what they have computed.
            prompts = self._rng.integers(0, vocabulary, (batch, options.prompt_tokens)).tolist()
            rounds.append(self._round(prompts, number))
        rows = summary(rounds[1:], self._keys, options.new_tokens, self._missing)
        lengths = {"prompt_tokens": options.prompt_tokens, "new_tokens": options.new_tokens}
        return [row if "missing" in row else row | lengths for row in rows]

    def _round(self, prompts: list[list[int]], number: int) -> dict[Key, dict[str, Any]]:
        """What each engine answers; one that fails is left out from then on."""
        answers = {}
        for key in in_turns(self._workers, number):
            try:
                answers[key] = self._workers[key].ask("generate", prompts=prompts, tokens=self._options.new_tokens)
                self._idle[key] = max(self._idle.get(key, 0.0), answers[key]["idle"] if number else 0.0)
            except WorkerError as error:
                self._missing[key] = str(error)
                self._workers.pop(key).close()
        return answers


def having(pythons: Sequence[str], packages: Sequence[str]) -> list[str]:
    """Those Pythons that have all the packages."""
    code = "import sys, importlib.util as u; sys.exit(not all(u.find_spec(name) for name in sys.argv[1:]))"
    found = []
    for python in pythons:
        try:
            done = subprocess.run([python, "-c", code, *packages], stderr=subprocess.DEVNULL)
        except OSError as error:
            raise SystemExit(f"{python} does not run: {error}") from error
        if done.returncode == 0:
            found.append(python)
    return found


def summary(
    rounds: Sequence[dict[Key, dict[str, Any]]], keys: Sequence[Key], tokens: int, missing: dict[Key, str]
) -> list[dict[str, Any]]:
    """A row of medians for each engine on each device, or why there is none; times in s, memory in bytes.

    Compared are all with the first that was measured.
    """
    rows: list[dict[str, Any]] = []
    base = next((key for key in keys if key not in missing and any(key in r for r in rounds)), keys[0])
    for key in keys:
        row: dict[str, Any] = {"engine": PEERS[key[0]].title, "device": key[1]}
        mine = [(r[key], r.get(base)) for r in rounds if key in r]
        if key in missing or not mine:
            rows.append(row | {"missing": missing.get(key, "no round was completed")})
            continue
        quotients = [other["rest"] / own["rest"] for own, other in mine if other is not None]
        same = [agreement(a, b) for own, other in mine if other for a, b in zip(other["ids"], own["ids"], strict=True)]
        decode = statistics.median(own["rest"] / (tokens - 1) for own, _ in mine)
        row |= {
            "load": mine[-1][0]["load"],
            "first": statistics.median(own["first"] for own, _ in mine),
            "decode": decode,
            "speed": len(mine[0][0]["ids"]) / decode,
            "against": f"{PEERS[base[0]].title} on {base[1]}",
            "ratio": statistics.median(quotients) if quotients else None,
            "ratio_least": min(quotients, default=None),
            "ratio_most": max(quotients, default=None),
            "peak": max(own["peak"] for own, _ in mine),
            "same": statistics.mean(same) if same else None,
        }
        rows.append(row)
    return rows


def agreement(expected: Sequence[int], found: Sequence[int]) -> float:
    """Share of the tokens before the first that differs."""
    equal = [a == b for a, b in zip(expected, found, strict=True)]
    return (equal.index(False) if False in equal else len(equal)) / len(equal)


if __name__ == "__main__":
    main()
