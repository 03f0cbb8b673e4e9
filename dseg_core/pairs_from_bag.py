"""Pairing: each sweep with the nearest image of each camera, decided by header stamps alone.

The same state machine runs over a bag and on the car, so both give the same pairs. It never looks at the wall clock: an
image is known to be the nearest once the camera has sent a later one (the watermark) or has been declared dead.
Offset = image stamp - reference, signed, in nanoseconds; every image and every sweep leaves exactly once, as paired,
surplus or dropped, whatever the order in which different sensors' messages come. Stamps that run backwards a little are
dropped; when they jump back, pairing begins anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dseg_core.records import Sweep
from dseg_core.stage_options import PairingOptions

_NEAR_AXIS = np.deg2rad(2.0)
DUPLICATE, OUT_OF_ORDER, TOO_FAR = "duplicate stamp", "stamp runs backwards", "too far"
NO_IMAGE, NO_SWEEP = "no image", "no sweep"


@dataclass(frozen=True)
class Paired:
    """An image that was chosen for a sweep. `reused`: it had been chosen for an earlier sweep already."""

    camera: str
    image: Any
    image_ns: int
    offset_ns: int
    reused: bool


@dataclass(frozen=True)
class SweepDone:
    """A sweep's pairs are decided, by camera; at least one. `before`: sweeps it is told with, the earliest first."""

    sweep: Any
    sweep_ns: int
    pairs: Mapping[str, Paired]
    before: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Surplus:
    """An image that a faster camera took between chosen ones: normal."""

    sensor: str
    stamp_ns: int


@dataclass(frozen=True)
class Dropped:
    """A message that could not be used. `nearest_ns`: the signed offset of the nearest partner, where there was one."""

    sensor: str
    stamp_ns: int
    reason: str
    nearest_ns: int | None = None


Event: TypeAlias = SweepDone | Surplus | Dropped


@dataclass
class _Image:
    """An image that may be chosen.

    `nearest_ns`: offset to the nearest sweep so far; `refused`: it was a sweep's nearest, but too far; `beside_ns`: how
    near a sweep makes it surplus, known once a sweep at its time or later is.
    """

    stamp_ns: int
    handle: Any
    used: bool = False
    refused: bool = False
    nearest_ns: int | None = None
    beside_ns: int | None = None


@dataclass
class _Camera:
    """One camera's images that may still be chosen, by time."""

    constant_ns: int
    images: deque[_Image] = field(default_factory=deque)
    last_ns: int | None = None
    last_reference_ns: int | None = None

    def offset(self, image: _Image, reference_ns: int) -> int:
        return image.stamp_ns - self.constant_ns - reference_ns

    def nearest(self, reference_ns: int) -> _Image | None:
        """The image nearest to a reference; of two as near, the earlier."""
        return min(self.images, key=lambda i: (abs(self.offset(i, reference_ns)), i.stamp_ns), default=None)

    def passed(self, reference_ns: int) -> bool:
        """Whether no image to come can be nearer to the reference."""
        return self.last_ns is not None and self.last_ns - self.constant_ns >= reference_ns


@dataclass(frozen=True)
class _Sweep:
    """`interval_ns`: the shortest between two sweeps up to this one, None for the first."""

    stamp_ns: int
    handle: Any
    references: Mapping[str, int]
    interval_ns: int | None

    def reference(self, camera: str) -> int:
        return self.references.get(camera, self.stamp_ns)


