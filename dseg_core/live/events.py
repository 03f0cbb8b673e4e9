"""The latest seconds' frames, encoded, in memory; an event makes a drive of them and of the seconds after."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from dseg_core.frame_messages import PackedFrame
from dseg_core.frame_writer import FrameWriter
from dseg_core.ledger import Ledger


@dataclass
class _Kept:
    """A frame, and where everything went from it to the next one."""

    packed: PackedFrame
    size: int
    ledger: Ledger = field(default_factory=Ledger)


class EventRing:
    """Takes frames as a FrameWriter does, and keeps the latest only.

    `ledger` is where everything is to be accounted for that happens now: it changes with every frame. While an event's
    drive is being written it is the drive's, as `drive` is its writer.

    Args:
        open_drive: Opens an event's drive.
        close_drive: Takes the drive's writer and account when it is done.
        before_ns: How much is kept.
        after_ns: How much is written after an event.
        limit: Bytes that frames may take; older ones go where it is not enough.
    """

    def __init__(
        self,
        open_drive: Callable[[], FrameWriter],
        close_drive: Callable[[FrameWriter, Ledger], None],
        before_ns: int,
        after_ns: int,
        limit: int,
    ) -> None:
        self._open, self._close = open_drive, close_drive
        self._before_ns, self._after_ns, self._limit = before_ns, after_ns, limit
        self._kept: deque[_Kept] = deque()
        self._begins_ns = self._ends_ns = 0
        self.ledger = self._drives = Ledger()
        self.drive: FrameWriter | None = None
        self.bytes = 0
        self.passed = Ledger()  # what was not kept

    @property
    def seconds(self) -> float:
        """What is kept, by the frames' stamps."""
        return (self._kept[-1].packed.stamp_ns - self._kept[0].packed.stamp_ns) / 1e9 if self._kept else 0.0

    def write(self, packed: PackedFrame) -> None:
        """Keep a frame; write it, where an event is near. Raises OSError."""
        if self.drive is not None and packed.stamp_ns > self._ends_ns:
            self.finish()
        if self.drive is not None:
            self._write(self.drive, packed)
            return
        if self._kept and packed.stamp_ns < self._kept[-1].packed.stamp_ns:  # a clock was set back
            self._forget(len(self._kept))
        kept = _Kept(packed, packed.size)
        if not self._kept:
            self.passed.add(self.ledger)  # of what led to no frame
        self._kept.append(kept)
        self.bytes += kept.size
        self.ledger = kept.ledger
        old = [k for k in self._kept if k.packed.stamp_ns < packed.stamp_ns - self._before_ns]
        self._forget(len(old))
        while self.bytes > self._limit and len(self._kept) > 1:
            self._forget(1)

    def _write(self, drive: FrameWriter, packed: PackedFrame) -> None:
        """Into the event's drive; what was still being made when it began may be of before."""
        self.ledger = self.passed if packed.stamp_ns < self._begins_ns else self._drives
        if self.ledger is self._drives:
            drive.write(packed)

    def trigger(self, now_ns: int) -> None:
        """Something happened at this time: write what led to it, and what follows. Raises OSError, DsegError."""
        self._ends_ns = now_ns + self._after_ns
        if self.drive is not None:
            return
        self._begins_ns = now_ns - self._before_ns
        self._forget(sum(kept.packed.stamp_ns < self._begins_ns for kept in self._kept))
        drive, ledger = self._open(), Ledger()
        self.drive = drive
        for kept in self._kept:
            drive.write(kept.packed)
            ledger.add(kept.ledger)
        if not self._kept:  # the account is of a frame that is forgotten, or of none
            self.passed.add(self.ledger)
        self._kept.clear()
        self.bytes, self.ledger, self._drives = 0, ledger, ledger

    def finish(self) -> None:
        """End an event's drive now, where there is one. Raises OSError."""
        if self.drive is not None:
            drive, self.drive, self.ledger = self.drive, None, Ledger()
            self._close(drive, self._drives)

    def clear(self) -> None:
        """Let go of everything that is kept."""
        self._forget(len(self._kept))
        self.passed.add(self.ledger)
        self.ledger = Ledger()

    def _forget(self, number: int) -> None:
        for _ in range(number):
            kept = self._kept.popleft()
            self.bytes -= kept.size
            if kept.ledger is not self.ledger:
                self.passed.add(kept.ledger)
