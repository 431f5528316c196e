"""Reading a ``config.json`` without trusting it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ovgen.errors import CorruptFileError, UnsupportedModelError
from ovgen.weights.json_file import Config

__all__ = ["MOST", "Fields"]

MOST = 1 << 16
"""Of layers, or of elements of a head: lists are made of that length before a weight is looked at."""

# Keys that change the mathematics of a model wherever they occur, and the values with which they change nothing; a
# list changes nothing if none of its elements does. An architecture that reads a key computes what it asks for; any
# other must find it neutral. What is neither here nor read (dropout, initialisers, token ids, …) is ignored.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    # attention
    "alibi": (None, False),
    "attention_bias": (None, False),
    "attention_chunk_size": (None,),
    "attention_multiplier": (None, 1.0),
    "attn_logit_softcapping": (None,),
    "clip_qkv": (None,),
    "head_dim": (None,),
    "layer_types": (None, "full_attention"),
    "pruned_heads": (None, {}),
    "qk_layernorm": (None, False),
    "query_pre_attn_scalar": (None,),
    "sliding_window": (None,),
    "use_bidirectional_attention": (None, False),
    "use_qk_norm": (None, False),
    "use_qkv_bias": (None, False),
    "use_sliding_window": (None, False),
    # positions, in config.json itself or in its rope_scaling or rope_parameters
    "attention_factor": (None,),
    "beta_fast": (None,),
    "beta_slow": (None,),
    "full_attention": (None,),
    "llama_4_scaling_beta": (None,),
    "long_factor": (None,),
    "long_mscale": (None,),
    "mrope_section": (None,),
    "mscale": (None,),
    "mscale_all_dim": (None,),
    "no_rope_layers": (None, 1),
    "partial_rotary_factor": (None, 1.0),
    "rope_interleave": (None, False),
    "rope_local_base_freq": (None,),
    "rotary_pct": (None, 1.0),
    "short_factor": (None,),
    "short_mscale": (None,),
    "sliding_attention": (None,),
    "truncate": (None,),
    "use_mrope": (None, False),
    # layers
    "add_cross_attention": (None, False),
    "mlp_bias": (None, False),
    "n_routed_experts": (None, 0),
    "num_experts": (None, 0),
    "num_local_experts": (None, 0),
    "parallel_attn": (None, False),
    "residual_multiplier": (None, 1.0),
    "scale_depth": (None,),
    "use_parallel_residual": (None, False),
    # embedding, head and weights
    "embedding_multiplier": (None, 1.0),
    "final_logit_softcapping": (None,),
    "lm_head_bias": (None, False),
    "logit_scale": (None, 1.0),
    "logits_scaling": (None, 1.0),
    "quantization_config": (None,),
    "scale_emb": (None, 1.0),
}


class Fields:
    """Typed access to the keys of a configuration, within a ``with`` block.

    When the block is left, every key that changes the mathematics and that was not read must have a value that
    changes nothing::

        with Fields(config, "llama") as fields:
            hidden = fields.size("hidden_size")

    Args:
        config: the object of ``config.json``.
        architecture: its ``model_type``, for messages.
        path: where in ``config.json`` the object stands, for messages: empty, or ``rope_scaling.``.
        source: what messages call ``config.json``, where ``config`` does not say.

    Raises:
        UnsupportedModelError: on leaving the block: a key asks for something that the architecture does not compute.
    """

    def __init__(
        self, config: Mapping[str, Any], architecture: str, path: str = "", source: str = "config.json"
    ) -> None:
        self._config = config
        self._source = config.source if isinstance(config, Config) else source
        self._path = path
        self._architecture = architecture
        self._read: set[str] = set()
        self._sections: dict[str, Fields] = {}

    def __enter__(self) -> Fields:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._check_rest()

    def _check_rest(self) -> None:
        for key, neutral in _NEUTRAL.items():
            value = self._config.get(key)
            each = value if isinstance(value, list) else [value]
            if key not in self._read and not all(item in neutral for item in each):
                raise self.unsupported(key, f"only {' or '.join(map(repr, neutral))}")
        for section in self._sections.values():
            section._check_rest()

    def unsupported(self, key: str, known: str) -> UnsupportedModelError:
        """The error to raise for a value that is sound but not implemented."""
        return UnsupportedModelError(
            f"{self._source}: {self._path}{key}={self._config.get(key)!r:.80} is not implemented "
            f"for {self._architecture}: {known}"
        )

    def size(self, key: str, default: int | None = None, *, least: int = 1, most: int = 2**31 - 1) -> int:
        """A whole number from ``least`` to ``most``; without a default the key must be there."""
        value = self._get(key, default)
        if type(value) is not int or not least <= value <= most:  # bool is an int: not here
            raise self.corrupt(key, f"a whole number from {least} to {most}", value)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number above 0 that float32 can hold; without a default the key must be there."""
        value = self._get(key, default)
        if not _is_positive(value):
            raise self.corrupt(key, "a number above 0", value)
        return float(value)

    def numbers(self, key: str, count: int) -> list[float]:
        """A list of ``count`` numbers above 0 that float32 can hold."""
        values = self._get(key, None)
        if not isinstance(values, list) or len(values) != count or not all(map(_is_positive, values)):
            raise self.corrupt(key, f"a list of {count} numbers above 0", values)
        return [float(value) for value in values]

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

    def per_layer(self, key: str, default: list[Any], known: Collection[Any]) -> list[Any]:
        """One of the values in ``known`` for each layer; ``default`` says how many there are."""
        values = self._get(key, default)
        if not isinstance(values, list) or len(values) < len(default):
            raise self.corrupt(key, f"a list with {len(default)} elements", values)
        for value in values:
            if value not in list(known):  # a list, since what cannot be hashed is to be told of, too
                raise self.unsupported(key, f"there are {', '.join(map(repr, known))}")
        return values[: len(default)]

    def section(self, *keys: str) -> Fields:
        """The fields of the first object among ``keys`` that is there and not empty; else of an empty one."""
        for key in keys:
            value = self._get(key, {})
            if not isinstance(value, dict):
                raise self.corrupt(key, "an object", value)
            if value:
                return self._sections.setdefault(key, self._inner(value, key))
        return self._inner({}, keys[-1])

    def _inner(self, value: Mapping[str, Any], key: str) -> Fields:
        return Fields(value, self._architecture, f"{self._path}{key}.", self._source)

    def is_null(self, key: str) -> bool:
        """Whether the key is there with the value null, where that means "none" and not "the default"."""
        self._read.add(key)
        return key in self._config and self._config[key] is None

    def __contains__(self, key: str) -> bool:
        return self._config.get(key) is not None

    def _get(self, key: str, default: Any) -> Any:
        self._read.add(key)
        value = self._config.get(key)
        return default if value is None else value  # Hugging Face mostly writes null for "the default"

    def corrupt(self, key: str, rule: str, value: Any) -> CorruptFileError:
        """The error to raise for a value that no such model can have."""
        found = "it is missing" if value is None else f"got {value!r:.80}"
        return CorruptFileError(f"{self._source}: {self._path}{key} must be {rule}, {found}")


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 1e-37 < value < 1e38
