#!/usr/bin/env python3
"""Time and peak memory of `ovgen convert`, beside `optimum-cli export openvino` where that is installed.

    python scripts/bench_convert.py [MODEL] [--optimum path/to/optimum-cli] [--runs 3]

Both are whole processes, run in turn. Without MODEL, a GPT-2 of 124 million random float32 weights is made. Peak memory
is set against what it should stay within: 1.3 times the largest tensor in float32, and the output.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ovgen.weights import open_checkpoint  # noqa: E402
from tests.tiny_models import make  # noqa: E402

GPT2 = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12}
FORMATS = {"as is": "fp32", "f16": "fp16", "int8": "int8", "int4": "int4"}  # ovgen's name, and optimum's


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="Hugging Face folder (default: a random GPT-2)")
    parser.add_argument("--optimum", default=shutil.which("optimum-cli"), help="optimum-cli to compare with")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--weights", nargs="+", choices=FORMATS, default=list(FORMATS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or make("gpt2", Path(folder) / "gpt2", **GPT2)
        largest = max(np.prod(tensor.shape) for _, tensor in open_checkpoint(model).items()) * 4
        print(f"{'weights':8} {'seconds':>8} {'MB peak':>8} {'MB allowed':>10} {'MB out':>7}   optimum-cli")
        for weights in options.weights:
            print(row(model, Path(folder) / "out", weights, options, int(largest)), flush=True)


def row(model: Path, out: Path, weights: str, options: argparse.Namespace, largest: int) -> str:
    """Both programs in turn, and their medians."""
    ours, theirs = [], []
    size = 0
    for _ in range(options.runs):
        shutil.rmtree(out, ignore_errors=True)
        option = [] if weights == "as is" else ["--weights", weights]
        ours.append(measure([sys.executable, "-m", "ovgen", "convert", str(model), str(out), *option]))
        size = (out / "openvino_model.bin").stat().st_size
        if options.optimum:
            shutil.rmtree(out, ignore_errors=True)
            export = [options.optimum, "export", "openvino", "--task", "text-generation-with-past"]
            theirs.append(measure([*export, "--model", str(model), "--weight-format", FORMATS[weights], str(out)]))
    seconds, peak = (statistics.median(values) for values in zip(*ours, strict=True))
    allowed = 1.3 * largest + size
    text = f"{weights:8} {seconds:8.2f} {peak / 1e6:8.0f} {allowed / 1e6:10.0f} {size / 1e6:7.0f}"
    if not theirs:
        return f"{text}   not installed"
    other, other_peak = (statistics.median(values) for values in zip(*theirs, strict=True))
    return f"{text}   {other:.1f} s, {other_peak / 1e6:.0f} MB, {other / seconds:.1f} times as long"


def measure(command: list[str]) -> tuple[float, int]:
    """Seconds and peak resident bytes of a process."""
    begin = time.perf_counter()
    with open(os.devnull, "wb") as nowhere:
        process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed: run it by itself to see why")
    return time.perf_counter() - begin, usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
