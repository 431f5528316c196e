"""Text generation straight on OpenVINO Runtime.

>>> import ovgen
>>> llm = ovgen.LLM(ovgen.bundled_model())
>>> print(llm.generate("Once upon a time", max_new_tokens=50).text)  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from ovgen.config import EngineConfig, LogitsProcessor, SamplingParams, StructuredOutputs
from ovgen.errors import (
    CacheFileError,
    CacheFullError,
    ConfigError,
    ContextLengthError,
    CorruptFileError,
    DeviceError,
    GenerationError,
    KernelError,
    MissingTensorError,
    ModelError,
    ModelNotFoundError,
    OvgenError,
    RequestError,
    TokenizerError,
    UnsupportedModelError,
)
from ovgen.metrics import EngineMetrics, RequestMetrics, StepMetrics
from ovgen.outputs import GenerationOutput, Piece, TokenLogprobs
from ovgen.resources import bundled_model

if TYPE_CHECKING:
    from ovgen.async_engine import AsyncEngine
    from ovgen.configuration import ModelSpec
    from ovgen.conversion import convert
    from ovgen.engine.session import Session
    from ovgen.llm import LLM
    from ovgen.manager import ModelManager, ModelStatus
    from ovgen.weights import Compression

__all__ = [
    "LLM",
    "AsyncEngine",
    "CacheFileError",
    "CacheFullError",
    "Compression",
    "ConfigError",
    "ContextLengthError",
    "CorruptFileError",
    "DeviceError",
    "EngineConfig",
    "EngineMetrics",
    "GenerationError",
    "GenerationOutput",
    "KernelError",
    "LogitsProcessor",
    "MissingTensorError",
    "ModelError",
    "ModelManager",
    "ModelNotFoundError",
    "ModelSpec",
    "ModelStatus",
    "OvgenError",
    "Piece",
    "RequestError",
    "RequestMetrics",
    "SamplingParams",
    "Session",
    "StepMetrics",
    "StructuredOutputs",
    "TokenLogprobs",
    "TokenizerError",
    "UnsupportedModelError",
    "bundled_model",
    "convert",
]

# These bring OpenVINO with them, which takes a third of a second: imported when first asked for (PEP 562).
_LAZY = {
    "AsyncEngine": "ovgen.async_engine",
    "Compression": "ovgen.weights",
    "LLM": "ovgen.llm",
    "ModelManager": "ovgen.manager",
    "ModelSpec": "ovgen.configuration",
    "ModelStatus": "ovgen.manager",
    "Session": "ovgen.engine.session",
    "convert": "ovgen.conversion",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
