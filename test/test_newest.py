"""The thread that works on the newest item only."""

from __future__ import annotations

import threading

from dseg_ros.newest import NewestOnly


def test_newest_wins_and_the_rest_is_counted() -> None:
    done, go, working = [], threading.Event(), threading.Event()

    def work(item: int) -> None:
        working.set()
        go.wait(30)
        done.append(item)

    worker = NewestOnly(work, "test", lambda error: None)
    worker.offer(0)
    assert working.wait(30)
    for item in range(1, 6):
        worker.offer(item)
    go.set()
    for _ in range(3000):
        if done == [0, 5]:
            break
        threading.Event().wait(0.01)
    worker.stop()
    assert (done, worker.replaced) == ([0, 5], 4)


def test_stop_waits_for_what_is_being_worked_on_and_lets_go_of_the_rest() -> None:
    done, started = [], threading.Event()

    def work(item: int) -> None:
        started.set()
        threading.Event().wait(0.2)
        done.append(item)

    worker = NewestOnly(work, "test", lambda error: None)
    worker.offer(1)
    assert started.wait(30)
    worker.offer(2)
    worker.stop()
    assert done == [1]


def test_error_is_told_and_ends_the_thread() -> None:
    told: list[Exception] = []

    def work(item: int) -> None:
        raise ValueError(item)

    worker = NewestOnly(work, "test", told.append)
    worker.offer(7)
    for _ in range(3000):
        if told:
            break
        threading.Event().wait(0.01)
    worker.stop()
    assert [str(error) for error in told] == ["7"]
