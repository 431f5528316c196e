"""Every exception that ovgen raises on purpose; each message names the cause and the way out."""

__all__ = [
    "CacheFileError",
    "CacheFullError",
    "ConfigError",
    "ContextLengthError",
    "CorruptFileError",
    "DeviceError",
    "GenerationError",
    "KernelError",
    "MissingTensorError",
    "ModelError",
    "ModelNotFoundError",
    "OvgenError",
    "RequestError",
    "TokenizerError",
    "UnsupportedModelError",
]


class OvgenError(Exception):
    """The root: ``except ovgen.OvgenError`` catches everything below and nothing else."""


class ConfigError(OvgenError, ValueError):
    """An option or an environment variable has a value that cannot be used."""


class RequestError(OvgenError, ValueError):
    """A prompt, a token id or a conversation that cannot be processed."""


class ContextLengthError(RequestError):
    """The prompt, with the tokens asked for, does not fit the model's context or the KV cache."""


class ModelError(OvgenError):
    """A model cannot be loaded."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """There is no model at the path given."""


class CorruptFileError(ModelError):
    """A file of the model is damaged, truncated or not of its format."""


class MissingTensorError(ModelError):
    """The checkpoint lacks a tensor that its configuration calls for, or has it in another shape."""


class UnsupportedModelError(ModelError):
    """The model is sound, but asks for something that ovgen does not implement."""


class TokenizerError(ModelError):
    """The model has no usable tokenizer, or no chat template where one is needed."""


class DeviceError(OvgenError):
    """A device is absent, refuses the model, or fails while it runs."""


class KernelError(DeviceError):
    """The native CPU kernels cannot be built, loaded or used."""


class GenerationError(OvgenError):
    """The model produced logits that cannot be sampled from (NaN, or nothing left to choose)."""


class CacheFullError(OvgenError):
    """The KV cache has reached its limit and everything in it is in use."""


class CacheFileError(OvgenError):
    """A saved KV cache is damaged, or belongs to another model or precision."""
