"""From a Hugging Face configuration and its weights to a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import openvino as ov

from ovgen.errors import UnsupportedModelError
from ovgen.graph.arch import ARCHITECTURES
from ovgen.weights import Checkpoint, CompressingCheckpoint, Compression, Compressor, Progress, Statistics

_TABLE = re.compile(r"embed|wte|wpe|lm_head")  # in names of Hugging Face's embeddings and heads

__all__ = ["build_model", "estimate_size"]


def build_model(
    config: Mapping[str, Any],
    checkpoint: Checkpoint,
    compression: Compression | None = None,
    *,
    statistics: Statistics | None = None,
    progress: Progress | None = None,
) -> ov.Model:
    """The causal LM form of a model.

    Inputs: ``input_ids`` ``(batch, new)``, ``attention_mask`` ``(batch, cached + new)``, ``position_ids``
    ``(batch, new)`` int64, ``beam_idx`` ``(batch,)`` int32. Output: ``logits`` ``(batch, new, vocab)``
    float32. The KV cache is in variables. Weights keep the precision that they are stored in and stay in the
    mapped files (see ``ovgen.graph.constants``) unless ``compression`` asks for another; neither ``config`` nor
    ``checkpoint`` need be kept.

    Args:
        config: the object of ``config.json``.
        checkpoint: the weights, under the names of Hugging Face.
        compression: what to store the weights in. Peak memory is that of the result and of one tensor.
        statistics: of the inputs of linear layers, for better INT4; see ``ovgen.runtime.calibration``.
        progress: told each tensor of a compression: its name, and the bytes it took.

    Raises:
        UnsupportedModelError: the architecture, or something that the configuration asks for, is not known; or the
            checkpoint is strict, and has tensors that such a model does not use.
        CorruptFileError: the configuration has a value that cannot be.
        MissingTensorError: the checkpoint lacks a tensor, or has it in another shape.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"config.json: model_type={kind!r:.80} is not implemented; there are: {', '.join(ARCHITECTURES)}"
        )
    build = ARCHITECTURES[kind]
    if compression is None:
        model = build(config, checkpoint)
    else:
        compressor = Compressor(compression, statistics, progress)
        model = build(config, CompressingCheckpoint(checkpoint, compressor))
        compressor.warn()
    checkpoint.check_unused()
    return model


def estimate_size(checkpoint: Checkpoint, compression: Compression | None = None) -> int:
    """About how many bytes the weights of `build_model` will take, from names and shapes alone: none is made.

    Tensors that the architecture does not use count too.
    """
    total = 0
    for name, tensor in checkpoint.stored().items():
        size = tensor.nbytes
        if compression is not None and len(tensor.shape) == 2:
            rows, columns = tensor.shape
            wanted = compression.bytes_of(rows, columns, table=bool(_TABLE.search(name)))
            size = wanted if compression.weights == "f16" else min(size, wanted)
        total += size
    return total
