"""The account of a recording: where every message of every sensor went."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dseg_core.kinds_of_reasons import KindsOfReasons
from dseg_core.words import count

_LISTED = 5
"""Reasons that are told of a sensor; what has more is told of the most frequent."""


@dataclass
class Ledger:
    """Where a drive's messages went: per sensor, paired, surplus, or dropped by reason.

    `reused`: pairs with an image that an earlier sweep had. `offsets_ns`: of every pair, by camera. `compensated`:
    views with the vehicle's motion in them; `not_compensated`: the others, by reason. `notes`: what else people should
    know of images, and of how many, `sweep_notes`: of sweeps.
    """

    paired: Counter[str] = field(default_factory=Counter)
    surplus: Counter[str] = field(default_factory=Counter)
    dropped: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    reused: Counter[str] = field(default_factory=Counter)
    offsets_ns: defaultdict[str, array[int]] = field(default_factory=lambda: defaultdict(lambda: array("q")))
    compensated: int = 0
    not_compensated: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    sweep_notes: Counter[str] = field(default_factory=Counter)
    _kinds: KindsOfReasons = field(default_factory=KindsOfReasons)

    def drop(self, sensor: str, reason: str) -> None:
        """Count a message that was dropped for what its content says, which may be another for each."""
        self.dropped[sensor][self._kinds.told(reason)] += 1

    def note(self, of_images: Iterable[str], of_sweeps: Iterable[str]) -> None:
        """Count what people should know of a frame's images and sweeps."""
        self.notes.update(map(self._kinds.told, of_images))
        self.sweep_notes.update(map(self._kinds.told, of_sweeps))

    def total(self, sensor: str) -> int:
        """Messages of a sensor that are accounted for."""
        return self.paired[sensor] + self.surplus[sensor] + self.dropped[sensor].total()

    def add(self, other: Ledger) -> None:
        """Take another account's counts over, as of the next frame."""
        for mine, theirs in ((self.paired, other.paired), (self.surplus, other.surplus), (self.reused, other.reused)):
            mine.update(theirs)
        for sensor, reasons in other.dropped.items():
            self.dropped[sensor].update(reasons)
        for camera, offsets in other.offsets_ns.items():
            self.offsets_ns[camera].extend(offsets)
        self.compensated += other.compensated
        self.not_compensated.update(other.not_compensated)
        self.notes.update(other.notes)
        self.sweep_notes.update(other.sweep_notes)

    def to_dict(self, messages: Mapping[str, int]) -> dict[str, Any]:
        """Plain JSON types; `messages`: how many the bag has, per sensor."""
        return {
            "sensors": {
                sensor: {
                    "messages": count,
                    "paired": self.paired[sensor],
                    "surplus": self.surplus[sensor],
                    "dropped": dict(self.dropped[sensor]),
                }
                for sensor, count in messages.items()
            },
            "reused": dict(self.reused),
            "offsets_ms": {camera: spread_ms(offsets) for camera, offsets in self.offsets_ns.items()},
            "motion": {"compensated": self.compensated, "not_compensated": dict(self.not_compensated)},
        }


def spread_ms(offsets_ns: array[int] | list[int]) -> dict[str, Any]:
    """Signed offsets in ms: count, extremes, percentiles, and a histogram of [lower edge, count] in bins of 1 ms."""
    milliseconds = np.array(offsets_ns) / 1e6
    edges, counts = np.unique(np.floor(milliseconds), return_counts=True)
    percentiles = np.percentile(milliseconds, [0, 5, 50, 95, 100])
    names = ("min", "p5", "median", "p95", "max")
    return {
        "count": len(offsets_ns),
        **{name: round(float(value), 3) for name, value in zip(names, percentiles, strict=True)},
        "histogram": [[float(edge), int(count)] for edge, count in zip(edges, counts, strict=True)],
    }


def account_in_words(sensors: Mapping[str, Any]) -> str:
    """The `sensors` of `Ledger.to_dict` as a sentence for people."""
    parts = []
    for sensor, row in sensors.items():
        surplus = f", {row['surplus']} surplus" if row["surplus"] else ""
        dropped = f", dropped {reasons}" if (reasons := reasons_in_words(row["dropped"])) else ""
        parts.append(f"{sensor} {count(row['messages'], 'message')}, {row['paired']} paired{surplus}{dropped}")
    return "; ".join(parts)


def account_table(sensors: Mapping[str, Any]) -> list[str]:
    """The same as lines of a table."""
    rows: list[tuple[str, ...]] = [("sensor", "messages", "paired", "surplus", "dropped")]
    for sensor, row in sensors.items():
        rows.append(
            (sensor, *(str(row[k]) for k in ("messages", "paired", "surplus")), reasons_in_words(row["dropped"]) or "0")
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join((row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in (1, 2, 3)), row[4])) for row in rows]


def reasons_in_words(dropped: Mapping[str, int]) -> str:
    """The `dropped` of a sensor's row: "4 (too far), 1 (no sweep)"."""
    listed, others, more = listed_reasons(dropped)
    words = [f"{number} ({reason})" for reason, number in listed.items()]
    return ", ".join(words + [f"and {others} for {count(more, 'more reason')}"] * (more > 0))


def listed_reasons(dropped: Mapping[str, int]) -> tuple[dict[str, int], int, int]:
    """The reasons of a sensor's row that people are told; how many messages have others, and how many these are."""
    often = sorted(dropped, key=lambda reason: -dropped[reason])[:_LISTED]
    listed = {reason: number for reason, number in dropped.items() if reason in often}
    return listed, sum(dropped.values()) - sum(listed.values()), len(dropped) - len(listed)
