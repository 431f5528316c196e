"""Reading a ``config.json`` without trusting it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ovgen.errors import CorruptFileError, UnsupportedModelError

__all__ = ["Fields"]

# Keys that change the mathematics of a model wherever they occur, and the values with which they change
# nothing. What is neither here nor read by an architecture (dropout, initialisers, token ids, …) is ignored.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (None, False),
    "alibi": (None, False),
    "attention_multiplier": (None, 1.0),
    "attn_logit_softcapping": (None,),
    "clip_qkv": (None,),
    "embedding_multiplier": (None, 1.0),
    "final_logit_softcapping": (None,),
    "logit_scale": (None, 1.0),
    "logits_scaling": (None, 1.0),
    "no_rope_layers": (None, []),
    "num_experts": (None, 0),
    "num_local_experts": (None, 0),
    "parallel_attn": (None, False),
    "partial_rotary_factor": (None, 1.0),
    "pruned_heads": (None, {}),
    "quantization_config": (None,),
    "residual_multiplier": (None, 1.0),
    "use_parallel_residual": (None, False),
    "use_qk_norm": (None, False),
    "use_sliding_window": (None, False),
}


class Fields:
    """Typed access to the keys of a configuration.

    Args:
        config: the object of ``config.json``.
        architecture: its ``model_type``, for messages.
        path: where in ``config.json`` the object stands, for messages: empty, or ``rope_scaling.``.

    Raises:
        UnsupportedModelError: a key asks for something that no architecture here computes.
    """

    def __init__(self, config: Mapping[str, Any], architecture: str, path: str = "") -> None:
        self._config = config
        self._path = path
        self._architecture = architecture
        for key, neutral in _NEUTRAL.items():
            if config.get(key) not in neutral:
                raise self.unsupported(key, f"only {' or '.join(map(repr, neutral))}")
        layer_types = self._get("layer_types", [])
        if not isinstance(layer_types, list):
            raise self.corrupt("layer_types", "a list", layer_types)
        if any(kind != "full_attention" for kind in layer_types):
            raise self.unsupported("layer_types", "only 'full_attention'")

    def unsupported(self, key: str, known: str) -> UnsupportedModelError:
        """The error to raise for a value that is sound but not implemented."""
        return UnsupportedModelError(
            f"config.json: {self._path}{key}={self._config.get(key)!r:.80} is not implemented "
            f"for {self._architecture}: {known}"
        )

    def size(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 1; without a default the key must be there."""
        value = self._get(key, default)
        if type(value) is not int or value < 1:  # bool is an int: not here
            raise self.corrupt(key, "a whole number of at least 1", value)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number above 0; without a default the key must be there."""
        value = self._get(key, default)
        if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
            raise self.corrupt(key, "a number above 0", value)
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or False."""
        value = self._get(key, default)
        if type(value) is not bool:
            raise self.corrupt(key, "true or false", value)
        return value

    def choice(self, key: str, default: str, known: Mapping[str, Any]) -> str:
        """One of the names in ``known``."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.corrupt(key, "a string", value)
        if value not in known:
            raise self.unsupported(key, f"there are {', '.join(known)}")
        return value

    def section(self, key: str) -> Fields | None:
        """The fields of an object within; None where it is absent or empty."""
        value = self._get(key, {})
        if not isinstance(value, dict):
            raise self.corrupt(key, "an object", value)
        return Fields(value, self._architecture, f"{self._path}{key}.") if value else None

    def __contains__(self, key: str) -> bool:
        return self._config.get(key) is not None

    def _get(self, key: str, default: Any) -> Any:
        value = self._config.get(key)
        return default if value is None else value  # Hugging Face writes null for "the default"

    def corrupt(self, key: str, rule: str, value: Any) -> CorruptFileError:
        """The error to raise for a value that no such model can have."""
        found = "it is missing" if value is None else f"got {value!r:.80}"
        return CorruptFileError(f"config.json: {self._path}{key} must be {rule}, {found}")
