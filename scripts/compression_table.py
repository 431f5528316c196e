#!/usr/bin/env python3
"""What compression costs, beside NNCF: perplexity in every precision as a multiple of that in float32, and the mean
Kullback-Leibler divergence of the next token's distribution from that in float32, which is less noisy, in thousandths.

Columns: bytes of the weights; ovgen rounding to nearest, with searched scales (what it does without calibration text),
and with calibration text; and NNCF's data-free ``compress_weights``, where it is installed, with its bytes (it leaves
matrices in float32 whose rows its groups do not divide). Embeddings and head are INT8 in all. Held-out stories are
those of ``train_demo.py``; a model without a corpus is measured on stories that it tells itself in float32.

    python scripts/compression_table.py models/storyteller
    python scripts/compression_table.py path/to/stories260K --own-stories
"""

# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import openvino as ov
import story_corpus as stories
from numpy.typing import NDArray

from ovgen.graph import build_model, read_config
from ovgen.runtime.calibration import Calibration
from ovgen.runtime.tokenizer_ir import compile_tokenizer
from ovgen.text import load_tokenizer
from ovgen.weights import Compression, Statistics, open_checkpoint

try:
    import nncf

    nncf.set_log_level(40)  # errors
except ImportError:
    nncf = None

_TRAINING_SEED, _HELD_OUT, _CALIBRATION = 1, 1_000_003, 77_000_000
_Ids = NDArray[np.int64]  # (stretches, tokens)


class Model:
    """A causal LM that runs in float32."""

    def __init__(self, model: ov.Model) -> None:
        exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
        self.request = ov.Core().compile_model(model, "CPU", exact).create_infer_request()

    def __call__(self, ids: _Ids, past: int = 0) -> NDArray[np.float32]:
        """Logits ``(batch, tokens, vocabulary)`` after ``past`` tokens of the same sequences."""
        batch, new = ids.shape
        if past == 0:
            self.request.reset_state()
        positions = np.tile(np.arange(past, past + new), (batch, 1))
        mask, beams = np.ones((batch, past + new), np.int64), np.arange(batch, dtype=np.int32)
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "beam_idx": beams}
        return np.asarray(self.request.infer(inputs)["logits"])

    def log_probabilities(self, ids: _Ids) -> NDArray[np.float64]:
        """Of every token after each but the last: ``(batch, tokens - 1, vocabulary)``."""
        logits = self(ids[:, :-1]).astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        return logits

    def tell(self, count: int, tokens: int, seed: int, bos: int) -> _Ids:
        """Sampled texts, at temperature 1."""
        rng = np.random.default_rng(seed)
        ids = np.full((count, 1), bos)
        for past in range(tokens):
            logits = self(ids[:, -1:], past)[:, -1]
            ids = np.append(ids, (logits + rng.gumbel(size=logits.shape)).argmax(-1)[:, None], axis=1)
        return ids


def corpus(folder: Path, seed: int, documents: int, count: int) -> _Ids:
    """Evenly spread stretches of 512 tokens, and one more, of the stories of a seed."""
    tokenizer = load_tokenizer(folder, compile_tokenizer)
    assert tokenizer is not None
    texts = stories.corpus(seed, documents)
    tokens = np.concatenate([tokenizer.encode(text, add_special_tokens=False) for text in texts])
    starts = np.linspace(0, len(tokens) - 513, count).astype(int)
    return np.stack([tokens[start : start + 513] for start in starts])


