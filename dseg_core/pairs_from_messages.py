"""Chosen pairs of a drive's messages as they come, from a bag or live; every other message is accounted for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dseg_core.errors import DsegError
from dseg_core.frame_messages import PackedFrame, pack
from dseg_core.frames_from_pairs import FrameRecorder
from dseg_core.frames_from_regions import FrameMaker, Made, readable_sweep
from dseg_core.pairs_from_bag import NO_IMAGE, TOO_FAR, Dropped, Event, Pairing, Surplus, SweepDone, crossing_times
from dseg_core.records import Sweep
from dseg_core.selection import OUTSIDE, Selection
from dseg_core.sensors_from_bag import LIDAR, Sensors
from dseg_core.stage_options import RecordOptions, TopicOptions
from dseg_core.transforms import TransformError

_LONGEST_NS = 1_000_000_000  # that a sweep may lie before the one that is told with it
Read = Callable[[Any], Any]
"""The message of a handle that was pushed."""


class ChosenPairs:
    """Runs pairing over messages, and chooses the pairs that become frames.

    `frames`, whose ledger tells where everything else went, may be replaced between two calls, as when a drive is
    split. `on_drop` is called with every message that pairing drops. `shortened`: pairs whose sweep is told with fewer
    earlier ones than asked for, since some were forgotten.

    Args:
        sensors: Calibration and transforms.
        options: What is paired, and chosen.
        frames: What makes the frames.
        read: The message of a handle; handles are messages where not given.
    """

    def __init__(
        self, sensors: Sensors, options: RecordOptions, frames: FrameRecorder, read: Read = lambda message: message
    ) -> None:
        self.frames = frames
        names = [*(camera.name for camera in sensors.cameras), *sensors.others]
        self.pairing = Pairing(names, options.pairing, LIDAR, sensors.absent)
        self.on_drop: Callable[[Dropped], None] = lambda event: None
        self.outside: set[tuple[str, int]] = set()
        """Sensor and stamp of messages beyond the chosen times, read for what is paired at their ends only."""
        self._sensors, self._options, self._read = sensors, options, read
        self._selection: Selection | None = None
        self._axes: dict[str, NDArray[np.float64]] = {}
        self._before: deque[tuple[int, Any]] = deque()  # stamps and handles of sweeps that others may be told with
        self.shortened = 0
        self._jumps = 0  # since the latest of which:
        self._newest_ns = self._decided_ns = self._forgotten_ns = 0  # of sweeps

    @property
    def unknown(self) -> int:
        """Sweeps that were chosen though their position is not known."""
        return self._selection.unknown if self._selection else 0

    @property
    def held(self) -> Iterator[Any]:
        """The handles that are waiting, and those of decided sweeps that others may be told with; each once."""
        yield from (handle for at, handle in self._before if at <= self._decided_ns)
        yield from self.pairing.held

    def forget(self) -> bool:
        """Let go of the oldest decided sweep that others may be told with; whether there was one."""
        found = bool(self._before) and self._before[0][0] <= self._decided_ns
        if found:
            self._forgotten_ns = self._before.popleft()[0]
        return found

    def widen(self, sensors: Sensors) -> None:
        """Go on with these sensors, of which some cameras were not there before; no message is lost."""
        before = {camera.name for camera in self._sensors.cameras}
        names = [camera.name for camera in sensors.cameras]
        for name, constant_ns in self._options.pairing.known_offsets_ns(names).items():
            if name not in before:
                self.pairing.add_camera(name, constant_ns)
        self._sensors, self._axes = sensors, {}

    def push(self, sensor: str, stamp_ns: int, handle: Any) -> Iterator[SweepDone]:
        """Add a message of a sensor, by its header stamp; yields the pairs that it decides."""
        if stamp_ns <= 0:
            self.frames.ledger.dropped[sensor][f"header stamp is {'negative' if stamp_ns else 'zero'}"] += 1
        elif sensor != LIDAR:
            yield from self.decided(self.pairing.push_image(sensor, stamp_ns, handle))
            self._begin_after_jump()
        else:
            yield from self.decided(self.pairing.push_sweep(stamp_ns, handle, self._references(handle)))
            self._begin_after_jump()
            self._remember(stamp_ns, handle)

    def flush(self) -> Iterator[SweepDone]:
        """The end: decide everything that is still waiting."""
        yield from self.decided(self.pairing.flush())
        self._before.clear()

    def decided(self, events: Iterable[Event]) -> Iterator[SweepDone]:
        """The pairs among pairing's events; everything else is accounted for."""
        for event in events:
            if isinstance(event, SweepDone):
                done = self._with_before(event)
                self._let_go(event.sweep_ns)
                yield done
            elif (event.sensor, event.stamp_ns) in self.outside:
                self.frames.ledger.dropped[event.sensor][OUTSIDE] += 1
            elif isinstance(event, Surplus):
                self.frames.ledger.surplus[event.sensor] += 1
            else:
                self.frames.ledger.dropped[event.sensor][event.reason] += 1
                if event.sensor == LIDAR and event.reason in (NO_IMAGE, TOO_FAR):  # others were never waiting
                    self._let_go(event.stamp_ns)
                self.on_drop(event)

    def choose(self, event: SweepDone) -> bool:
        """Whether a pair becomes a frame; accounted for where not. To be asked once for each, in their order.

        Raises:
            DsegError: Pairs cannot be chosen as the options ask.
        """
        if self.frames.has(event.sweep_ns):
            self.frames.drop(event, "recorded already: the bag repeats itself")
            return False
        if self._selection is None:
            frame_id = self._read(event.sweep).header.frame_id
            self._selection = Selection(self._options, self._sensors.tree, frame_id)
        reason = self._selection.refuse(event.sweep_ns)
        if reason:
            self.frames.drop(event, reason)
        return reason is None

    def _begin_after_jump(self) -> None:
        """No sweep is told with those from before a clock, whichever sensor's, was set back."""
        if self.pairing.jumps != self._jumps:
            self._before.clear()
            self._forgotten_ns = self._newest_ns = self._decided_ns = 0
            self._jumps = self.pairing.jumps

    def _remember(self, stamp_ns: int, handle: Any) -> None:
        """Keep a sweep for those after it, where they are told together; not those that pairing drops."""
        if self._options.proposals.aggregate and stamp_ns > self._newest_ns:
            self._before.append((stamp_ns, handle))
            self._newest_ns = stamp_ns

    def _with_before(self, event: SweepDone) -> SweepDone:
        """The pair with the sweeps before it."""
        oldest_ns, most = event.sweep_ns - _LONGEST_NS, self._options.proposals.aggregate
        found = [handle for at, handle in self._before if oldest_ns <= at < event.sweep_ns]
        self.shortened += len(found) < most and self._forgotten_ns >= oldest_ns
        return replace(event, before=tuple(found[max(len(found) - most, 0) :]))

    def _let_go(self, decided_ns: int) -> None:
        """Sweeps are decided in their order: keep what those after this one may be told with, and no more."""
        self._decided_ns = decided_ns
        decided = sum(at <= decided_ns for at, _ in self._before)
        oldest_ns = decided_ns - _LONGEST_NS
        while self._before and (decided > self._options.proposals.aggregate or self._before[0][0] < oldest_ns):
            self._before.popleft()
            decided -= 1

    def _references(self, handle: Any) -> Mapping[str, int]:
        """When the beam crossed each camera's axis, where the options ask for it and the points have times."""
        if self._options.pairing.reference != "crossing":
            return {}
        try:
            sweep = readable_sweep(self._read(handle), self._options.topics)
        except DsegError:
            return {}  # counted when the sweep's turn comes
        if not self._axes:
            tree = self._sensors.tree
            try:
                for camera in self._sensors.cameras:
                    T = tree.lookup(sweep.frame_id, camera.calibration.frame_id, sweep.stamp_ns)
                    self._axes[camera.name] = T[:3, 2]
            except TransformError:
                return {}  # that, too
        return crossing_times(sweep, self._axes)


