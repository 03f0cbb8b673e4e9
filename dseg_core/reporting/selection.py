"""Which few of many views a page shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from dseg_core.records import ViewKey
from dseg_core.store import FrameStore

T = TypeVar("T")

_GOLDEN = 0.618034


def spread(keys: Sequence[ViewKey], count: int) -> list[ViewKey]:
    """At most `count` keys, from as many drives and cameras as there are, then apart in time."""
    groups: dict[tuple[str, str], list[ViewKey]] = {}
    for key in sorted(keys):
        groups.setdefault((key.camera, key.drive), []).append(key)
    chosen: list[ViewKey] = []
    for number, (group, room) in enumerate(
        zip(evenly(list(groups.values()), count), _shares(count, len(groups)), strict=False)
    ):
        # One view of each drive would be of the same moment in all; the golden ratio never repeats one.
        alone = group[int((number * _GOLDEN + 0.5) % 1.0 * len(group))]
        chosen += evenly(group, room) if room > 1 else [alone]
    return sorted(chosen)


def moment(store: FrameStore, key: ViewKey) -> str:
    """Drive, camera and the time since the drive's first frame, in words."""
    first = next(stamp for drive, stamp in store.frame_keys if drive == key.drive)
    return f"{key.drive}, {key.camera}, {(key.stamp_ns - first) / 1e9:.1f} s"


def evenly(items: Sequence[T], count: int) -> list[T]:
    """At most `count` items at even distances, first and last among them when there is more than one."""
    if len(items) <= count:
        return list(items)
    if count == 1:
        return [items[len(items) // 2]]
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _shares(count: int, groups: int) -> list[int]:
    """`count` split over at most `count` groups as evenly as whole numbers allow."""
    groups = min(groups, count)
    return [count // groups + (i < count % groups) for i in range(groups)] if groups else []
