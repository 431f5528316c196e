"""From a GGUF file's metadata to the ``config.json`` that Hugging Face has for the same model.

Keys and defaults are those with which llama.cpp loads each architecture. A key of the architecture that is not read
here is an error: it may change what the model computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ovgen.errors import CorruptFileError, MissingTensorError, UnsupportedModelError
from ovgen.weights.gguf.file import GGUF
from ovgen.weights.json_file import Config

__all__ = ["gguf_config"]

_MOST_LAYERS = 1 << 16  # lists are made of that length before a tensor is looked at

# Keys that change the mathematics, and the values with which they do not.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.scale": (0,),
    "attention.sliding_window": (0,),
    "attn_logit_softcapping": (0,),
    "embedding_scale": (0, 1),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "final_logit_softcapping": (0,),
    "logit_scale": (0, 1),
    "nextn_predict_layers": (0,),
    "residual_scale": (0, 1),
    "rope.scaling.attn_factor": (0, 1),
    "rope.scaling.yarn_log_multiplier": (0,),
    "tensor_data_layout": ("reference", "Meta AI original pth"),  # both are what converters write: see tensors.py
    "use_parallel_residual": (False,),
}
# The rows of the embedding say how large the vocabulary is; the others concern images and the model's history.
_HARMLESS = frozenset({"vocab_size", "mm.tokens_per_image", "rope.scaling.finetuned"})


def gguf_config(gguf: GGUF) -> Config:
    """The object of ``config.json``.

    Raises:
        UnsupportedModelError: the architecture, or something that the metadata ask for, is not known.
        CorruptFileError: a key is missing or has a value that cannot be.
        MissingTensorError: there is no embedding.
    """
    architecture = gguf.metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in _CONFIGS:
        raise UnsupportedModelError(
            f"{gguf.path}: general.architecture={architecture!r:.80} is not implemented; "
            f"there are: {', '.join(_CONFIGS)}"
        )
    keys = _Keys(gguf, architecture)
    config = _CONFIGS[architecture](keys)
    keys.check_rest()
    for name in ("bos_token_id", "eos_token_id"):
        token = gguf.metadata.get(f"tokenizer.ggml.{name}")
        if type(token) is int:  # what else it may be, the tokenizer refuses
            config[name] = token
    return Config(config, f"{gguf.path}, metadata by the names of config.json")


class _Keys:
    """Typed access to the keys of an architecture, which remembers what has been read."""

    def __init__(self, gguf: GGUF, architecture: str) -> None:
        self.gguf = gguf
        self._prefix = f"{architecture}."
        self._read: set[str] = set()

    def size(self, key: str, default: int | None = None, *, most: int = 1 << 31) -> int:
        """A whole number of at least 1, perhaps repeated for each layer."""
        value = self._one(key, default)
        if type(value) is not int or not 1 <= value <= most:
            raise self.corrupt(key, f"a whole number from 1 to {most}", value)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number of at least 0."""
        value = self._one(key, default)
        if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
            raise self.corrupt(key, "a number of at least 0", value)
        return float(value)

    def choice(self, key: str, default: str, known: tuple[str, ...]) -> str:
        """One of the names in ``known``."""
        value = self._one(key, default)
        if value not in known:
            raise self.unsupported(key, f"there are {', '.join(known)}")
        return str(value)

    def raw(self, key: str) -> Any:
        """Whatever the key has; None where it is absent."""
        self._read.add(key)
        return self.gguf.metadata.get(self._prefix + key)

    def factors(self, name: str) -> list[float]:
        """The numbers of a tensor."""
        if name not in self.gguf.tensors:
            raise MissingTensorError(f"{self.gguf.path} lacks the tensor {name!r}: convert the model anew")
        values: list[float] = self.gguf.load(name).to_f32().ravel().tolist()
        return values

    def biased(self, layers: int, *modules: str) -> bool:
        """Whether the modules have a bias: all of them, in every layer, or none."""
        names = (f"blk.{layer}.{module}.bias" for layer in range(layers) for module in modules)
        lacking = next((name for name in names if name not in self.gguf.tensors), None)
        ends = tuple(f".{module}.bias" for module in modules)
        if lacking and any(name.endswith(ends) for name in self.gguf.tensors):
            raise UnsupportedModelError(
                f"{self.gguf.path}: only some of {', '.join(modules)} have a bias: there is no {lacking}"
            )
        return not lacking

    def unsupported(self, key: str, known: str) -> UnsupportedModelError:
        """The error to raise for a value that is sound but not implemented."""
        value = self.gguf.metadata.get(self._prefix + key)
        return UnsupportedModelError(f"{self.gguf.path}: {self._prefix}{key}={value!r:.80} is not implemented: {known}")

    def check_rest(self) -> None:
        """Every key that has not been read must be known to change nothing."""
        for name in self.gguf.metadata:
            key = name.removeprefix(self._prefix)
            if key == name or key in self._read or key in _HARMLESS:
                continue
            if self._one(key, None) not in _NEUTRAL.get(key, ()):
                raise self.unsupported(key, "it may change what the model computes")

    def corrupt(self, key: str, rule: str, value: Any) -> CorruptFileError:
        """The error to raise for a value that no such model can have."""
        found = "it is missing" if value is None else f"got {value!r:.80}"
        return CorruptFileError(f"{self.gguf.path}: {self._prefix}{key} must be {rule}, {found}")

    def _one(self, key: str, default: Any) -> Any:
        value = self.raw(key)
        if isinstance(value, np.ndarray):  # one for each layer
            if not value.size or (value != value[0]).any():
                raise self.unsupported(key, "all layers must be alike")
            return value[0].item()
        return default if value is None else value


