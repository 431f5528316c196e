"""Record the perplexity that Hugging Face's documentation computes, of tiny models with random weights.

    pip install -e .[golden]
    python scripts/record_quality_golden.py

The loop is that of https://huggingface.co/docs/transformers/perplexity, told in few lines: the loss of a window is the
mean over the tokens that no window before it had, and the result is weighted by how many those are.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.tiny_models import make  # noqa: E402

CASES = [("llama", 32, 16), ("llama", 32, 31), ("llama", 16, 1), ("gpt2", 24, 7), ("gpt2", 48, 24)]
LENGTH = 45


def main() -> None:
    """Write ``tests/golden/perplexity.json``."""
    ids = [(7 * i * i + 3 * i + 5) % 290 + 3 for i in range(LENGTH)]
    records = []
    for variant, window, stride in CASES:
        with tempfile.TemporaryDirectory() as folder:
            make(variant, Path(folder))
            model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            nats = _nats(model, torch.tensor([ids]), window, stride)
        records.append({"variant": variant, "window": window, "stride": stride, "ids": ids, "nats": nats})
        print(records[-1]["variant"], window, stride, nats)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    target = ROOT / "tests" / "golden" / "perplexity.json"
    target.write_text(json.dumps({"versions": versions, "records": records}) + "\n", "utf-8")


def _nats(model: torch.nn.Module, ids: torch.Tensor, window: int, stride: int) -> float:
    total, count, done = 0.0, 0, 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + window, ids.shape[1])
        labels = ids[:, begin:end].clone()
        labels[:, : -(end - done)] = -100  # what the window before has predicted
        with torch.no_grad():
            loss = float(model(ids[:, begin:end], labels=labels).loss)
        new = int((labels[:, 1:] != -100).sum())
        total, count, done = total + loss * new, count + new, end
        if end == ids.shape[1]:
            return total / count
    raise AssertionError("the last window ends with the text")


if __name__ == "__main__":
    main()
