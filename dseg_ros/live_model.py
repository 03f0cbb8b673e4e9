"""The model that a node runs: opened in a thread of its own, and swapped for another while it runs."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dseg_core.errors import DsegError
from dseg_core.runtime.model_check import check_model
from dseg_core.runtime.predictor import Predictor, open_model
from dseg_ros.diagnostics import Health
from dseg_ros.node_options import SegmenterOptions

_TRIED = (64, 64)  # image for a model that takes any size
_PATIENCE = 1.0  # s; most models are there by then, and who asked is told at once what is wrong with the others

_Wanted = tuple[Path, SegmenterOptions]


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
        What is still being loaded or built gives way to a model that can be one by its file. Where that one cannot be
        opened all the same, what gave way is begun again; the shares of an engine that were built are lost.

        Args:
            options: Name the model, and what runs it.

        Returns:
            Whether it is in place already. Where not, `settle` tells later whether it can be used; who asked has been
            told by then that it is taken, and the parameters name it, whatever runs on.

        Raises:
            DsegError: None is given, or it cannot be used; what runs, and what is being opened, goes on.
        """
        if options.model is None:
            raise DsegError("no model is given", fix="Set the parameter model to an .onnx file that `dseg export` made")
        wanted, given_up = (options.model, options), list[_Wanted]()
        if self._opening is not None:
            try:
                check_model(options.model, options.backend, options.engine.trust)
            except DsegError as error:
                self.refused = str(error)
                raise
            given_up = [w for w in (self._opening.wanted, *self._opening.given_up) if w != wanted]
            self._opening.cancel()
        self.refused = ""
        # Nothing here holds the earlier one, whose model would stay in memory beside this one's.
        self._opening = _Opening(wanted, given_up, self._done, self._opening)
        self._opening.wait()
        return self.settle()

    def settle(self) -> bool:
        """Take the model that was being opened, when that is over; whether one was taken.

        Raises:
            DsegError: It cannot be used; an older one is still in place, and what gave way to it is begun again.
        """
        opening = self._opening
        if opening is None or not opening.is_over:
            return False
        self._opening = None
        if opening.error is not None:
            self.refused = str(opening.error)
            if opening.given_up:
                self._opening = _Opening(opening.given_up[0], opening.given_up[1:], self._done)
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
        if self.refused and self.predictor is None and not self.opening:
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
    `predictor` and `name` are there, or `error`, or it was cancelled. `given_up`: what gave way to it, latest first.
    """

    def __init__(
        self,
        wanted: _Wanted,
        given_up: list[_Wanted],
        done: Callable[[], None],
        before: _Opening | None = None,
    ) -> None:
        self.wanted, self.given_up = wanted, given_up
        self.path, self.name = wanted[0], ""
        self.share: float | None = None
        self.predictor: Predictor | None = None
        self.error: Exception | None = None
        self.is_over = False
        self._known = threading.Event()  # whether it is over, or something has to be built
        self._cancelled = threading.Event()
        self._done = done
        self._before = before  # not among the thread's arguments, which it holds to its end
        self._thread = threading.Thread(target=self._run, name="opening", daemon=True)
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

    def _run(self) -> None:
        if self._before is not None:
            self._before.end()
        self._before = None
        try:
            if not self._cancelled.is_set():
                self.predictor = self._tried()
        except Exception as error:
            self.error = error
        self.is_over = True
        self._known.set()
        if not self._cancelled.is_set():
            self._done()

    def _tried(self) -> Predictor | None:
        """A model that works; None once it is cancelled."""
        options, stop = self.wanted[1], self._cancelled.is_set
        predictor = open_model(self.path, options.backend, options.threads, options.engine, self._builds, stop)
        if stop():
            return None
        # The first image takes longer than any other, and shows whether the model runs at all.
        predictor.predict(np.zeros((*(predictor.size or _TRIED), 3), np.uint8))
        self.name = f"{self.path.name} ({_digest(self.path)})"
        return None if stop() else predictor

    def _builds(self, share: float) -> None:
        self.share = share
        self._known.set()


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else "a run's folder"
    except OSError as error:
        raise DsegError(f"cannot be read: {error.strerror}", where=path) from None
