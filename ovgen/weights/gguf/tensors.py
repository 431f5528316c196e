"""From a GGUF file's tensors to those of Hugging Face's checkpoint of the same model.

llama.cpp's converter changes more than names, and that is undone here:

* llama: rows of queries and keys stand in the order of Meta's own checkpoints, element 2 i of a head beside 2 i + 1,
  which turn together; Hugging Face has element i beside i + dim / 2. Every file of architecture llama is so: what a
  converter took from Meta's files it did not permute (``tensor_data_layout`` says "Meta AI original pth"), and what it
  took from Hugging Face's it permuted back.
* gpt2: matrices are (outputs, inputs); Hugging Face's Conv1D has (inputs, outputs).
* gemma2, gemma3: a norm's weight has 1 added to it; Hugging Face's model adds it itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ovgen.errors import CorruptFileError, UnsupportedModelError
from ovgen.weights.checkpoint import Checkpoint, Deferred
from ovgen.weights.compressed import Compressed
from ovgen.weights.gguf.blocks import loaded_size
from ovgen.weights.gguf.config import gguf_config
from ovgen.weights.gguf.file import GGUF
from ovgen.weights.weight import Weight

__all__ = ["gguf_checkpoint"]

_Tensor: TypeAlias = Weight | Compressed
_Change: TypeAlias = Callable[[_Tensor, Mapping[str, Any]], _Tensor]

_NAME = re.compile(r"(blk\.(?P<layer>\d{1,6})\.)?(?P<module>\w+)\.(?P<parameter>weight|bias)")
_NOT_WEIGHTS = frozenset({"rope_freqs", "rope_factors_long", "rope_factors_short"})  # read into the configuration


def gguf_checkpoint(gguf: GGUF) -> Checkpoint:
    """The tensors by Hugging Face's names: none is touched before it is asked for.

    A tensor that the model does not use is an error, as it is in llama.cpp: in a Hugging Face folder ``config.json``
    says what there is, but here the tensors themselves do.

    Raises:
        UnsupportedModelError: the architecture is not known, or there is a tensor that it does not have.
        CorruptFileError: the metadata are not sound, or, when a tensor is asked for, it does not fit them.
    """
    config = gguf_config(gguf)
    layout = _LAYOUTS[gguf.metadata["general.architecture"]]
    tensors: dict[str, _Tensor | Deferred] = {}
    for name in gguf.tensors:
        if name.split(".")[0] in _NOT_WEIGHTS:
            continue
        own = layout.own(name)
        if own is None:
            raise UnsupportedModelError(
                f"{gguf.path}: the tensor {name!r:.80} is not known in the architecture {config['model_type']}"
            )
        tensors[own] = _tensor(gguf, config, name, layout.change(name))
    return Checkpoint(str(gguf.path), tensors, config="its metadata", strict=True)


def _tensor(gguf: GGUF, config: Mapping[str, Any], name: str, change: _Change | None) -> _Tensor | Deferred:
    """What needs no work is a view of the file; all else is made when it is asked for."""
    turned = change is _transposed
    if gguf.tensors[name].kind.unpack is None and (change is None or turned):
        return _made(gguf, config, name, change)
    entry = gguf.tensors[name]
    shape = entry.shape[::-1] if turned else entry.shape
    return Deferred(shape, loaded_size(entry.kind, entry.shape), partial(_made, gguf, config, name, change))


def _made(gguf: GGUF, config: Mapping[str, Any], name: str, change: _Change | None) -> _Tensor:
    tensor = gguf.load(name)
    try:
        return tensor if change is None else change(tensor, config)
    except ValueError:  # numpy, of an array that cannot be cut into heads
        raise CorruptFileError(
            f"{gguf.path}: the tensor {name!r:.80} of shape {tensor.shape} does not fit the metadata"
        ) from None


@dataclass(frozen=True, slots=True)
class _Layout:
    """How an architecture's tensors are called, and how they differ.

    Attributes:
        outside: ggml's name of a module that is in no layer -> Hugging Face's.
        layers: where Hugging Face has the layers.
        inside: ggml's name of a module in a layer -> Hugging Face's.
        changes: ggml's name of a module and its parameter, ``attn_q.weight`` -> what makes Hugging Face's of it.
    """

    outside: Mapping[str, str]
    layers: str
    inside: Mapping[str, str]
    changes: Mapping[str, _Change] = field(default_factory=dict)

    def own(self, name: str) -> str | None:
        """Hugging Face's name of a tensor; None where it is not known."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        names = self.outside if found["layer"] is None else self.inside
        module = names.get(found["module"])
        if module is None:
            return None
        place = "" if found["layer"] is None else f"{self.layers}.{int(found['layer'])}."
        return f"{place}{module}.{found['parameter']}"

    def change(self, name: str) -> _Change | None:
        """What makes Hugging Face's of a tensor; None where it is the same."""
        return self.changes.get(re.sub(r"^blk\.\d+\.", "", name))


