#!/usr/bin/env python3
"""What the native CPU kernels cost in quality: they round activations to 8 bits, which OpenVINO's own here do not.

For the same compressed weights: perplexity with the native kernels as a multiple of that with OpenVINO's (to be at most
1.005), mean Kullback-Leibler divergence of the next token's distribution (thousandths), and how often the likeliest
token is the same. Held-out text is that of ``compression_table.py``.

    python scripts/kernel_quality.py models/storyteller
    python scripts/kernel_quality.py path/to/stories260K --own-stories
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import openvino as ov
from compression_table import Model, corpus
from numpy.typing import NDArray

from ovgen.graph import build_model, read_config
from ovgen.runtime.kernels import choose_kernels
from ovgen.weights import Compression, open_checkpoint

COMPRESSIONS = [
    Compression(weights="int8"),
    Compression(weights="int8", symmetric=True),
    Compression(weights="int4", group_size=32),
    Compression(weights="int4", group_size=128),
    Compression(weights="int4", group_size=128, symmetric=True),
    Compression(weights="int4", group_size=128, embeddings="int4"),
]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Hugging Face folder of a small model")
    parser.add_argument("--own-stories", action="store_true", help="measure on stories that the model itself tells")
    parser.add_argument("--stretches", type=int, default=24, help="of text to measure on (default: %(default)s)")
    options = parser.parse_args()
    if options.own_stories:
        config = read_config(options.folder)
        teller = Model(build_model(config, open_checkpoint(options.folder)))
        ids = teller.tell(2 * options.stretches, 256, 1, config["bos_token_id"])
    else:
        ids = corpus(options.folder, 1_000_004, 800, options.stretches)
    print(f"{options.folder.name}: {ids[:, 1:].size} tokens")
    print("| weights | OpenVINO's | native | ratio | divergence | same likeliest |\n", "| --- " * 6, "|", sep="")
    for compression in COMPRESSIONS:
        print(row(options.folder, compression, ids), flush=True)


def row(folder: Path, compression: Compression, ids: NDArray[np.int64]) -> str:
    """One line."""
    plain = build_model(read_config(folder), open_checkpoint(folder), compression)
    native = choose_kernels(plain, "require", "CPU", {}).model
    theirs, ours, divergence, same = measure(plain, native, ids)
    kind = {None: "", True: " sym", False: " asym"}[compression.symmetric]
    group = "" if compression.group_size is None else f", groups of {compression.group_size}"
    tables = "" if compression.embeddings is None else f", embeddings {compression.embeddings}"
    name = f"{compression.weights}{kind}{group}{tables}"
    return f"| {name} | {theirs:.4f} | {ours:.4f} | {ours / theirs:.4f} | {1000 * divergence:.2f} | {same:.2%} |"


def measure(plain: ov.Model, native: ov.Model, ids: NDArray[np.int64]) -> tuple[float, float, float, float]:
    """Perplexities, mean divergence in nats, and the share of equal likeliest tokens."""
    models = [Model(plain), Model(native)]
    losses: list[list[NDArray[np.float64]]] = [[], []]
    divergences, same = [], []
    for start in range(0, len(ids), 8):
        part = ids[start : start + 8]
        theirs, ours = (model.log_probabilities(part) for model in models)
        for found, kept in zip((theirs, ours), losses, strict=True):
            kept.append(-np.take_along_axis(found, part[:, 1:, None], -1))
        divergences.append((np.exp(theirs) * (theirs - ours)).sum(-1))
        same.append(theirs.argmax(-1) == ours.argmax(-1))
    first, second = (math.exp(np.concatenate(kept).mean()) for kept in losses)
    return first, second, float(np.concatenate(divergences).mean()), float(np.concatenate(same).mean())


if __name__ == "__main__":
    main()
