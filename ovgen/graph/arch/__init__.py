"""Model families: which there are, and one file each.

Families that descend from Llama are one decoder (``decoder.py``) with options (``options.py``); their files say how
``config.json`` sets them. The others build their own graph.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import openvino as ov

from ovgen.graph.arch import gpt2, gpt_neo, gpt_neox
from ovgen.graph.arch.decoder import build_decoder
from ovgen.graph.arch.gemma import read_gemma2, read_gemma3
from ovgen.graph.arch.granite import read_granite
from ovgen.graph.arch.llama import read_llama
from ovgen.graph.arch.mistral import read_mistral
from ovgen.graph.arch.olmo2 import read_olmo2
from ovgen.graph.arch.options import DecoderOptions
from ovgen.graph.arch.phi3 import read_phi3
from ovgen.graph.arch.qwen import read_qwen2, read_qwen3
from ovgen.graph.arch.smollm3 import read_smollm3
from ovgen.graph.arch.stablelm import read_stablelm
from ovgen.graph.fields import Fields
from ovgen.weights import Checkpoint

__all__ = ["ARCHITECTURES", "DECODERS", "Builder", "read_decoder"]

Builder: TypeAlias = Callable[[Mapping[str, Any], Checkpoint], ov.Model]
"""From the object of ``config.json`` and the weights to the causal LM form."""

DECODERS: dict[str, Callable[[Fields], DecoderOptions]] = {
    "llama": read_llama,
    "mistral": read_mistral,
    "qwen2": read_qwen2,
    "qwen3": read_qwen3,
    "phi3": read_phi3,
    "smollm3": read_smollm3,
    "granite": read_granite,
    "olmo2": read_olmo2,
    "stablelm": read_stablelm,
    "gemma2": read_gemma2,
    "gemma3_text": read_gemma3,
}
"""Families of the shared decoder by ``model_type``."""


def read_decoder(config: Mapping[str, Any]) -> DecoderOptions:
    """The options of a model whose ``model_type`` is in ``DECODERS``.

    Raises:
        CorruptFileError: a key is missing or has a value that no such model can have.
        UnsupportedModelError: a key asks for something that is not implemented.
    """
    kind = config["model_type"]
    with Fields(config, kind) as fields:
        return DECODERS[kind](fields)


def _decoder(config: Mapping[str, Any], checkpoint: Checkpoint) -> ov.Model:
    return build_decoder(read_decoder(config), checkpoint)


ARCHITECTURES: dict[str, Builder] = {
    **dict.fromkeys(DECODERS, _decoder),
    "gpt2": gpt2.build,
    "gpt_neo": gpt_neo.build,
    "gpt_neox": gpt_neox.build,
}
"""What can be built, by the ``model_type`` of ``config.json``."""
