"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864) and how configurations stretch it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import openvino as ov
import openvino.opset15 as op
from numpy.typing import NDArray

from ovgen.graph.blocks import f32, i64, named
from ovgen.graph.fields import Fields

__all__ = ["BEYOND_ORIGINAL", "Rope", "Rotary", "read_rope", "stretched_rope"]

BEYOND_ORIGINAL = "beyond_original"
"""Last part of the name of the node, a boolean scalar, that says which of two sets of frequencies holds."""


@dataclass(frozen=True, eq=False)
class Rope:
    """How far each pair of a head's elements turns from one position to the next.

    Attributes:
        frequencies: radians per position, ``(pairs,)``; elements beyond ``2 * pairs`` of a head do not turn.
        scale: what the turned elements are multiplied by.
        long_frequencies: those of sequences longer than ``original_context``; None: the same.
        original_context: how many positions ``frequencies`` were made for.
    """

    frequencies: NDArray[np.float32]
    scale: float = 1.0
    long_frequencies: NDArray[np.float32] | None = None
    original_context: int = 0


class Rotary:
    """The rotation of each new token, computed once and applied to the queries and keys of every layer.

    Where there are two sets of frequencies, the last position of a call decides for all its tokens, as in Hugging Face.
    ``passes/longrope.py`` decides once and for all instead.

    Args:
        name: the module.
        position_ids: ``(b, t)`` int64.
        rope: what to turn by.
    """

    def __init__(self, name: str, position_ids: ov.Node, rope: Rope) -> None:
        self._half = len(rope.frequencies)
        frequencies = _row(rope.frequencies)  # (1, 1, pairs)
        if rope.long_frequencies is not None:
            last = op.reduce_max(position_ids, i64([0, 1]))  # ()
            beyond = named(op.greater_equal(last, i64(rope.original_context)), f"{name}/{BEYOND_ORIGINAL}")
            frequencies = op.select(beyond, _row(rope.long_frequencies), frequencies)
        positions = op.unsqueeze(op.convert(position_ids, "f32"), i64(2))  # (b, t, 1)
        angles = op.multiply(positions, frequencies)
        angles = op.concat([angles, angles], -1)  # (b, t, 2 * pairs)
        self._cos = self._table(f"{name}/cos", op.cos(angles), rope.scale)
        self._sin = self._table(f"{name}/sin", op.sin(angles), rope.scale)

    @staticmethod
    def _table(name: str, x: ov.Node, scale: float) -> ov.Node:
        """``(b, t, 2 * pairs)`` -> ``(b, 1, t, 2 * pairs)``, scaled."""
        if scale != 1.0:
            x = op.multiply(x, f32(scale))
        return named(op.unsqueeze(x, i64(1)), name)

    def rotate(self, name: str, x: ov.Node) -> ov.Node:
        """``(b, heads, t, dim)``: of the first ``2 * pairs`` elements, i turns with i + pairs; the rest stays."""
        half, dim = self._half, x.get_output_partial_shape(0)[3].get_length()
        turning = x if dim == 2 * half else op.slice(x, [0], [2 * half], [1], [3])
        left, right = op.slice(turning, [0], [half], [1], [3]), op.slice(turning, [half], [2 * half], [1], [3])
        turned = op.concat([op.multiply(right, f32(-1.0)), left], -1)
        y = op.add(op.multiply(turning, self._cos), op.multiply(turned, self._sin))
        if dim > 2 * half:
            y = op.concat([y, op.slice(x, [2 * half], [dim], [1], [3])], -1)
        return named(y, f"{name}/rope")


def _row(frequencies: NDArray[np.float32]) -> ov.Node:
    return op.constant(frequencies.reshape(1, 1, -1))


def read_rope(fields: Fields, head_dim: int, *, theta: float = 10000.0, fraction: float | None = None) -> Rope:
    """The rotation that ``config.json`` asks for.

    Both spellings are read: ``rope_theta`` and ``partial_rotary_factor`` beside ``rope_scaling``, and
    ``rope_parameters`` with all in it.

    Args:
        fields: the configuration.
        head_dim: elements of a head.
        theta: the default base.
        fraction: the default of ``partial_rotary_factor``, the part of a head's elements that turns; None: all turn,
            and the architecture knows no such key.

    Raises:
        UnsupportedModelError: a ``rope_type`` that is not known.
        CorruptFileError: a value that cannot be.
    """
    section = fields.section("rope_scaling", "rope_parameters")
    dim = head_dim
    if fraction is not None:
        share = section.number("partial_rotary_factor", fields.number("partial_rotary_factor", fraction))
        dim = int(head_dim * share)
        if not 0 < dim <= head_dim:
            raise fields.corrupt("partial_rotary_factor", f"a part of head_dim={head_dim}", share)
    return stretched_rope(fields, section, dim, fields.number("rope_theta", theta))


