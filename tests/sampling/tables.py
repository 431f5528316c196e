"""Models that are but tables: the logits of the next token, by the last two tokens."""

from __future__ import annotations

import numpy as np

from ovgen.sampling.transforms import Logits

__all__ = ["END", "PAD", "PROMPT", "VOCAB", "table"]

VOCAB = 20
PROMPT = [1, 4]
END = 2
PAD = 0


def table(seed: int) -> Logits:
    """The logits ``(VOCAB, VOCAB, VOCAB)`` float32 that follow the last token but one and the last token.

    ``END`` is likely enough that texts end at many lengths, and ``PAD`` never comes.
    """
    logits = np.random.RandomState(seed).normal(0, 1.5, (VOCAB, VOCAB, VOCAB)).astype(np.float32)
    logits[..., END] += 1.5
    logits[..., PAD] = -100
    return logits