class Table:
    """Measures one model."""

    def __init__(self, folder: Path, held_out: _Ids, statistics: Statistics) -> None:
        self.folder, self.held_out, self.statistics = folder, held_out, statistics
        self.exact = Model(self.build())
        self.base, _ = self.measure(self.exact)

    def build(self, compression: Compression | None = None, statistics: Statistics | None = None) -> ov.Model:
        """The model, compressed."""
        return build_model(read_config(self.folder), open_checkpoint(self.folder), compression, statistics=statistics)

    def measure(self, model: Model) -> tuple[float, float]:
        """Perplexity over every token of the held-out text but the first, and mean divergence from float32 (nats)."""
        losses, divergences = [], []
        for start in range(0, len(self.held_out), 8):
            ids = self.held_out[start : start + 8]
            exact, found = self.exact.log_probabilities(ids), model.log_probabilities(ids)
            losses.append(-np.take_along_axis(found, ids[:, 1:, None], -1))
            divergences.append((np.exp(exact) * (exact - found)).sum(-1))
        return math.exp(np.concatenate(losses).mean()), float(np.concatenate(divergences).mean())

    def cost(self, model: ov.Model) -> str:
        """Perplexity as a multiple of that in float32, and divergence in thousandths."""
        perplexity, divergence = self.measure(Model(model))
        return f"{perplexity / self.base:.4f}, {1000 * divergence:.2f}"

    def row(self, compression: Compression) -> list[str]:
        """One line."""
        kind = {None: "", True: " sym", False: " asym"}[compression.symmetric]
        group = {None: "", -1: ", whole rows"}.get(compression.group_size, f", groups of {compression.group_size}")
        model = self.build(compression)
        cells = [f"{compression.weights}{kind}{group}", size(model), "", self.cost(model), "", "", ""]
        if compression.weights == "int4":
            with mock.patch.multiple("ovgen.weights.compress", _SPANS=(), _least_squares=lambda x, scale, *_: scale):
                cells[2] = self.cost(self.build(compression))
            cells[4] = self.cost(self.build(compression, self.statistics))
        if nncf is not None and compression.weights != "f16":
            theirs = self.compressed_by_nncf(compression)
            cells[5:] = [self.cost(theirs), size(theirs)]
        return cells

    def compressed_by_nncf(self, compression: Compression) -> ov.Model:
        """The same weights, by NNCF without data."""
        mode = f"{compression.weights}_{'sym' if compression.symmetric else 'asym'}".upper()
        options: dict[str, Any] = {}
        if compression.weights == "int4":
            advanced = nncf.AdvancedCompressionParameters(group_size_fallback_mode=nncf.GroupSizeFallbackMode.IGNORE)
            options = {"group_size": compression.group_size, "ratio": 1.0, "advanced_parameters": advanced}
        return nncf.compress_weights(self.build(), mode=nncf.CompressWeightsMode[mode], **options)


def size(model: ov.Model) -> str:
    """Bytes of constants that are not tiny."""
    constants = (node for node in model.get_ops() if node.get_type_name() == "Constant")
    total = sum(node.get_element_type().bitwidth * math.prod(node.get_output_shape(0)) // 8 for node in constants)
    return f"{total / 1e6:.3f} MB"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Hugging Face folder of a small model")
    parser.add_argument("--own-stories", action="store_true", help="measure on stories that the model itself tells")
    parser.add_argument("--stretches", type=int, default=48, help="of text to measure on (default: %(default)s)")
    options = parser.parse_args()
    folder, count = options.folder, options.stretches
    plain = build_model(read_config(folder), open_checkpoint(folder))
    if options.own_stories:
        bos = read_config(folder)["bos_token_id"]
        held_out, calibration = (Model(plain).tell(n, 256, seed, bos) for n, seed in ((2 * count, 1), (64, 2)))
    else:
        held_out = corpus(folder, _TRAINING_SEED + _HELD_OUT, 800, count)
        calibration = corpus(folder, _TRAINING_SEED + _CALIBRATION, 200, 32)
    table = Table(folder, held_out, Calibration(plain, calibration.tolist()))
    print(f"{folder.name}: perplexity {table.base:.4f} over {held_out.size} tokens in float32")
    titles = ["weights", "bytes", "nearest", "searched", "calibrated", "NNCF", "its bytes"]
    print(*(f"| {title} " for title in titles), "|\n", "| --- " * len(titles), "|", sep="")
    rows = [Compression(weights="f16"), *(Compression(weights="int8", symmetric=kind) for kind in (False, True))]
    rows += [
        Compression(weights="int4", group_size=group, symmetric=kind)
        for kind in (False, True)
        for group in (32, 64, 128, -1)
    ]
    for row in rows:
        print(*(f"| {cell} " for cell in table.row(row)), "|", sep="", flush=True)


if __name__ == "__main__":
    main()
