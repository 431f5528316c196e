from __future__ import annotations

import threading

from ovgen.engine.lock import Lock


def test_what_is_left_is_freed_at_once_if_the_lock_is_free() -> None:
    freed: list[int] = []
    lock = Lock(freed.append)
    lock.leave(1)
    assert freed == [1]


def test_what_is_left_in_the_middle_is_freed_at_the_end() -> None:
    freed: list[int] = []
    lock = Lock(freed.append)
    with lock:
        with lock:
            lock.leave(1)
        lock.leave(2)
        assert freed == []
    assert freed == [1, 2]


def test_what_freeing_leaves_is_freed_too() -> None:
    freed: list[int] = []

    def free(item: int) -> None:
        freed.append(item)
        if item:
            lock.leave(item - 1)

    lock = Lock(free)
    lock.leave(3)
    assert freed == [3, 2, 1, 0]


def test_leaving_does_not_wait_for_another_thread() -> None:
    freed: list[int] = []
    lock = Lock(freed.append)
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            assert done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(60)
    lock.leave(1)
    assert freed == []
    done.set()
    thread.join()
    assert freed == [1]


def test_a_failure_inside_does_not_keep_the_lock() -> None:
    freed: list[int] = []
    lock = Lock(freed.append)
    try:
        with lock:
            lock.leave(1)
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert freed == [1]
    lock.leave(2)
    assert freed == [1, 2]
