"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864) and how Llama configs stretch it."""

from __future__ import annotations

import math

import numpy as np
import openvino as ov
import openvino.opset15 as op
from numpy.typing import NDArray

from ovgen.graph.blocks import f32, i64, named
from ovgen.graph.fields import Fields

__all__ = ["Rotary", "inverse_frequencies"]


class Rotary:
    """The rotation of each new token, computed once and applied to the queries and keys of every layer.

    Args:
        name: the module.
        position_ids: ``(b, t)`` int64.
        frequencies: radians per position, ``(dim / 2,)``.
    """

    def __init__(self, name: str, position_ids: ov.Node, frequencies: NDArray[np.float32]) -> None:
        self._half = len(frequencies)
        positions = op.unsqueeze(op.convert(position_ids, "f32"), i64(2))  # (b, t, 1)
        angles = op.multiply(positions, op.constant(frequencies.reshape(1, 1, -1)))
        angles = op.concat([angles, angles], -1)  # (b, t, dim)
        self._cos = named(op.unsqueeze(op.cos(angles), i64(1)), f"{name}/cos")  # (b, 1, t, dim)
        self._sin = named(op.unsqueeze(op.sin(angles), i64(1)), f"{name}/sin")

    def rotate(self, name: str, x: ov.Node) -> ov.Node:
        """``(b, heads, t, dim)``: element i turns with element i + dim / 2, as Hugging Face lays them out."""
        half = self._half
        left, right = op.slice(x, [0], [half], [1], [3]), op.slice(x, [half], [2 * half], [1], [3])
        turned = op.concat([op.multiply(right, f32(-1.0)), left], -1)
        return named(op.add(op.multiply(x, self._cos), op.multiply(turned, self._sin)), f"{name}/rope")


def inverse_frequencies(fields: Fields, head_dim: int) -> NDArray[np.float32]:
    """Radians per position for each pair of a head's elements, ``(head_dim / 2,)``, from ``config.json``.

    Both spellings are read: ``rope_theta`` beside ``rope_scaling``, and ``rope_parameters`` with all in it.

    Raises:
        UnsupportedModelError: a ``rope_type`` other than default, linear and llama3.
        CorruptFileError: a value that cannot be.
    """
    rope = fields.section("rope_scaling") or fields.section("rope_parameters") or fields
    base = (rope if "rope_theta" in rope else fields).number("rope_theta", 10000.0)
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    plain = np.float32(1.0) / np.float32(base) ** exponents
    key = "rope_type" if "rope_type" in rope else "type"  # "type" is what it was called at first
    kind = rope.choice(key, "default", dict.fromkeys(("default", "linear", "llama3")))
    if kind == "linear":  # position interpolation (Chen et al. 2023, arXiv:2306.15595)
        return plain / np.float32(rope.number("factor"))
    return _llama3(plain, rope, fields) if kind == "llama3" else plain


def _llama3(plain: NDArray[np.float32], rope: Fields, fields: Fields) -> NDArray[np.float32]:
    """Llama 3.1's stretch: low frequencies are divided by ``factor``, high ones kept, with a ramp between."""
    factor, low, high = (rope.number(key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    if high <= low:
        raise rope.corrupt("high_freq_factor", f"above low_freq_factor={low}", high)
    key = "original_max_position_embeddings"
    owner = next((where for where in (fields, rope) if key in where), None)
    context = owner.size(key) if owner else fields.size("max_position_embeddings")
    turns = context * plain.astype(np.float64) / (2 * math.pi)  # full circles within the original context
    keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return ((1 - keep) * plain / factor + keep * plain).astype(np.float32)
