"""The model that a node runs: opened in a thread of its own, and swapped for another while it runs."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dseg_core.errors import DsegError
from dseg_core.runtime.predictor import Predictor, open_model
from dseg_ros.diagnostics import Health
from dseg_ros.node_options import SegmenterOptions

_TRIED = (64, 64)  # image for a model that takes any size
_PATIENCE = 1.0  # s; most models are there by then, and who asked is told at once what is wrong with the others


class LiveModel:
    """`predictor`: one that works; None until there is one. `name`: for people. `refused`: why the last was not taken.

    All methods are one thread's; what is public may be read from any.

    Args:
        done: Called in another thread when `open` has returned False and `settle` has something to do.
    """

    def __init__(self, done: Callable[[], None]) -> None:
        self.predictor: Predictor | None = None
        self.name = self.refused = ""
        self._done = done
        self._opening: _Opening | None = None

    @property
    def opening(self) -> str:
        """What is being loaded or built, and how far it is; nothing when nothing is."""
        opening = self._opening
        if opening is None:
            return ""
        if opening.share is None:
            return f"loading {opening.path.name}"
        return f"building, {opening.share:.0%}: an engine for this GPU from {opening.path.name}"

    def open(self, options: SegmenterOptions) -> bool:
        """Take a model, or the same file anew; an older one runs on until the new one is ready.

        Returns as soon as the model is in place, or it is known that an engine has to be built, or loading takes long.

        Args:
            options: Name the model, and what runs it.

        Returns:
            Whether it is in place already.

        Raises:
            DsegError: None is given, or it cannot be used.
        """
        if options.model is None:
            raise DsegError("no model is given", fix="Set the parameter model to an .onnx file that `dseg export` made")
        before, self.refused = self._opening, ""
        if before is not None:
            before.cancel()
        self._opening = _Opening(options.model, options, self._done, before)
        self._opening.wait()
        return self.settle()

    def settle(self) -> bool:
        """Take the model that was being opened, when that is over; whether one was taken.

        Raises:
            DsegError: It cannot be used; an older one is still in place.
        """
        opening = self._opening
        if opening is None or not opening.is_over:
            return False
        self._opening = None
        if opening.error is not None:
            self.refused = str(opening.error)
            raise opening.error
        self.predictor, self.name = opening.predictor, opening.name
        return True

    def refusal(self, why: str) -> str:
        """That a model was not taken, in words; `why`: the reason."""
        return f"refused: {why}" + (f"; {self.name} runs on" if self.name else "")

    def add_health(self, found: Health) -> None:
        """What runs, what is being built, and what was refused."""
        if self.predictor is not None:
            found.values |= {"model": self.name, "backend": self.predictor.backend.name}
            found.values["why this backend"] = self.predictor.reason
            found.values |= {f"note {n}": note for n, note in enumerate(self.predictor.notes, 1)}
            found.warnings += self.predictor.problems
        if self.opening:
            found.warnings.append(self.opening)
        if self.refused and self.predictor is None:
            found.errors.append(f"there is no model: {self.refused}")
        elif self.refused:
            found.warnings.append(self.refusal(self.refused))

    def close(self) -> None:
        """Let go of the model, and break off what is being built."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening.end()
            self._opening = None
        self.predictor = None


class _Opening:
    """A thread that opens a model and tries it, once the one `before` is at its end: never two at a time.

    `share`: how much of its engine is built, 0..1; None where nothing needs building. When it `is_over`, either
    `predictor` and `name` are there, or `error`.
    """

    def __init__(
        self, path: Path, options: SegmenterOptions, done: Callable[[], None], before: _Opening | None
    ) -> None:
        self.path, self.name = path, ""
        self.share: float | None = None
        self.predictor: Predictor | None = None
        self.error: Exception | None = None
        self.is_over = False
        self._known = threading.Event()  # whether it is over, or something has to be built
        self._cancelled = threading.Event()
        self._done = done
        self._thread = threading.Thread(target=self._run, args=(options, before), name="opening", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until it is over, or something has to be built, or it takes long."""
        self._known.wait(_PATIENCE)

    def cancel(self) -> None:
        """Break off what is being built; what is being loaded is not taken."""
        self._cancelled.set()

    def end(self) -> None:
        """Wait for its end."""
        self._thread.join()

    def _run(self, options: SegmenterOptions, before: _Opening | None) -> None:
        if before is not None:
            before.end()
        try:
            stop = self._cancelled.is_set
            predictor = open_model(self.path, options.backend, options.threads, options.engine, self._builds, stop)
            # The first image takes longer than any other, and shows whether the model runs at all.
            predictor.predict(np.zeros((*(predictor.size or _TRIED), 3), np.uint8))
            self.name, self.predictor = f"{self.path.name} ({_digest(self.path)})", predictor
        except Exception as error:
            self.error = error
        self.is_over = True
        self._known.set()
        if not self._cancelled.is_set():
            self._done()

    def _builds(self, share: float) -> None:
        self.share = share
        self._known.set()


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else "a run's folder"
    except OSError as error:
        raise DsegError(f"cannot be read: {error.strerror}", where=path) from None
