#!/usr/bin/env python3
"""What compression costs, beside NNCF: perplexity in every precision as a multiple of that in float32, and the mean
Kullback-Leibler divergence of the next token's distribution from that in float32, which is less noisy, in thousandths.

Columns: bytes of the weights; ovgen with searched scales (what it does without calibration text), and with calibration
text; and NNCF's data-free ``compress_weights``, where it is installed, with its bytes (it leaves matrices in float32
whose rows its groups do not divide). Embeddings and head are INT8 in all. Activations and cache are in float32, with
OpenVINO's kernels. Held-out stories are those of ``story_corpus.py`` with seeds that training did not have; a model of
another kind is measured on stories that it tells itself. Measured by `ovgen.quality`.

    python scripts/compression_table.py models/storyteller
    python scripts/compression_table.py path/to/stories260K --own-stories
"""

# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import openvino as ov
import story_corpus

import ovgen
from ovgen.quality import Comparison, compare, perplexity

try:
    import nncf

    nncf.set_log_level(40)  # errors
except ImportError:
    nncf = None

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
"""Properties that leave nothing rounded but weights."""

_HELD_OUT, _CALIBRATION = 1_000_004, 77_000_001  # seeds; training had 1
_STORY = 256  # tokens, of a model's own
_TITLES = ("weights", "bytes", "searched", "calibrated", "NNCF", "its bytes")


def held_out(folder: Path, stories: int, *, own: bool, calibration: bool = False) -> str:
    """A text that nothing was trained on.

    Args:
        folder: of the model that is to be measured.
        stories: how many.
        own: they are told by the model itself in float32, instead of taken from the corpus.
        calibration: another text, to calibrate on.
    """
    seed = _CALIBRATION if calibration else _HELD_OUT
    if not own:
        return "".join(story_corpus.corpus(seed, stories))
    llm = ovgen.LLM(folder, kernels="off", device_config=EXACT)
    told = llm.generate("", n=stories, temperature=1.0, seed=seed, max_new_tokens=_STORY, ignore_eos=True)
    return "".join(story.text for story in told.outputs)


class Table:
    """Measures one model.

    Args:
        folder: of the model.
        work: where its compressed copies may be.
        text: to measure on.
        calibration: to calibrate on.
    """

    def __init__(self, folder: Path, work: Path, text: str, calibration: str) -> None:
        self._folder, self._work, self._text, self._calibration = folder, work, text, calibration
        self._plain = ovgen.convert(folder, work / "plain")
        self.exact = exact(self._plain)

    def row(self, compression: ovgen.Compression) -> list[str]:
        """One line."""
        cells = [label(compression), "", "", "", "", ""]
        cells[1:3] = self._cost(ovgen.convert(self._folder, self._work / "searched", compression, force=True))
        if compression.weights == "int4":
            calibrated = self._work / "calibrated"
            ovgen.convert(self._folder, calibrated, compression, calibration=self._calibration, force=True)
            _, cells[3] = self._cost(calibrated)
        if nncf is not None and compression.weights != "f16":
            cells[5], cells[4] = self._cost(self._by_nncf(compression))
        return cells

    def _cost(self, folder: Path) -> tuple[str, str]:
        """Bytes of the weights, and what they cost."""
        found: Comparison = compare(exact(folder), self.exact, self._text)
        size = (folder / "openvino_model.bin").stat().st_size
        return f"{size / 1e6:.3f} MB", f"{found.ratio:.4f}, {1000 * found.divergence:.2f}"

    def _by_nncf(self, compression: ovgen.Compression) -> Path:
        """The same weights, by NNCF without data."""
        mode = f"{compression.weights}_{'sym' if compression.symmetric else 'asym'}".upper()
        options: dict[str, Any] = {}
        if compression.weights == "int4":
            advanced = nncf.AdvancedCompressionParameters(group_size_fallback_mode=nncf.GroupSizeFallbackMode.IGNORE)
            options = {"group_size": compression.group_size, "ratio": 1.0, "advanced_parameters": advanced}
        folder = self._work / "nncf"
        shutil.copytree(self._plain, folder, dirs_exist_ok=True)
        model = ov.Core().read_model(self._plain / "openvino_model.xml")
        compressed = nncf.compress_weights(model, mode=nncf.CompressWeightsMode[mode], **options)
        ov.save_model(compressed, folder / "openvino_model.xml", compress_to_fp16=False)
        return folder


def exact(folder: Path) -> ovgen.LLM:
    """A model with its weights as they are, and all else in float32."""
    return ovgen.LLM(folder, kernels="off", device_config=EXACT)


def label(compression: ovgen.Compression) -> str:
    """How a table calls it."""
    kind = {None: "", True: " sym", False: " asym"}[compression.symmetric]
    group = {None: "", -1: ", whole rows"}.get(compression.group_size, f", groups of {compression.group_size}")
    tables = "" if compression.embeddings is None else f", embeddings {compression.embeddings}"
    return f"{compression.weights}{kind}{group}{tables}"


def arguments(description: str) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Hugging Face folder of a small model")
    parser.add_argument("--own-stories", action="store_true", help="measure on stories that the model itself tells")
    parser.add_argument("--stories", type=int, default=100, help="to measure on, 1 to 1024 (default: %(default)s)")
    options = parser.parse_args()
    if not 1 <= options.stories <= 1024:
        parser.error("--stories must be from 1 to 1024")
    return options


def compressions() -> list[ovgen.Compression]:
    """The rows of the table."""
    int8 = [ovgen.Compression(weights="int8", symmetric=kind) for kind in (False, True)]
    groups = [(group, kind) for kind in (False, True) for group in (32, 64, 128, -1)]
    int4 = [ovgen.Compression(weights="int4", group_size=group, symmetric=kind) for group, kind in groups]
    return [ovgen.Compression(weights="f16"), *int8, *int4]


def main() -> None:
    """Print the table."""
    options = arguments(__doc__)
    folder, stories, own = options.folder, options.stories, options.own_stories
    text = held_out(folder, stories, own=own)
    calibration = held_out(folder, max(stories // 2, 1), own=own, calibration=True)
    with tempfile.TemporaryDirectory() as work:
        table = Table(folder, Path(work), text, calibration)
        base = perplexity(table.exact, text)
        print(f"{folder.name}: perplexity {base.perplexity:.4f} over {base.tokens} tokens in float32\n")
        print(f"| {' | '.join(_TITLES)} |\n|{' --- |' * len(_TITLES)}")
        for compression in compressions():
            print(f"| {' | '.join(table.row(compression))} |", flush=True)


if __name__ == "__main__":
    main()
