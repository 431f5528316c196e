from __future__ import annotations

import signal
import threading
from types import FrameType

import pytest

from ovgen.engine.leftovers import Leftovers


def test_what_is_left_is_freed_at_once_if_the_lock_is_free() -> None:
    freed: list[int] = []
    left = Leftovers(threading.RLock(), freed.append)
    left.leave(1)
    assert freed == [1]


def test_what_is_left_in_the_middle_is_freed_afterwards() -> None:
    freed: list[int] = []
    lock = threading.RLock()
    left = Leftovers(lock, freed.append)
    with lock:
        with lock:
            left.leave(1)
        left.leave(2)
        assert freed == []
        left.free()
    assert freed == [1, 2]


def test_what_freeing_leaves_is_freed_too() -> None:
    freed: list[int] = []

    def free(item: int) -> None:
        freed.append(item)
        if item:
            left.leave(item - 1)

    left = Leftovers(threading.RLock(), free)
    left.leave(3)
    assert freed == [3, 2, 1, 0]


def test_leaving_does_not_wait_for_another_thread() -> None:
    freed: list[int] = []
    lock = threading.RLock()
    left = Leftovers(lock, freed.append)
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            assert done.wait(60)
            left.free()

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(60)
    left.leave(1)
    assert freed == []
    done.set()
    thread.join()
    assert freed == [1]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no interval timers on this system")
def test_an_interrupt_does_not_leave_the_lock_held() -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for trial in range(200):
            lock = threading.RLock()
            left: Leftovers[int] = Leftovers(lock, lambda item: None)
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-4 + trial * 1e-6)
                while True:
                    left.leave(1)
            except KeyboardInterrupt:
                pass
            free: list[bool] = []
            thread = threading.Thread(target=lambda lock=lock, free=free: free.append(lock.acquire(blocking=False)))
            thread.start()
            thread.join()
            assert free == [True]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
