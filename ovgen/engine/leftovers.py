"""What nobody will go on with: freed under a lock, though the garbage collector finds it at any moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Leftovers"]

_Item = TypeVar("_Item")


class Leftovers(Generic[_Item]):
    """Items to be freed by whoever holds a lock and is in the middle of nothing.

    The lock itself is taken by ``with``, in C: were that wrapped in Python, Ctrl-C could come in between and leave it
    held for ever.

    Args:
        lock: a ``threading.RLock``.
        free: frees an item, with the lock held.
    """

    def __init__(self, lock: Any, free: Callable[[_Item], None]) -> None:
        self._lock = lock
        self._free = free
        self._left: deque[_Item] = deque()

    def leave(self, item: _Item) -> None:
        """Have an item freed: now if nobody holds the lock, else by the next `free`.

        Made for finalisers: it neither waits for another thread nor interferes with what this one is doing.
        """
        self._left.append(item)
        if self._lock._is_owned():  # by this thread: it is in the middle of something
            return
        try:
            if self._lock.acquire(blocking=False):
                self.free()
        finally:
            try:  # noqa: SIM105 -- an interrupt may come after any call, such as `suppress`, and before the release
                self._lock.release()
            except RuntimeError:  # it was not acquired; the lock knows, even if an interrupt came right after it was
                pass

    def free(self) -> None:
        """Free what is left. The caller holds the lock, where an operation begins or has ended."""
        while self._left:
            self._free(self._left.popleft())
