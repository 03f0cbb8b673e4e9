"""How a live recording stands, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dseg_core.ledger import Ledger
from dseg_core.live.drive import SingleDrive
from dseg_core.live.events import EventRing
from dseg_core.sensors_from_bag import LIDAR

_LATEST = 500


@dataclass(frozen=True)
class Status:
    """A moment of a recording. Counts are of all drives since the recorder began.

    `recording`: whether messages are taken. `part`: the file that is written now. `finished`: drives, since the
    recorder began. `frames`: that were made. `paired`
    and `surplus`: messages, by sensor; `dropped`: by sensor and reason. `unmoved`: views without the vehicle's motion,
    by reason. `waiting`: pairs whose frames are being made.
    `offsets_ms`: the latest median, by camera. `kept_seconds`, `kept_mb`: what ~/trigger would save.
    """

    recording: bool
    part: Path | None
    finished: int
    frames: int
    paired: Mapping[str, int]
    surplus: Mapping[str, int]
    dropped: Mapping[str, Mapping[str, int]]
    unmoved: Mapping[str, int]
    waiting: int
    offsets_ms: Mapping[str, float]
    kept_seconds: float
    kept_mb: float

    def drops(self) -> dict[str, int]:
        """All sensors' drops by reason, `camera_front: too far`."""
        return {f"{sensor}: {reason}": n for sensor, reasons in self.dropped.items() for reason, n in reasons.items()}


def status_of(sink: SingleDrive | EventRing | None, ledgers: Sequence[Ledger], waiting: int, finished: int) -> Status:
    """The status of what writes, and of accounts that add up."""
    paired, surplus, dropped = Counter[str](), Counter[str](), dict[str, Counter[str]]()
    unmoved, offsets = Counter[str](), dict[str, float]()
    for ledger in ledgers:
        paired.update(ledger.paired)
        surplus.update(ledger.surplus)
        unmoved.update(ledger.not_compensated)
        for sensor, reasons in ledger.dropped.items():
            dropped.setdefault(sensor, Counter()).update(reasons)
        for camera, values in ledger.offsets_ns.items():
            offsets[camera] = float(np.median(values[-_LATEST:])) / 1e6
    ring = sink if isinstance(sink, EventRing) else None
    drive = None if sink is None else sink.drive
    return Status(
        recording=sink is not None,
        part=None if drive is None else drive.path,
        finished=finished,
        frames=paired[LIDAR],
        paired=paired,
        surplus=surplus,
        dropped=dropped,
        unmoved=unmoved,
        waiting=waiting,
        offsets_ms=offsets,
        kept_seconds=ring.seconds if ring else 0.0,
        kept_mb=ring.bytes / 1e6 if ring else 0.0,
    )