def stretched_rope(fields: Fields, section: Fields, dim: int, theta: float) -> Rope:
    """The rotation of ``dim`` elements that a ``rope_scaling`` section asks for.

    Args:
        fields: the configuration around it.
        section: may have a base of its own, ``rope_theta``.
        dim: elements that turn; where they are odd, so does one more.
        theta: the base, if ``section`` has none.

    Raises:
        UnsupportedModelError: a ``rope_type`` that is not known.
        CorruptFileError: a value that cannot be.
    """
    base = section.number("rope_theta", theta)
    exponents = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    plain = np.float32(1.0) / np.float32(base) ** exponents
    key = "rope_type" if "rope_type" in section else "type"  # "type" is what it was called at first
    kind = section.choice(key, "default", _STRETCHES)
    return _STRETCHES[kind](plain, base, section, fields)


def _default(plain: NDArray[np.float32], base: float, section: Fields, fields: Fields) -> Rope:
    return Rope(plain)


def _linear(plain: NDArray[np.float32], base: float, section: Fields, fields: Fields) -> Rope:
    """Position interpolation (Chen et al. 2023, arXiv:2306.15595)."""
    return Rope(plain / np.float32(section.number("factor")))


def _llama3(plain: NDArray[np.float32], base: float, section: Fields, fields: Fields) -> Rope:
    """Llama 3.1's stretch: low frequencies are divided by ``factor``, high ones kept, with a ramp between."""
    factor, low, high = (section.number(key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    if high <= low:
        raise section.corrupt("high_freq_factor", f"above low_freq_factor={low}", high)
    context = _original_context(section, fields)
    turns = context * plain.astype(np.float64) / (2 * math.pi)  # full circles within the original context
    keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return Rope(((1 - keep) * plain / factor + keep * plain).astype(np.float32))


def _yarn(plain: NDArray[np.float32], base: float, section: Fields, fields: Fields) -> Rope:
    """YaRN (Peng et al. 2023, arXiv:2309.00071): pairs that turn often stay, slow ones are divided by ``factor``."""
    factor, context, pairs = section.number("factor"), _original_context(section, fields), len(plain)
    if base <= 1.0:
        raise section.corrupt("rope_theta", "above 1", base)

    def pair_that_turns(times: float) -> float:
        """Which pair makes so many full circles within the original context; between two pairs, a fraction."""
        return pairs * math.log(context / (times * 2 * math.pi)) / math.log(base)

    fast, slow = section.number("beta_fast", 32.0), section.number("beta_slow", 1.0)
    if fast <= slow:
        raise section.corrupt("beta_fast", f"above beta_slow={slow}", fast)
    first, last = pair_that_turns(fast), pair_that_turns(slow)
    if section.flag("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * pairs - 1)
    divided = np.clip((np.arange(pairs) - first) / max(last - first, 0.001), 0.0, 1.0)
    frequencies = (divided * plain / factor + (1 - divided) * plain).astype(np.float32)
    scale = 1.0 if factor <= 1.0 else 0.1 * math.log(factor) + 1.0
    return Rope(frequencies, section.number("attention_factor", scale))


def _longrope(plain: NDArray[np.float32], base: float, section: Fields, fields: Fields) -> Rope:
    """LongRoPE (Ding et al. 2024, arXiv:2402.13753): each pair has a divisor, and another one for long sequences.

    ``long_factor`` holds for all tokens of a sequence that is longer than ``original_max_position_embeddings``. Keys
    that are cached stay as they were turned, so somebody must choose beforehand. Hugging Face chooses for each call,
    by the longest sequence in it; vLLM and llama.cpp choose once, by the longest sequence that there may be, and so
    does ovgen when it runs a model: results depend on neither the batch nor how a prompt is cut.
    """
    short, long = (np.array(section.numbers(key, len(plain)), np.float32) for key in ("short_factor", "long_factor"))
    context = _original_context(section, fields)
    if "factor" in section or "attention_factor" in section:
        factor = section.number("factor", 1.0)
    else:
        factor = fields.size("max_position_embeddings") / context
    scale = 1.0 if factor <= 1.0 else math.sqrt(1 + math.log(factor) / math.log(context))
    return Rope(
        plain / short,
        section.number("attention_factor", scale),
        None if np.array_equal(short, long) else plain / long,
        context,
    )


def _original_context(section: Fields, fields: Fields) -> int:
    """Positions that the model was trained with, before it was stretched."""
    key = "original_max_position_embeddings"
    owner = next((where for where in (fields, section) if key in where), None)
    return owner.size(key, least=2) if owner else fields.size("max_position_embeddings", least=2)


_STRETCHES: dict[str, Callable[[NDArray[np.float32], float, Fields, Fields], Rope]] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "longrope": _longrope,
    "su": _longrope,  # what it was called in the first Phi-3 files
    "yarn": _yarn,
}
