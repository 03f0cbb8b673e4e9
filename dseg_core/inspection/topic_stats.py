"""Topics of a bag: rates, gaps, stamps out of order, and how late messages were recorded."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dseg_core.bag import BagMessage, BagReader
from dseg_core.messages import stamp_ns

_GAP = 1.75  # times the usual interval: at least one message is missing


class TopicTimes:
    """When a topic's messages were logged and, where they have a header or its like, stamped [ns]."""

    def __init__(self) -> None:
        self.logs: array[int] = array("q")
        self.stamps: array[int] = array("q")
        self.frame_id = ""  # of the first message

    def add(self, message: BagMessage) -> None:
        """Take a message's times."""
        if not self.logs:
            self.frame_id = str(getattr(getattr(message.data, "header", message.data), "frame_id", ""))
        self.logs.append(message.log_ns)
        if hasattr(message.data, "header") or hasattr(message.data, "timestamp"):
            self.stamps.append(stamp_ns(message.data))

    def shift_ns(self) -> int | None:
        """Middle stamp minus log time; None without stamps. Two sensors' differ by what their clocks are apart."""
        if not len(self.stamps) or len(self.stamps) != len(self.logs):
            return None
        stamps, logs = np.array(self.stamps), np.array(self.logs)
        known = stamps != 0
        return int(np.median(stamps[known] - logs[known])) if known.any() else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; times in s and ms. Rate and gaps go by stamps where there are, else by log times."""
        logs, stamps = np.array(self.logs, np.int64), np.array(self.stamps, np.int64)
        stamped = len(stamps) == len(logs) and bool(np.count_nonzero(stamps) > 1)
        steps = np.diff(stamps[stamps != 0]) if stamped else np.diff(logs)
        return {
            **_rate(steps[steps > 0]),
            "by": "stamps" if stamped else "log times",
            "stamps": _order(stamps) if len(stamps) else None,
            "delay_ms": _delay(logs, stamps) if stamped else None,
        }


class WatchedReader(BagReader):
    """A bag whose every message is noted while somebody reads some of its topics."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.times: dict[str, TopicTimes] = {}
        self.watching = False

    def __enter__(self) -> WatchedReader:
        super().__enter__()
        return self

    def messages(
        self, topics: Iterable[str] | None = None, start_ns: int | None = None, end_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """See BagReader; while `watching`, all topics are read, and their times kept."""
        if not self.watching:
            yield from super().messages(topics, start_ns, end_ns)
            return
        wanted = None if topics is None else set(topics)
        for message in super().messages(None, start_ns, end_ns):
            self.times.setdefault(message.topic, TopicTimes()).add(message)
            if wanted is None or message.topic in wanted:
                yield message


def _rate(steps: NDArray[np.int64]) -> dict[str, float | int | None]:
    if not len(steps):
        return {"rate_hz": None, "longest_gap_s": None, "gaps": 0}
    usual = float(np.median(steps))
    return {
        "rate_hz": round(1e9 / float(steps.mean()), 3),
        "longest_gap_s": round(int(steps.max()) / 1e9, 4),
        "gaps": int(np.count_nonzero(steps > _GAP * usual)),
    }


def _order(stamps: NDArray[np.int64]) -> dict[str, int]:
    known = stamps[stamps != 0]
    latest = np.maximum.accumulate(known)[:-1]
    return {
        "zero": int(len(stamps) - len(known)),
        "backwards": int(np.count_nonzero(known[1:] < latest)),
        "duplicates": int(np.count_nonzero(known[1:] == latest)),
    }


def _delay(logs: NDArray[np.int64], stamps: NDArray[np.int64]) -> dict[str, float]:
    """Log time minus stamp."""
    late = (logs - stamps)[stamps != 0] / 1e6
    found = np.percentile(late, [0, 50, 95, 100])
    return {name: round(float(v), 3) for name, v in zip(("min", "median", "p95", "max"), found, strict=True)}
