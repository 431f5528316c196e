"""From a Hugging Face configuration and its weights to a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import openvino as ov

from ovgen.errors import UnsupportedModelError
from ovgen.graph.arch import ARCHITECTURES
from ovgen.weights import Checkpoint

__all__ = ["build_model"]


def build_model(config: Mapping[str, Any], checkpoint: Checkpoint) -> ov.Model:
    """The causal LM form of a model.

    Inputs: ``input_ids`` ``(batch, new)``, ``attention_mask`` ``(batch, cached + new)``, ``position_ids``
    ``(batch, new)`` int64, ``beam_idx`` ``(batch,)`` int32. Output: ``logits`` ``(batch, new, vocab)``
    float32. The KV cache is in variables. Weights keep the precision that they are stored in and stay in the
    mapped files (see ``ovgen.graph.constants``); neither ``config`` nor ``checkpoint`` need be kept.

    Raises:
        UnsupportedModelError: the architecture, or something that the configuration asks for, is not known.
        CorruptFileError: the configuration has a value that cannot be.
        MissingTensorError: the checkpoint lacks a tensor, or has it in another shape.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"config.json: model_type={kind!r:.80} is not implemented; there are: {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[kind](config, checkpoint)