def _heads_apart(heads_key: str) -> _Change:
    """Rows from Meta's order to Hugging Face's: see above."""

    def change(tensor: _Tensor, config: Mapping[str, Any]) -> _Tensor:
        rows = np.arange(tensor.shape[0]).reshape(config[heads_key], -1, 2)  # (heads, dim / 2, 2)
        return _rows(tensor, rows.swapaxes(1, 2).ravel())

    return change


def _rows(tensor: _Tensor, order: NDArray[np.int64]) -> _Tensor:
    if isinstance(tensor, Weight):
        return Weight(tensor.array[order], tensor.dtype)
    zero = None if tensor.zero_point is None else tensor.zero_point[order]
    return replace(tensor, codes=tensor.codes[order], scale=tensor.scale[order], zero_point=zero)


def _less_one(tensor: _Tensor, config: Mapping[str, Any]) -> _Tensor:
    return Weight(tensor.to_f32() - np.float32(1), "F32")


def _transposed(tensor: _Tensor, config: Mapping[str, Any]) -> _Tensor:
    """A view, of which the graph's builder makes what lies in the file again by transposing it once more."""
    return replace(tensor, array=tensor.array.T) if isinstance(tensor, Weight) else tensor.transposed()


_OUTSIDE_LLAMA = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_INSIDE_LLAMA = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_INSIDE_PHI3 = {
    "attn_norm": "input_layernorm",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.gate_up_proj",
    "ffn_down": "mlp.down_proj",
}
_INSIDE_GEMMA2 = {
    **_INSIDE_LLAMA,
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_OUTSIDE_GPT2 = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}
_INSIDE_GPT2 = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
_TURNED = {
    f"{module}.{parameter}": _heads_apart(heads)
    for module, heads in {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}.items()
    for parameter in ("weight", "bias")
}
_CONV1D = {f"{module}.weight": _transposed for module in ("attn_qkv", "attn_output", "ffn_up", "ffn_down")}
_GAINS = {
    f"{module}.weight": _less_one
    for module in ("output_norm", *(name for name in (*_INSIDE_GEMMA2, *_QK_NORMS) if name.endswith("norm")))
}
_LAYOUTS = {
    "llama": _Layout(_OUTSIDE_LLAMA, "model.layers", _INSIDE_LLAMA, _TURNED),
    "qwen2": _Layout(_OUTSIDE_LLAMA, "model.layers", _INSIDE_LLAMA),
    "qwen3": _Layout(_OUTSIDE_LLAMA, "model.layers", {**_INSIDE_LLAMA, **_QK_NORMS}),
    "gpt2": _Layout(_OUTSIDE_GPT2, "transformer.h", _INSIDE_GPT2, _CONV1D),
    "phi3": _Layout(_OUTSIDE_LLAMA, "model.layers", _INSIDE_PHI3),
    "gemma2": _Layout(_OUTSIDE_LLAMA, "model.layers", _INSIDE_GEMMA2, _GAINS),
    "gemma3": _Layout(_OUTSIDE_LLAMA, "model.layers", {**_INSIDE_GEMMA2, **_QK_NORMS}, _GAINS),
}
