"""Every environment variable that ovgen reads, in one place."""

import os

from ovgen.errors import ConfigError

__all__ = ["log_level"]

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
