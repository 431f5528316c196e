"""Every environment variable that ovgen reads, in one place."""

import os
from pathlib import Path

from ovgen.errors import ConfigError

__all__ = ["home", "log_level"]

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def log_level() -> str:
    """``OVGEN_LOG``: what the command line logs to stderr; DEBUG, INFO, WARNING (the default) or ERROR.

    Raises:
        ConfigError: it is set to anything else.
    """
    level = os.environ.get("OVGEN_LOG", "WARNING").upper()
    if level not in _LEVELS:
        raise ConfigError(f"OVGEN_LOG must be one of {', '.join(_LEVELS)}, got {level!r}")
    return level


def home() -> Path:
    """``OVGEN_HOME``: where models are kept that were compressed while loading; the user's cache folder if not set."""
    chosen = os.environ.get("OVGEN_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path  # only needed here

    return user_cache_path("ovgen", appauthor=False)
