"""What tests of graphs share."""

from __future__ import annotations

from pathlib import Path

import openvino as ov

from ovgen.graph import build_model, read_config
from ovgen.weights import open_checkpoint

__all__ = ["build", "compile_exact"]


def build(folder: Path) -> ov.Model:
    """The causal LM form of a Hugging Face folder."""
    return build_model(read_config(folder), open_checkpoint(folder))


def compile_exact(model: ov.Model) -> ov.CompiledModel:
    """On CPU, all in float32: what is left are differences of summation order."""
    exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
    return ov.Core().compile_model(model, "CPU", exact)
