#!/usr/bin/env python3
"""What the native CPU kernels cost in quality: they round activations to 8 bits, which OpenVINO's own here do not.

For the same compressed weights: perplexity with the native kernels as a multiple of that with OpenVINO's (to be at most
1.005), mean Kullback-Leibler divergence of the next token's distribution (thousandths), and how often the likeliest
token is the same. The text is that of ``compression_table.py``; measured by `ovgen.quality`.

    python scripts/kernel_quality.py models/storyteller
    python scripts/kernel_quality.py path/to/stories260K --own-stories
"""

from __future__ import annotations

from pathlib import Path

from compression_table import EXACT, arguments, held_out, label

import ovgen
from ovgen.quality import compare

COMPRESSIONS = [
    ovgen.Compression(weights="int8"),
    ovgen.Compression(weights="int8", symmetric=True),
    ovgen.Compression(weights="int4", group_size=32),
    ovgen.Compression(weights="int4", group_size=128),
    ovgen.Compression(weights="int4", group_size=128, symmetric=True),
    ovgen.Compression(weights="int4", group_size=128, embeddings="int4"),
]
_TITLES = ("weights", "OpenVINO's", "native", "ratio", "divergence", "same likeliest")


def main() -> None:
    """Print the table."""
    options = arguments(__doc__)
    text = held_out(options.folder, options.stories, own=options.own_stories)
    print(f"{options.folder.name}: {options.stories} stories\n")
    print(f"| {' | '.join(_TITLES)} |\n|{' --- |' * len(_TITLES)}")
    for compression in COMPRESSIONS:
        print(f"| {' | '.join(row(options.folder, compression, text))} |", flush=True)


def row(folder: Path, compression: ovgen.Compression, text: str) -> list[str]:
    """One line."""
    native = ovgen.LLM(folder, weights=compression, kernels="require", device_config=EXACT)
    plain = ovgen.LLM(folder, weights=compression, kernels="off", device_config=EXACT)
    found = compare(native, plain, text)
    perplexities = (f"{found.other.perplexity:.4f}", f"{found.this.perplexity:.4f}", f"{found.ratio:.4f}")
    return [label(compression), *perplexities, f"{1000 * found.divergence:.2f}", f"{found.same_top:.2%}"]


if __name__ == "__main__":
    main()
