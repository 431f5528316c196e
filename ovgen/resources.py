"""Where the files lie that come with ovgen."""

from pathlib import Path

from ovgen.errors import KernelError, ModelNotFoundError

__all__ = ["BUNDLED_MODELS", "bundled_model", "kernel_sources"]

BUNDLED_MODELS = ("storyteller", "storyteller-draft")
"""Names of the models that come with ovgen."""

_PACKAGE = Path(__file__).parent
# An installed wheel carries these folders inside the package; a checkout (also installed editable) beside it.
_MODELS = (_PACKAGE / "_models", _PACKAGE.parent / "models")
_KERNELS = (_PACKAGE / "_kernels", _PACKAGE.parent / "kernels")


def bundled_model(name: str = "storyteller") -> Path:
    """The folder of a model that comes with ovgen.

    Raises:
        ModelNotFoundError: no model of that name is bundled, or its files are missing.
    """
    if name not in BUNDLED_MODELS:
        raise ModelNotFoundError(f"no bundled model {name!r}; there are: {', '.join(BUNDLED_MODELS)}")
    for models in _MODELS:
        if (models / name).is_dir():
            return models / name
    raise ModelNotFoundError(f"the bundled model {name!r} is not at {_MODELS[0] / name}: reinstall ovgen")


def kernel_sources() -> Path:
    """The folder with the C++ sources of the CPU kernels.

    Raises:
        KernelError: it is missing.
    """
    for kernels in _KERNELS:
        if (kernels / "cpu").is_dir():
            return kernels / "cpu"
    raise KernelError(f"the sources of the native kernels are not at {_KERNELS[0] / 'cpu'}: reinstall ovgen")
