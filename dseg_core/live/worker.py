"""The live recorder's thread, and what waits for it."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeAlias

from dseg_core.errors import DsegError, system_error
from dseg_core.live.messages import QUEUE_FULL, LiveMessage, Memory, header_of
from dseg_core.live.recorder import LiveRecorder

_PERIOD = 0.1  # s, longest time without a look at what is ready
Command: TypeAlias = Callable[[LiveRecorder], str]


class LiveWorker:
    """Hands messages to a recorder, in a thread of its own; those that come before there is one wait for it.

    Args:
        memory: What waiting messages may take.
        failed: Called in the thread, which then ends, with what went wrong with it.
    """

    def __init__(self, memory: Memory, failed: Callable[[Exception], None]) -> None:
        self._memory, self._failed = memory, failed
        self._inbox: queue.SimpleQueue[tuple[str, LiveMessage] | Callable[[LiveRecorder], None] | None]
        self._inbox = queue.SimpleQueue()
        self._refused: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.recorder: LiveRecorder | None = None

    def begin(self, recorder: LiveRecorder, first: Command | None = None) -> None:
        """Start to work: carry out a command, then take what has come so far."""
        self.recorder = recorder
        self._thread = threading.Thread(target=self._guard, args=(recorder, first), name="recorder", daemon=True)
        self._thread.start()

    def offer(self, sensor: str, kind: str, data: bytes) -> int:
        """A message has come; from any thread. Returns its header stamp [ns] at once, 0 where it has none."""
        try:
            header = header_of(data)
        except DsegError as error:
            self._refuse(sensor, error.what)
            return 0
        if self._memory.take(len(data)):
            self._inbox.put((sensor, LiveMessage(kind, data, header, self._memory)))
        else:
            self._refuse(sensor, QUEUE_FULL)
        return header[0]

    def ask(self, command: Command) -> Future[str]:
        """Have a command of the recorder carried out, after the messages before it. Its future may raise DsegError."""
        future: Future[str] = Future()

        def carry_out(recorder: LiveRecorder) -> None:
            try:
                future.set_result(command(recorder))
            except DsegError as error:
                future.set_exception(error)
            except OSError as error:
                future.set_exception(system_error(error))

        self._inbox.put(carry_out)
        return future

    def end(self) -> None:
        """Finish with the messages that have come; close the recorder."""
        if self._thread is not None:
            self._inbox.put(None)
            self._thread.join()
        self._thread = self.recorder = None
        while not self._inbox.empty():  # of no recorder
            self._inbox.get()

    def _refuse(self, sensor: str, reason: str) -> None:
        with self._lock:
            self._refused[sensor, reason] += 1

    def _guard(self, recorder: LiveRecorder, first: Command | None) -> None:
        try:
            self._run(recorder, first)
        except Exception as error:
            self._failed(error)

    def _run(self, recorder: LiveRecorder, first: Command | None) -> None:
        if first is not None:
            recorder.attempt(first)
        last = time.monotonic()
        while True:
            try:
                item = self._inbox.get(timeout=_PERIOD)
            except queue.Empty:
                pass
            else:
                if item is None:
                    break
                if callable(item):
                    self._account(recorder)
                    item(recorder)
                else:
                    recorder.push(*item)
                item = None  # its memory is not held while waiting for the next
            if time.monotonic() - last > _PERIOD:
                last = time.monotonic()
                self._account(recorder)
                recorder.settle()
        self._account(recorder)
        recorder.close()

    def _account(self, recorder: LiveRecorder) -> None:
        with self._lock:
            refused, self._refused = self._refused, Counter()
        for (sensor, reason), number in refused.items():
            recorder.refused(sensor, reason, number)
