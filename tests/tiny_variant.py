"""What describes a small random model: see ``tests.tiny_models``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["Shape", "Shapes", "Variant"]

Shape: TypeAlias = tuple[str, tuple[int, ...]]
"""A tensor's name and shape."""

Shapes: TypeAlias = Callable[[dict[str, Any], str], Iterable[Shape]]
"""The tensors of a configuration; the string is the prefix of GPT-2's names."""


@dataclass(frozen=True)
class Variant:
    """A configuration, and how its weights are stored."""

    base: dict[str, Any]
    changes: dict[str, Any] = field(default_factory=dict)
    dtype: str = "F32"
    shards: int = 1
    prefix: str = "transformer."  # of GPT-2's tensor names

    @property
    def config(self) -> dict[str, Any]:
        """The object of ``config.json``; a change to None removes a key."""
        return {key: value for key, value in (self.base | self.changes).items() if value is not None}
