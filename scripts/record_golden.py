"""Record what Hugging Face makes of every tiny variant: logits, and ``config.json`` as it would write it itself.

    pip install -e .[golden]
    python scripts/record_golden.py [VARIANT ...]

Needed again only for variants whose description in ``tests`` changes. Each file of logits holds the inputs too: two
sequences, the second one padded on the left. Weights stored in 16 bits are computed with in float32: the rounding
belongs to the checkpoint, not to the arithmetic.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.tiny_models import VARIANTS, make  # noqa: E402

LENGTH = 32
PADDING = 9  # of the second sequence
KEPT = [9, 13, 17, 21, *range(23, LENGTH)]  # positions whose logits are stored: files stay small


def main() -> None:
    """Write ``logits/VARIANT.npz`` and ``configs/VARIANT.json`` for the variants on the command line, or for all."""
    golden = ROOT / "tests" / "golden"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, numpy {np.__version__}"
    inputs = _inputs()
    for variant in sys.argv[1:] or VARIANTS:
        with tempfile.TemporaryDirectory() as folder:
            make(variant, Path(folder))
            config = transformers.AutoConfig.from_pretrained(folder)
            logits = _logits(Path(folder), inputs)
        recorded: dict[str, Any] = {**inputs, "kept": np.array(KEPT), "logits": logits, "versions": versions}
        np.savez_compressed(golden / "logits" / f"{variant}.npz", **recorded)
        (golden / "configs" / f"{variant}.json").write_text(config.to_json_string(), "utf-8")
        print(f"{variant}: {logits.shape}, standard deviation {logits.std():.2f}")


def _inputs() -> dict[str, NDArray[np.int64]]:
    """What the model is called with, each ``(2, LENGTH)`` int64."""
    mask = np.ones((2, LENGTH), np.int64)
    mask[1, :PADDING] = 0
    return {
        "input_ids": np.random.RandomState(0).randint(3, 300, (2, LENGTH)) * mask,
        "attention_mask": mask,
        "position_ids": np.maximum(mask.cumsum(1) - 1, 0),
    }


def _logits(folder: Path, inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
    """Logits at the positions that are kept, ``(2, len(KEPT), vocab)``, of one pass over whole sequences."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    with torch.no_grad():
        kept: NDArray[np.float32] = model.eval()(**tensors).logits[:, KEPT].numpy()
    return kept


if __name__ == "__main__":
    main()
