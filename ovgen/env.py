"""Every environment variable that ovgen reads, in one place."""

import os
from pathlib import Path

from ovgen.config import nearest
from ovgen.errors import ConfigError

__all__ = ["OVERRIDES", "cxx", "home", "log_level", "overrides", "unknown"]

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

OVERRIDES = ("device", "cache_dir", "performance_hint", "num_streams", "weights", "form", "memory_budget")
"""Settings of a configuration file that a variable overrides: ``OVGEN_DEVICE``, ``OVGEN_CACHE_DIR``, ..."""


def log_level() -> str:
    """``OVGEN_LOG``: what the command line logs to stderr; DEBUG, INFO, WARNING (the default) or ERROR.

    Raises:
        ConfigError: it is set to anything else.
    """
    level = os.environ.get("OVGEN_LOG", "WARNING").upper()
    if level not in _LEVELS:
        raise ConfigError(f"OVGEN_LOG must be one of {', '.join(_LEVELS)}, got {level!r}")
    return level


def cxx() -> str | None:
    """``CXX``: the C++ compiler for the native kernels, with arguments if it takes some, as make and CMake know it."""
    return os.environ.get("CXX")


def home() -> Path:
    """``OVGEN_HOME``: where compressed copies of models and built kernels are kept; if not set, the user's cache."""
    chosen = os.environ.get("OVGEN_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path  # only needed here

    return user_cache_path("ovgen", appauthor=False)


def overrides() -> dict[str, tuple[str, str]]:
    """Those of `OVERRIDES` that are set: name -> (variable, its text). An empty variable is not set."""
    variables = {name: f"OVGEN_{name.upper()}" for name in OVERRIDES}
    return {name: (variable, os.environ[variable]) for name, variable in variables.items() if os.environ.get(variable)}


def unknown() -> list[str]:
    """A line for each variable whose name begins with ``OVGEN_`` and that is none of ours."""
    known = ["OVGEN_HOME", "OVGEN_LOG", *(f"OVGEN_{name.upper()}" for name in OVERRIDES)]
    strange = sorted(name for name in os.environ if name.startswith("OVGEN_") and name not in known)
    return [f"the environment variable {name} has no effect{nearest(name, known)}" for name in strange]
