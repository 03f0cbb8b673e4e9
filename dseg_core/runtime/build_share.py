"""How much of an engine's build is done, from what the library tells."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class BuildShare:
    """How much of a build is done, by the phases that the library tells: nested, each of a number of steps."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell, self._told = tell, 0.0
        self._phases: dict[str, tuple[str | None, int, int]] = {}  # parent, steps, done
        self._lock = threading.Lock()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins, within another or by itself."""
        with self._lock:
            self._phases[name] = (parent, max(steps, 1), 0)

    def step(self, name: str, number: int) -> None:
        """A phase's step, counted from 0, is done."""
        with self._lock:
            if name in self._phases:
                parent, steps, _ = self._phases[name]
                self._phases[name] = (parent, steps, number + 1)
                self._update()

    def finish(self, name: str) -> None:
        """A phase ends, also before its last step."""
        with self._lock:
            self._phases.pop(name, None)

    def _update(self) -> None:
        inner: dict[str | None, float] = {}
        # Children were started after their parents, so from last to first every child is known before its parent.
        for name, (parent, steps, done) in reversed(self._phases.items()):
            share = min(1.0, (done + inner.get(name, 0.0)) / steps)
            inner[parent] = max(inner.get(parent, 0.0), share)
        share = inner.get(None, 0.0)
        if share >= self._told + 0.01:
            self._told = share
            self._tell(share)


def monitor_of(trt: Any, share: BuildShare) -> Any:
    """The library's monitor of progress; None where it has none (TensorRT 8.6)."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # of a library that is not typed
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            share.start(phase_name, parent_phase or None, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            share.step(phase_name, step)
            return True

        def phase_finish(self, phase_name: str) -> None:
            share.finish(phase_name)

    return Monitor()
