"""Where the files lie that come with ovgen."""

from pathlib import Path

from ovgen.errors import ModelNotFoundError

__all__ = ["BUNDLED_MODELS", "bundled_model"]

BUNDLED_MODELS = ("storyteller", "storyteller-draft")
"""Names of the models that come with ovgen."""

_PACKAGE = Path(__file__).parent
# An installed wheel carries the folder inside the package; a checkout (also installed editable) beside it.
_MODELS = (_PACKAGE / "_models", _PACKAGE.parent / "models")


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
