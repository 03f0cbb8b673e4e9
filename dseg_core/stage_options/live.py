"""Options of recording live, whatever brings the messages."""

from __future__ import annotations

import dataclasses
import re
import time
from dataclasses import dataclass
from pathlib import Path

from dseg_core.errors import OptionError
from dseg_core.options import option
from dseg_core.stage_options.record import FrameOptions, RecordOptions


@dataclass(frozen=True)
class LiveOptions(FrameOptions):
    """Frames from sensors that send now; what frames are made of and how is told as to `dseg record`."""

    out: Path | None = option(None, "folder of frames; drives are added to those that are there")
    drive: str = option("%Y-%m-%d_%H-%M-%S", "name of each drive, in strftime's terms (UTC); numbered where taken")
    record: str = option(
        "continuous",
        "events keeps the latest seconds in memory, and ~/trigger saves them",
        choices=("continuous", "events"),
    )
    paused: bool = option(False, "begin with ~/start, not by itself")
    keep_before: float = option(10.0, "time before ~/trigger that is saved", unit="s", minimum=0, maximum=600)
    keep_after: float = option(5.0, "time after ~/trigger that is saved", unit="s", minimum=0, maximum=600)
    keep_memory: float = option(
        512.0,
        "most that frames kept for ~/trigger may take; fewer seconds fit where it is not enough",
        unit="MB",
        minimum=1,
    )
    memory: float = option(
        192.0, "most that messages may take that wait for their turn; what is beyond is dropped", unit="MB", minimum=16
    )
    min_free_disk: float = option(2.0, "recording stops before the disk has less left", unit="GB", minimum=0)
    tf_timeout: float = option(0.5, "longest wait for /tf of a sweep's and its images' stamps", unit="s", minimum=0)
    odometry: str = option(
        "", "topic of nav_msgs/Odometry, for where /tf moves nothing; none takes the only one that there is"
    )
    threads: int = option(0, "threads that make frames; 0: this machine's cores, at most 4", minimum=0)

    def __post_init__(self) -> None:
        """Check the drive's name. Raises OptionError."""
        super().__post_init__()
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", self.drive_at(0)):
            raise OptionError(f"drive = {self.drive!r} must give a name of letters, digits, `.`, `_` and `-`")

    def drive_at(self, seconds: float) -> str:
        """A drive's name at a time, seconds since 1970."""
        return time.strftime(self.drive, time.gmtime(seconds))

    def record_options(self) -> RecordOptions:
        """What `dseg record` is told for the same frames."""
        shared = {declared.name: getattr(self, declared.name) for declared in dataclasses.fields(FrameOptions)}
        return RecordOptions(threads=self.threads, **shared)
