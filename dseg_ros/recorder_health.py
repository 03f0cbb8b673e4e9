"""What the recorder says of itself, and what is new of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from dseg_core.live.folder import LiveFolder
from dseg_core.live.messages import Memory
from dseg_core.live.recorder import LiveRecorder
from dseg_core.selection import EVERY, NEAR, SLOW
from dseg_core.transforms import NO_ODOMETRY
from dseg_ros.diagnostics import Health, numbered
from dseg_ros.topic_watch import TopicWatch

_CHOSEN = (EVERY, NEAR, SLOW)  # reasons that are the user's wish
_CALM = 10.0  # s without a drop, after which one is news again
_LATELY = 3.0  # s for which a drop is worth a warning


class FreshProblems:
    """Tells problems when they come up, and again when they come back after they were gone."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._problem = ""

    def lately(self) -> list[str]:
        """Why messages are dropped now, and which way of the vehicle is missing."""
        now = time.monotonic()
        return [name for name, when in self._told.copy().items() if now - when < _LATELY]

    def drops(self, recorder: LiveRecorder, now: float) -> list[str]:
        """New reasons why messages, or the vehicle's motion, are missing, a line each. `now`: steady clock [s]."""
        lines = []
        drops, unmoved = recorder.status.drops(), recorder.status.unmoved
        counts = [(f"dropped: {name}", name.partition(": ")[2], count) for name, count in drops.items()]
        counts += [(f"views without the vehicle's motion: {why}", why, count) for why, count in unmoved.items()]
        for name, reason, count in counts:
            fresh, self._counts[name] = count > self._counts.get(name, 0), count
            if not fresh or reason in (*_CHOSEN, NO_ODOMETRY):
                continue
            if now - self._told.get(name, -_CALM) >= _CALM:
                details = recorder.details.get(reason)
                lines.append(name + (f": {details}" if details else ""))
            self._told[name] = now
        return lines

    def lines(self, recorder: LiveRecorder | None, watches: Iterable[TopicWatch]) -> list[str]:
        """What is new: drops by reason, what is wrong with the sensors' topics, why recording has stopped."""
        now = time.monotonic()
        lines = [line for watch in watches for line in watch.new_problems(now)]
        if recorder is None:
            return lines
        lines += self.drops(recorder, now)
        if recorder.problem not in ("", self._problem):
            lines.append(recorder.problem)
        self._problem = recorder.problem
        return lines


def add_disk(health: Health, folder: LiveFolder) -> None:
    """What is left of the disk."""
    try:
        health.values["free disk"] = f"{folder.free_gb:.1f} GB"
    except OSError as error:  # it was taken out
        health.errors.append(f"{folder.path}: {error.strerror or error}")


def add_recording(health: Health, recorder: LiveRecorder, memory: Memory) -> None:
    """What is recorded and what is dropped."""
    status = recorder.status
    if recorder.problem:
        health.errors.append(recorder.problem)
    where = f" into {status.part}" if status.part else ""
    health.summary = f"recording{where}: {status.frames} frames" if status.recording else "not recording; call ~/start"
    health.values |= {
        "recording": "yes" if status.recording else "no",
        "file": str(status.part or "none"),
        "drives finished": str(status.finished),
        "frames": str(status.frames),
        "paired": numbered(status.paired),
        "surplus": numbered(status.surplus),
        "dropped": numbered(status.drops()),
        "views without the vehicle's motion": numbered(status.unmoved),
        "frames being made": str(status.waiting),
        "memory of waiting messages": f"{memory.used / 1e6:.0f} of {memory.limit / 1e6:.0f} MB",
    }
    health.values |= {f"{name} offset": f"{offset:+.1f} ms" for name, offset in status.offsets_ms.items()}
    if status.kept_mb:
        health.values["kept for ~/trigger"] = f"{status.kept_seconds:.1f} s, {status.kept_mb:.0f} MB"


def add_topics(health: Health, watches: Mapping[str, TopicWatch]) -> None:
    """What happens on the sensors' topics."""
    now = time.monotonic()
    for name, watch in watches.items():
        health.values |= {f"{name} {key}": value for key, value in watch.values(now).items()}
        health.warnings += watch.problems(now)
