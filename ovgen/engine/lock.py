"""A lock for what the garbage collector may want to free, at any moment and in any thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["Lock"]

_Item = TypeVar("_Item")


class Lock(Generic[_Item]):
    """A reentrant lock, and what was left meanwhile, to be freed by whoever holds it.

    Args:
        free: called with the lock held, and never in the middle of what somebody else does with it.
    """

    def __init__(self, free: Callable[[_Item], None]) -> None:
        self._free = free
        self._lock = threading.RLock()
        self._depth = 0  # how often its holder has taken it
        self._left: deque[_Item] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._depth == 1:
                self._reap()
        finally:
            self._depth -= 1
            self._lock.release()

    def leave(self, item: _Item) -> None:
        """Have an item freed: now if the lock is free, else when it is next given back.

        Made for finalisers: it neither waits for another thread nor interferes with what this one is doing.
        """
        self._left.append(item)
        if self._lock.acquire(blocking=False):
            try:
                if not self._depth:
                    with self:
                        pass  # leaving it frees what is left
            finally:
                self._lock.release()

    def _reap(self) -> None:
        while self._left:
            self._free(self._left.popleft())
