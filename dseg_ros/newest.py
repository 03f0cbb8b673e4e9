"""Work on the newest item only: what comes while one is worked on waits in one place, and is replaced there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class NewestOnly(Generic[_Item]):
    """One thread that works on items; a slow one works on fewer of them, never on old ones.

    Args:
        work: Called in the thread with an item.
        name: Of the thread.
        failed: Called in the thread, which then ends, with what `work` raised.
    """

    def __init__(self, work: Callable[[_Item], None], name: str, failed: Callable[[Exception], None]) -> None:
        self._work, self._failed = work, failed
        self._ready = threading.Condition()
        self._items: list[_Item] = []  # none or one
        self._stopping = False
        self.replaced = 0  # items that a newer one took the place of
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, item: _Item) -> None:
        """Have an item worked on, instead of one that still waits. Returns at once."""
        with self._ready:
            self.replaced += len(self._items)
            self._items = [item]
            self._ready.notify()

    def stop(self) -> None:
        """Let go of what waits, and wait until what is being worked on is done."""
        with self._ready:
            self._stopping, self._items = True, []
            self._ready.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._items or self._stopping)
                if self._stopping:
                    return
                (item,), self._items = self._items, []
            try:
                self._work(item)
            except Exception as error:
                self._failed(error)
                return
