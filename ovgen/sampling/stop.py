"""Stop strings in a stream of text."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

__all__ = ["StopStrings"]


class StopStrings:
    """Holds back text that may be the beginning of a stop string.

    The stop string that is complete first ends the text; of several that end with the same character, the
    longest. How the text is cut into pieces makes no difference. The time taken is linear in the text fed,
    and not a character is held back that no stop string begins with.

    This is the automaton of Aho and Corasick: the state is the longest end of the text so far that a stop
    string begins with, which is also the text held back.

    Args:
        stops: the stop strings, none empty.
        include: whether the stop string itself belongs to the text.
    """

    def __init__(self, stops: Sequence[str], include: bool) -> None:
        self._include = include
        self._active = bool(stops)
        # One entry per node; node 0 is the empty beginning.
        self._next: list[dict[str, int]] = [{}]
        self._beginning: list[tuple[str, int]] = [("", 0)]  # a stop string, and how much of it
        self._match = [0]  # length of the longest stop string that ends here
        self._fallback = [0]  # node of the longest proper end that is a beginning too
        for stop in stops:
            self._insert(stop)
        self._link()
        self._node = 0
        self._hit = False

    def feed(self, text: str) -> tuple[str, bool]:
        """Take more text.

        Returns:
            The text that may be shown now, and whether a stop string was hit, after which all text is
            dropped.
        """
        if not self._active:
            return text, False
        if self._hit:
            return "", True
        held = self._beginning[self._node]
        for position, character in enumerate(text, 1):
            self._node = node = self._step(self._node, character)
            if self._match[node]:
                self._hit = True
                cut = 0 if self._include else self._match[node]
                self._node = 0
                return _head(held, text, held[1] + position - cut), True
        return _head(held, text, held[1] + len(text) - self._beginning[self._node][1]), False

    def flush(self) -> str:
        """The text ends here: give out what was held back."""
        stop, length = self._beginning[self._node]
        self._node = 0
        return stop[:length]

    def _step(self, node: int, character: str) -> int:
        while node and character not in self._next[node]:
            node = self._fallback[node]
        return self._next[node].get(character, 0)

    def _insert(self, stop: str) -> None:
        node = 0
        for depth, character in enumerate(stop, 1):
            if character not in self._next[node]:
                self._next[node][character] = len(self._next)
                self._next.append({})
                self._beginning.append((stop, depth))
                self._match.append(0)
                self._fallback.append(0)
            node = self._next[node][character]
        self._match[node] = len(stop)

    def _link(self) -> None:
        """Set the fallbacks, shallow nodes first, and let each node know the stop strings that end in it."""
        queue = deque(self._next[0].values())
        while queue:
            node = queue.popleft()
            for character, child in self._next[node].items():
                self._fallback[child] = self._step(self._fallback[node], character)
                self._match[child] = self._match[child] or self._match[self._fallback[child]]
                queue.append(child)


def _head(held: tuple[str, int], text: str, length: int) -> str:
    """The first ``length`` characters of what was held and ``text``; takes no longer than they are many."""
    stop, size = held
    return stop[: min(size, length)] + text[: max(length - size, 0)]