@dataclass(frozen=True)
class ReadPair:
    """A chosen pair, its messages read: what FrameMaker.frame takes. `broken`: why others cannot be used, by name."""

    sweep: Sweep
    images: Mapping[str, Any]
    others: Mapping[str, Sweep]
    before: Sequence[Sweep]
    broken: Mapping[str, str]

    def made_by(self, maker: FrameMaker) -> Made:
        """Its frame and account. Raises TransformError, see FrameMaker."""
        made = maker.frame(self.sweep, self.images, self.others, self.before)
        return replace(made, unusable={**made.unusable, **self.broken})


def read_pair(
    event: SweepDone, sensors: Sensors, topics: TopicOptions, read: Read = lambda message: message
) -> ReadPair:
    """Read what a frame is made of; earlier sweeps that are of no use are left out.

    Raises:
        DsegError: The sweep is of no use, or an image's message is broken.
    """
    images, others, broken, before = dict[str, Any](), dict[str, Sweep](), dict[str, str](), list[Sweep]()
    sweep = readable_sweep(read(event.sweep), topics)
    for name, pair in event.pairs.items():
        if name not in sensors.others:
            images[name] = read(pair.image)
            continue
        try:
            others[name] = readable_sweep(read(pair.image), topics)
        except DsegError as error:
            broken[name] = error.what
    for handle in event.before:
        with suppress(DsegError):  # it is counted when its own turn comes
            before.append(readable_sweep(read(handle), topics))
    return ReadPair(sweep, images, dict(sorted(others.items())), before, broken)


def make_frame(
    maker: FrameMaker, event: SweepDone, read: Read = lambda message: message
) -> tuple[Made, PackedFrame | None]:
    """A chosen pair's frame, packed; in any thread. `read`: the message of a handle.

    Raises:
        TransformError: Nothing can be recorded.
        DsegError: As `read_pair`.
    """
    made = read_pair(event, maker.sensors, maker.options.topics, read).made_by(maker)
    return made, None if made.frame is None else pack(made.frame)