class Pairing:
    """The state machine. Messages of one sensor come in their order, those of different sensors in any.

    Handles of pairs come back, untouched: an encoded message, a place in a file, whatever the caller needs.

    Args:
        cameras: Their names.
        options: Tolerance, constant offsets, queue length, patience.
        lidar: What the sweeps' sensor is called in events.
        absent: Cameras that may be added later, so that options may name them.
    """

    def __init__(
        self, cameras: Sequence[str], options: PairingOptions, lidar: str = "lidar", absent: Sequence[str] = ()
    ) -> None:
        constants = options.constant_offsets_ns([*cameras, *absent])
        self._cameras = {camera: _Camera(constants[camera]) for camera in cameras}
        self._sweeps: deque[_Sweep] = deque()
        self._closed: _Sweep | None = None  # the latest, without its handle
        self._last_ns: int | None = None
        self._interval_ns: int | None = None
        self._tolerance_ns = round(options.tolerance * 1e9)
        self._patience_ns = round(options.patience * 1e9)
        self._jump_ns = round(options.jump * 1e9)
        self._queue = options.queue
        self.jumps = 0
        self._lidar = lidar

    def add_camera(self, camera: str, constant_ns: int) -> None:
        """Wait for images of this camera as well from now on. `constant_ns`: its offset."""
        self._cameras[camera] = _Camera(constant_ns)

    def push_sweep(self, stamp_ns: int, handle: Any, references: Mapping[str, int] | None = None) -> list[Event]:
        """Add a sweep. `references`: per camera, when the beam crossed its axis [ns]; where not given, the stamp."""
        before = self._restart_after_jump(stamp_ns, self._last_ns)
        reason = _misplaced(stamp_ns, self._last_ns)
        if reason:
            return [Dropped(self._lidar, stamp_ns, reason)]
        if self._last_ns is not None:
            interval = stamp_ns - self._last_ns
            self._interval_ns = interval if self._interval_ns is None else min(interval, self._interval_ns)
        self._last_ns = stamp_ns
        sweep = _Sweep(stamp_ns, handle, references or {}, self._interval_ns)
        self._sweeps.append(sweep)
        for name, camera in self._cameras.items():
            camera.last_reference_ns = sweep.reference(name)
            for image in camera.images:
                self._compare(name, image, sweep)
        return before + self._decide()

    def push_image(self, camera: str, stamp_ns: int, handle: Any) -> list[Event]:
        """Add an image of a camera."""
        queue = self._cameras[camera]
        before = self._restart_after_jump(stamp_ns, queue.last_ns)
        reason = _misplaced(stamp_ns, queue.last_ns)
        if reason:
            return [Dropped(camera, stamp_ns, reason)]
        queue.last_ns = stamp_ns
        image = _Image(stamp_ns, handle)
        for sweep in (*([self._closed] if self._closed else []), *self._sweeps):
            self._compare(camera, image, sweep)
        queue.images.append(image)
        events = before + self._decide()
        while len(queue.images) > self._queue and self._sweeps:
            # This camera has sent what the oldest sweep wants; another one, that is dead or late, has not.
            events += [self._close(self._sweeps.popleft()), *self._decide()]
        if len(queue.images) > self._queue:  # the LiDAR is silent
            events += self._leave(camera)
        return events

    @property
    def held(self) -> Iterator[Any]:
        """The handles that are waiting."""
        yield from (sweep.handle for sweep in self._sweeps)
        yield from (image.handle for camera in self._cameras.values() for image in camera.images)

    def hurry(self) -> list[Event]:
        """Decide the oldest sweep without waiting any longer, as where there is no room to wait in.

        Without a sweep the oldest image goes. Empty when nothing is held.
        """
        if self._sweeps:
            return [self._close(self._sweeps.popleft()), *self._decide()]
        oldest = [(camera.images[0].stamp_ns, name) for name, camera in self._cameras.items() if camera.images]
        return self._leave(min(oldest)[1]) if oldest else []

    def flush(self) -> list[Event]:
        """The end: decide everything that is still waiting."""
        events: list[Event] = []
        while self._sweeps:
            events.append(self._close(self._sweeps.popleft()))
        for name, camera in self._cameras.items():
            while camera.images:
                events += self._leave(name)
        return events

    def _restart_after_jump(self, stamp_ns: int, last_ns: int | None) -> list[Event]:
        """Begin anew when a sensor's clock was set back, as by a bag that was played in a loop."""
        if last_ns is None or last_ns - stamp_ns <= self._jump_ns:
            return []
        events = self.flush()
        self.jumps += 1
        self._last_ns = self._closed = None
        for camera in self._cameras.values():
            camera.last_ns = camera.last_reference_ns = None
        return events

    def _decide(self) -> list[Event]:
        """Close the sweeps that nothing to come can change, and let go of images that no sweep can want."""
        events: list[Event] = []
        while self._sweeps and self._is_decided(self._sweeps[0]):
            events.append(self._close(self._sweeps.popleft()))
        for name, camera in self._cameras.items():
            horizon = self._horizon(name, camera)
            # An image can go when the one after it is at least as near to every reference still to come.
            while horizon is not None and len(camera.images) > 1 and camera.offset(camera.images[1], horizon) <= 0:
                events += self._leave(name)
        return events

    def _is_decided(self, sweep: _Sweep) -> bool:
        """Whether every camera has sent a later image, or is so far behind the LiDAR that it must be dead."""
        late = self._last_ns is not None and self._last_ns - sweep.stamp_ns > self._patience_ns
        return late or all(camera.passed(sweep.reference(name)) for name, camera in self._cameras.items())

    def _horizon(self, name: str, camera: _Camera) -> int | None:
        """The earliest reference that may still ask for an image of this camera; None before the first sweep."""
        if self._sweeps:
            return min(sweep.reference(name) for sweep in self._sweeps)
        return None if camera.last_reference_ns is None else camera.last_reference_ns + 1

    def _close(self, sweep: _Sweep) -> Event:
        """Choose a sweep's images."""
        pairs: dict[str, Paired] = {}
        nearest_ns: int | None = None
        self._closed = replace(sweep, handle=None)
        for name, camera in self._cameras.items():
            reference = sweep.reference(name)
            chosen = camera.nearest(reference)
            if chosen is None:
                continue
            offset = camera.offset(chosen, reference)
            nearest_ns = _nearer(nearest_ns, offset)
            if abs(offset) <= self._tolerance_ns:
                pairs[name] = Paired(name, chosen.handle, chosen.stamp_ns, offset, chosen.used)
                chosen.used = True
            else:
                chosen.refused = True
        if pairs:
            return SweepDone(sweep.handle, sweep.stamp_ns, pairs)
        reason = NO_IMAGE if nearest_ns is None else TOO_FAR
        return Dropped(self._lidar, sweep.stamp_ns, reason, nearest_ns)

    def _compare(self, name: str, image: _Image, sweep: _Sweep) -> None:
        """Note how near an image is to a sweep; to be told of every sweep once, in their order."""
        camera = self._cameras[name]
        offset = camera.offset(image, sweep.reference(name))
        image.nearest_ns = _nearer(image.nearest_ns, offset)
        if image.beside_ns is None and offset <= 0:
            image.beside_ns = self._beside(sweep.interval_ns)

    def _beside(self, interval_ns: int | None) -> int:
        return max(self._tolerance_ns, interval_ns or 0)

    def _leave(self, name: str) -> list[Event]:
        """A camera's oldest image goes: silently when it was paired, else as surplus or dropped."""
        image = self._cameras[name].images.popleft()
        if image.used:
            return []
        if image.refused:
            return [Dropped(name, image.stamp_ns, TOO_FAR, image.nearest_ns)]
        # Intervals of later sweeps would make it depend on how far they had come before the camera's next image.
        beside = self._beside(self._interval_ns) if image.beside_ns is None else image.beside_ns
        if image.nearest_ns is not None and abs(image.nearest_ns) <= beside:
            return [Surplus(name, image.stamp_ns)]
        return [Dropped(name, image.stamp_ns, NO_SWEEP, image.nearest_ns)]


