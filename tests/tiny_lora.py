"""LoRA adapters of tiny models that PEFT has saved, and what Hugging Face computes with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["ADAPTERS", "Golden", "golden"]

_FOLDER = Path(__file__).resolve().parent / "golden" / "lora"

ADAPTERS = {
    "llama": ("llama-attention", "llama-patterns"),
    "gpt2": ("gpt2-attention", "gpt2-all"),
    "phi3": ("phi3-fused",),
}
"""Those of each tiny model."""


@dataclass(frozen=True)
class Golden:
    """What ``scripts/record_lora_golden.py`` recorded.

    Attributes:
        folder: of the adapter.
        ids: a prompt.
        without: logits ``(rows, vocab)`` of its last tokens without the adapter.
        adapted: with it.
    """

    folder: Path
    ids: list[int]
    without: NDArray[np.float32]
    adapted: NDArray[np.float32]

    @property
    def rows(self) -> int:
        """How many of the last tokens have logits."""
        return len(self.adapted)


def golden(name: str) -> Golden:
    """What was recorded of an adapter."""
    folder = _FOLDER / name
    with np.load(folder / "logits.npz") as file:
        return Golden(folder, file["ids"][0].tolist(), file["without"], file["adapted"])
