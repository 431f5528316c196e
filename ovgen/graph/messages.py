"""What OpenVINO says when it raises, without where in its source that was."""

from __future__ import annotations

__all__ = ["cause"]


def cause(error: BaseException) -> str:
    """The lines of an OpenVINO exception that tell a person something, three at most, in one.

    Its messages begin with a place in its source and the check that failed there; what follows is the cause.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return " ".join((told or lines)[:3]) or type(error).__name__