def _gpt2(keys: _Keys) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": _vocab_size(keys),
        "n_positions": keys.size("context_length"),
        "n_embd": keys.size("embedding_length"),
        "n_layer": keys.size("block_count", most=_MOST_LAYERS),
        "n_head": keys.size("attention.head_count"),
        "n_inner": keys.size("feed_forward_length"),
        "activation_function": "gelu_new",
        "layer_norm_epsilon": keys.number("attention.layer_norm_epsilon"),
        "tie_word_embeddings": "output.weight" not in keys.gguf.tensors,
    }


def _decoder(keys: _Keys, model_type: str, class_name: str) -> dict[str, Any]:
    """What all decoders with rotary positions have."""
    hidden, heads = keys.size("embedding_length"), keys.size("attention.head_count")
    head_dim = keys.size("attention.key_length", hidden // heads or 1)
    if keys.size("attention.value_length", head_dim) != head_dim:
        raise keys.unsupported("attention.value_length", f"only the key_length {head_dim}")
    config = {
        "architectures": [class_name],
        "model_type": model_type,
        "vocab_size": _vocab_size(keys),
        "hidden_size": hidden,
        "intermediate_size": keys.size("feed_forward_length"),
        "num_hidden_layers": keys.size("block_count", most=_MOST_LAYERS),
        "num_attention_heads": heads,
        "num_key_value_heads": keys.size("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": keys.size("context_length"),
        "rope_theta": keys.number("rope.freq_base", 10000.0),
        "rope_scaling": _rope_scaling(keys),
        "tie_word_embeddings": "output.weight" not in keys.gguf.tensors,
    }
    turning = keys.size("rope.dimension_count", head_dim)
    if turning != head_dim:
        config["partial_rotary_factor"] = (turning + 0.5) / head_dim  # of which the whole part counts
    return config


def _llama(keys: _Keys) -> dict[str, Any]:
    config = _decoder(keys, "llama", "LlamaForCausalLM")
    return {
        **config,
        "hidden_act": "silu",
        "attention_bias": keys.biased(config["num_hidden_layers"], "attn_q", "attn_k", "attn_v", "attn_output"),
        "mlp_bias": keys.biased(config["num_hidden_layers"], "ffn_gate", "ffn_up", "ffn_down"),
    }


def _qwen2(keys: _Keys) -> dict[str, Any]:
    return {**_decoder(keys, "qwen2", "Qwen2ForCausalLM"), "hidden_act": "silu"}


def _qwen3(keys: _Keys) -> dict[str, Any]:
    return {**_decoder(keys, "qwen3", "Qwen3ForCausalLM"), "hidden_act": "silu"}


def _phi3(keys: _Keys) -> dict[str, Any]:
    window = keys.number("attention.sliding_window", 0)
    config = {**_decoder(keys, "phi3", "Phi3ForCausalLM"), "hidden_act": "silu"}
    return {**config, "sliding_window": int(window) or None}


def _gemma2(keys: _Keys) -> dict[str, Any]:
    config = _gemma(keys, "gemma2", "Gemma2ForCausalLM", big=46)
    return {
        **config,
        "layer_types": _layer_types(keys, config["num_hidden_layers"], 2),
        "attn_logit_softcapping": keys.number("attn_logit_softcapping", 50.0) or None,
        "final_logit_softcapping": keys.number("final_logit_softcapping", 30.0) or None,
    }


def _gemma3(keys: _Keys) -> dict[str, Any]:
    config = _gemma(keys, "gemma3_text", "Gemma3ForCausalLM", big=62)
    return {
        **config,
        "layer_types": _layer_types(keys, config["num_hidden_layers"], 6),
        "rope_theta": keys.number("rope.freq_base", 1e6),
        "rope_local_base_freq": keys.number("rope.freq_base_swa", 1e4),
        "final_logit_softcapping": keys.number("final_logit_softcapping", 0) or None,
    }


def _gemma(keys: _Keys, model_type: str, class_name: str, *, big: int) -> dict[str, Any]:
    """``big`` is how many layers the size has whose attention scores are scaled by hidden / heads, not by head."""
    config = _decoder(keys, model_type, class_name)
    every = config["hidden_size"] / config["num_attention_heads"]
    scaled = every if config["num_hidden_layers"] == big else config["head_dim"]
    scale = keys.number("attention.scale", 0)
    if scale and not 1e-6 < scale < 1e6:
        raise keys.corrupt("attention.scale", "0, or between 1e-6 and 1e6", scale)
    return {
        **config,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": scale**-2 if scale else scaled,
        "sliding_window": keys.size("attention.sliding_window", 4096),
    }


_CONFIGS: dict[str, Callable[[_Keys], dict[str, Any]]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gpt2": _gpt2,
    "phi3": _phi3,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
}


def _vocab_size(keys: _Keys) -> int:
    """Rows of the embedding: more, at times, than there are tokens."""
    embedding = keys.gguf.tensors.get("token_embd.weight")
    if embedding is None:
        raise MissingTensorError(
            f"{keys.gguf.path} lacks the tensor 'token_embd.weight': it holds a vocabulary, or a part of a model"
        )
    return embedding.shape[0]


def _layer_types(keys: _Keys, layers: int, every: int) -> list[str]:
    """Which layers have a window: newer files say so for each; else the last of ``every`` layers has none."""
    key = "attention.sliding_window_pattern"
    sliding = keys.raw(key)
    if not isinstance(sliding, np.ndarray):
        every = keys.size(key, every)
        sliding = [number % every != 0 for number in range(1, layers + 1)]
    elif len(sliding) != layers:
        raise keys.corrupt(key, f"of {layers} layers", sliding)
    return ["sliding_attention" if each else "full_attention" for each in sliding]


def _rope_scaling(keys: _Keys) -> dict[str, Any] | None:
    tensors = keys.gguf.tensors.keys()
    old = keys.number("rope.scale_linear", 1.0)  # before rope.scaling
    kind = keys.choice("rope.scaling.type", "linear", ("none", "linear", "yarn", "longrope"))
    factor = keys.number("rope.scaling.factor", old) or 1.0
    context = keys.size("rope.scaling.original_context_length", keys.size("context_length"))
    names = ("rope_factors_short.weight", "rope_factors_long.weight")
    if kind == "longrope" or not tensors.isdisjoint(names):
        short, long = map(keys.factors, names)
    elif "rope_freqs.weight" in tensors:  # Llama 3.1's stretch, worked out by the converter
        short = long = keys.factors("rope_freqs.weight")
    elif kind == "yarn":
        return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": context}
    else:
        return {"rope_type": "linear", "factor": factor} if kind == "linear" and factor != 1.0 else None
    if factor != 1.0 and kind != "longrope":
        raise keys.unsupported("rope.scaling.factor", "only 1 beside factors for each frequency")
    return {
        "rope_type": "longrope",
        "short_factor": short,
        "long_factor": long,
        "attention_factor": keys.number("rope.scaling.attn_factor", 1.0),
        "original_max_position_embeddings": context,
    }
