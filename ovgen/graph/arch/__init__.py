"""One file per model family."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import openvino as ov

from ovgen.graph.arch import gpt2, llama
from ovgen.weights import Checkpoint

__all__ = ["ARCHITECTURES", "Builder"]

Builder: TypeAlias = Callable[[Mapping[str, Any], Checkpoint], ov.Model]
"""From the object of ``config.json`` and the weights to the causal LM form."""

ARCHITECTURES: dict[str, Builder] = {"llama": llama.build, "gpt2": gpt2.build}
"""What can be built, by the ``model_type`` of ``config.json``."""