def crossing_times(sweep: Sweep, axes: Mapping[str, NDArray[np.float64]]) -> dict[str, int]:
    """When the beam crossed each camera's axis, by the times of the points nearest to it in azimuth.

    Args:
        sweep: With times per point.
        axes: Per camera its viewing direction (3,) in the sweep's frame.

    Returns:
        Nanoseconds of the header clock, by camera; nothing for a sweep without times or a camera it has no point near.
    """
    if sweep.time_ns is None or not len(sweep):
        return {}
    azimuth = np.arctan2(sweep.xyz[:, 1], sweep.xyz[:, 0])
    found = {}
    for camera, axis in axes.items():
        distance = np.abs((azimuth - np.arctan2(axis[1], axis[0]) + np.pi) % (2 * np.pi) - np.pi)
        near = distance < _NEAR_AXIS
        if near.any():
            # Never between two times: where the turn begins and ends on the axis, half a turn lies between.
            found[camera] = sweep.stamp_ns + int(np.percentile(sweep.time_ns[near], 50, method="lower"))
    return found


def _misplaced(stamp_ns: int, last_ns: int | None) -> str | None:
    if last_ns is None or stamp_ns > last_ns:
        return None
    return DUPLICATE if stamp_ns == last_ns else OUT_OF_ORDER


def _nearer(one: int | None, other: int) -> int:
    return other if one is None or abs(other) < abs(one) else one
