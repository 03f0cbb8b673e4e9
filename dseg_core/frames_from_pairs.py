"""Frames of decided pairs: threads make and pack them; they are written, and accounted for, in their sweeps' order."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from types import TracebackType
from typing import Protocol, TypeAlias

from dseg_core.compiling import while_compiling_is_stopped
from dseg_core.errors import DsegError
from dseg_core.frame_messages import PackedFrame
from dseg_core.frames_from_regions import NO_TRANSFORM, Made
from dseg_core.ledger import Ledger
from dseg_core.pairs_from_bag import SweepDone
from dseg_core.records import Frame
from dseg_core.sensors_from_bag import LIDAR
from dseg_core.transforms import TransformError

_MOST_THREADS = 4
NO_USABLE_SWEEP = "no usable sweep"
"""Why an image is in no frame whose sweep is of no use: that reason is the LiDAR's."""
_TRIES = 10  # of a camera that is not connected, before it is certain that it is none of a few garbled messages

Show: TypeAlias = Callable[[Frame], None]
Make: TypeAlias = Callable[[SweepDone], "tuple[Made, PackedFrame | None]"]
"""Makes a frame, in any thread. Raises DsegError for a sweep of no use, TransformError where the box has no place."""


class FrameSink(Protocol):
    """What takes frames, as a FrameWriter."""

    def write(self, packed: PackedFrame, /) -> None:
        """Take a frame. Raises OSError."""


