"""What a text has to be, as the sampler sees it: which tokens may come next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ovgen.sampling.transforms import Logits

__all__ = ["Constraint"]


class Constraint(Protocol):
    """Follows one sequence token by token. What makes one is in ``ovgen.text``."""

    @property
    def complete(self) -> bool:
        """Whether nothing may come but the end: with the token last appended, the text is all that it has to be."""

    def prepare(self) -> None:
        """Find out which tokens may come next. Called while the device computes; `apply` does it if nobody has."""

    def apply(self, logits: Logits) -> None:
        """Set the logits ``(vocab,)`` float32 of all other tokens to minus infinity.

        Raises:
            GenerationError: there is no token that may come next; the message says why.
        """

    def append(self, token_id: int) -> None:
        """A token has been chosen. One that may not come makes the next `apply` fail."""

    def forced(self) -> Sequence[int]:
        """Tokens that must come next, if there is no choice; often none. They cost no guess as drafts."""

    def fork(self) -> Constraint:
        """One that goes on from here on its own."""
