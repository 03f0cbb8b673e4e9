"""One drive, written as its frames come."""

from __future__ import annotations

from collections.abc import Callable

from dseg_core.frame_messages import PackedFrame
from dseg_core.frame_writer import FrameWriter
from dseg_core.ledger import Ledger


class SingleDrive:
    """Takes frames as an EventRing does, and writes each.

    Args:
        open_drive: Opens the drive.
        close_drive: Takes its writer and account when it is done.
    """

    def __init__(
        self, open_drive: Callable[[], FrameWriter], close_drive: Callable[[FrameWriter, Ledger], None]
    ) -> None:
        self.drive: FrameWriter | None = open_drive()
        self.ledger = Ledger()
        self._close = close_drive

    def write(self, packed: PackedFrame) -> None:
        """Write a frame. Raises OSError."""
        if self.drive is not None:
            self.drive.write(packed)

    def finish(self) -> None:
        """End the drive. Raises OSError."""
        if self.drive is not None:
            drive, self.drive = self.drive, None
            self._close(drive, self.ledger)