class FrameRecorder:
    """Turns pairs into frames on disk, from a bag or live. A context manager: leaving it drops what is not yet made.

    `stamps`: of the sweeps whose frames were made. `views`: how many views these have. `ledger` may be replaced at any
    time.

    Args:
        make: Makes each frame.
        ledger: Where everything is accounted for.
        threads: That make frames; 0: this machine's cores, at most 4.
        written: Stamps of sweeps whose frames are in the part already: only accounted for.
        show: Called with every frame that is written, in order.
        most_waiting: Pairs that may wait before `record` does; 0: two a thread.
    """

    def __init__(
        self,
        make: Make,
        ledger: Ledger,
        threads: int = 0,
        written: Container[int] = (),
        show: Show | None = None,
        most_waiting: int = 0,
    ) -> None:
        self._make, self.ledger, self._written, self._show = make, ledger, written, show
        self._threads = threads or min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        self._most_waiting = most_waiting or 2 * self._threads
        self._pool = ThreadPoolExecutor(self._threads, "frames")
        self._making: deque[tuple[SweepDone, Future[tuple[Made, PackedFrame | None]]]] = deque()
        self.stamps: set[int] = set()
        self.views = 0
        self._tries: Counter[str] = Counter()
        self._unconnected: dict[str, TransformError] = {}  # cameras that no frame has had so far

    @property
    def waiting(self) -> int:
        """Pairs whose frames are still being made."""
        return len(self._making)

    @property
    def making(self) -> Iterator[SweepDone]:
        """These pairs, and those whose frames are not written yet."""
        yield from (event for event, _ in self._making)

    def has(self, stamp_ns: int) -> bool:
        """Whether a sweep's frame was made, or is being made."""
        return stamp_ns in self.stamps or self.is_making(stamp_ns)

    def is_making(self, stamp_ns: int) -> bool:
        """Whether a sweep's frame is being made."""
        return any(event.sweep_ns == stamp_ns for event, _ in self._making)

    def record(self, event: SweepDone, writer: FrameSink) -> None:
        """Have a frame made; write those before it that are ready. Waits while too many are not.

        Raises:
            TransformError: A camera's first images, or the vehicle's box, are not connected with the LiDAR.
            OSError: The disk is full, or gone.
        """
        self._making.append((event, self._pool.submit(self._make, event)))
        while len(self._making) > self._most_waiting:
            self._finish(*self._making.popleft(), writer)
        self.write_ready(writer)

    def write_ready(self, writer: FrameSink) -> None:
        """Write the frames that are ready, in order, without waiting for others. Raises as `record`."""
        while self._making and self._making[0][1].done():
            self._finish(*self._making.popleft(), writer)

    def finish(self, writer: FrameSink) -> None:
        """Wait for all frames that are being made, and write them. Raises as `record`."""
        while self._making:
            self._finish(*self._making.popleft(), writer)

    def give_up(self, reason: str) -> None:
        """Account for all pairs whose frames are still being made: none is written."""
        while self._making:
            event, making = self._making.popleft()
            making.cancel()
            self.drop(event, reason)

    def check_connected(self) -> None:
        """Raise TransformError for a camera that had images, and was connected with the LiDAR for none of them."""
        for error in self._unconnected.values():
            raise error

    def drop(self, event: SweepDone, reason: str, of_partners: str = "") -> None:
        """Account for pairs that become no frame. `of_partners`: the reason of all but the sweep, if another."""
        self.ledger.drop(LIDAR, reason)
        for name, pair in event.pairs.items():
            if not pair.reused:
                self.ledger.drop(name, of_partners or reason)

    def _finish(self, event: SweepDone, making: Future[tuple[Made, PackedFrame | None]], writer: FrameSink) -> None:
        """Write a frame and account for it."""
        try:
            made, packed = making.result()
        except DsegError as error:
            mounting = isinstance(error, TransformError) or error.what == NO_TRANSFORM
            self.drop(event, error.what, "" if mounting else NO_USABLE_SWEEP)
            if isinstance(error, TransformError):
                self._try_again("", error)
            return
        for name, unconnected in made.unconnected.items():
            self._try_again(name, unconnected)
        for name, reason in made.unusable.items():
            if not event.pairs[name].reused:
                self.ledger.drop(name, reason)
        self.ledger.note(made.notes, made.sweep_notes)
        if not made.motion:
            self._drop_used(event, made, "no usable image")
            return
        if packed is not None and event.sweep_ns not in self._written:
            try:
                writer.write(packed)
            except OSError:
                self._drop_used(event, made, "disk")
                raise
            if self._show is not None and made.frame is not None:
                self._show(made.frame)
        for why in made.motion.values():
            if why is None:
                self.ledger.compensated += 1
            else:
                self.ledger.not_compensated[why] += 1
        self._count(event, set(made.motion), made.merged)

    def _drop_used(self, event: SweepDone, made: Made, reason: str) -> None:
        """Account for a sweep, and for what of its pairs was of use, that become no frame all the same."""
        self.ledger.dropped[LIDAR][reason] += 1
        for name in (*made.motion, *made.merged):
            if not event.pairs[name].reused:
                self.ledger.dropped[name][reason] += 1

    def _try_again(self, name: str, error: TransformError) -> None:
        """A camera, or with no name the vehicle's box, is not connected: by its mounting, or by a garbled message."""
        if self._tries[name] < 0:
            return
        self._tries[name] += 1
        self._unconnected.setdefault(name, error)
        if self._tries[name] >= _TRIES:
            raise error

    def _count(self, event: SweepDone, cameras: set[str], merged: Sequence[str]) -> None:
        """A frame was made of these cameras' images and these LiDARs' sweeps."""
        for name in ("", *cameras, *merged):
            self._tries[name] = -1
            self._unconnected.pop(name, None)
        self.stamps.add(event.sweep_ns)
        self.views += len(cameras)
        self.ledger.paired[LIDAR] += 1
        for name in (*cameras, *merged):
            self.ledger.offsets_ns[name].append(event.pairs[name].offset_ns)
            counter = self.ledger.reused if event.pairs[name].reused else self.ledger.paired
            counter[name] += 1

    def __enter__(self) -> FrameRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        with while_compiling_is_stopped() if error is not None else nullcontext():
            self._pool.shutdown()
