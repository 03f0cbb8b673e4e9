"""`dseg record`: bags to frames. Runs pairing over a bag and has every chosen sweep made into a frame."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dseg_core.bag import BagReader, find_bags
from dseg_core.errors import DsegError
from dseg_core.frame_writer import FrameWriter, unfinished_part
from dseg_core.frames_from_regions import FrameMaker, Ledger, readable_sweep
from dseg_core.messages import stamp_ns
from dseg_core.pairs_from_bag import Dropped, Event, Pairing, Surplus, SweepDone, crossing_times
from dseg_core.progress import Summary, progress, write_whole
from dseg_core.sensors_from_bag import sensors_from_bag
from dseg_core.stage_options import RecordOptions
from dseg_core.store import read_json, salvage
from dseg_core.transforms import TransformError

LIDAR = "lidar"


def record(bags: Sequence[Path], out: Path, options: RecordOptions) -> Summary:
    """Record bags into a folder of frames; drives that are there already are kept, one that was cut off is finished.

    Raises:
        DsegError: A bag cannot be used, or `out` was recorded with other options.
    """
    found = find_bags(bags)
    _check_options(out, options)
    drives = read_json(out / "summary.json")["results"]["drives"] if (out / "summary.json").is_file() else {}
    kept = []
    for bag in found:
        with BagReader(bag) as reader:
            if reader.name in drives and (out / f"{reader.name}_0.mcap").is_file():
                kept.append(reader.name)
                continue
            # A part without its account is from a run that was cut off between the two: made anew.
            (out / f"{reader.name}_0.mcap").unlink(missing_ok=True)
            drives[reader.name] = _Recorder(reader, out, options).run()
        _summary(out, drives, kept).write(out, "record", options)
    return _summary(out, drives, kept).write(out, "record", options)


def _check_options(out: Path, options: RecordOptions) -> None:
    """One folder, one set of options: frames of different making do not mix unseen."""
    path, text = out / "record.yaml", options.to_yaml()
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    # What a run that failed before its first frame left says nothing about any frame.
    if path.is_file() and any(out.glob("*_0.mcap*")):
        raise DsegError("was recorded with other options", where=out, fix=f"See {path.name} there; use another --out")
    write_whole(path, text.encode())


class _Recorder:
    """One bag on its way to frames."""

    def __init__(self, reader: BagReader, out: Path, options: RecordOptions) -> None:
        self._reader, self._out, self._options = reader, out, options
        self._sensors = sensors = sensors_from_bag(reader, options.topics)
        self._names = {sensors.lidar: LIDAR, **{camera.topic: camera.name for camera in sensors.cameras}}
        self._messages = {self._names[topic.name]: topic.count for topic in reader.topics if topic.name in self._names}
        self._maker = FrameMaker(reader.name, sensors, options)
        self._ledger = Ledger()
        self._axes: dict[str, NDArray[np.float64]] = {}
        self._chosen = self._frames = self._views = 0

    def run(self) -> dict[str, Any]:
        """Record the drive; returns its account."""
        began = time.perf_counter()
        part = unfinished_part(self._out, self._reader.name)
        cut = part.with_name(part.name + ".cut")
        if part.exists():
            part.replace(cut)
        with FrameWriter(self._out, self._reader.name) as writer:
            rescued = self._rescue(cut, writer) if cut.exists() else {}
            for event in self._events():
                self._take(event, writer, rescued)
                if 0 < self._options.max_frames <= self._frames:
                    break
            if not self._frames:
                raise DsegError(f"gave no frame: {self._account()}", where=self._reader.path, fix="See the reasons")
        cut.unlink(missing_ok=True)
        return self._result(time.perf_counter() - began)

    def _rescue(self, cut: Path, writer: FrameWriter) -> dict[int, set[str]]:
        """Take over the whole frames of a part that was cut off; its sweeps' stamps and cameras."""
        rescued = {}
        for frame in salvage(cut, self._reader.name):
            writer.write(frame)
            rescued[frame.stamp_ns] = {view.camera for view in frame.views}
        return rescued

    def _events(self) -> Iterator[Event]:
        """Pairing's events over the bag's messages."""
        cameras = [camera.name for camera in self._sensors.cameras]
        pairing = Pairing(cameras, self._options.pairing, LIDAR)
        messages = self._reader.messages(self._names)
        total = sum(self._messages.values())
        for message in progress(messages, f"record {self._reader.name}", total, "msg"):
            sensor, stamp = self._names[message.topic], stamp_ns(message.data)
            if stamp == 0:
                self._ledger.dropped[sensor]["header stamp is zero"] += 1
            elif sensor == LIDAR:
                yield from pairing.push_sweep(stamp, message.data, self._references(message.data))
            else:
                yield from pairing.push_image(sensor, stamp, message.data)
        yield from pairing.flush()

    def _references(self, cloud: Any) -> Mapping[str, int]:
        """When the beam crossed each camera's axis, where the options ask for it and the points have times."""
        if self._options.pairing.reference != "crossing":
            return {}
        try:
            sweep = readable_sweep(cloud)
        except DsegError:
            return {}  # counted when the sweep's turn comes
        if not self._axes:
            tree = self._sensors.tree
            for camera in self._sensors.cameras:
                T = tree.lookup(sweep.frame_id, camera.calibration.frame_id, sweep.stamp_ns)
                self._axes[camera.name] = T[:3, 2]
        return crossing_times(sweep, self._axes)

    def _take(self, event: Event, writer: FrameWriter, rescued: Mapping[int, set[str]]) -> None:
        """Account for an event; make a frame where it is one."""
        ledger = self._ledger
        if isinstance(event, Surplus):
            ledger.surplus[event.sensor] += 1
        elif isinstance(event, Dropped):
            ledger.dropped[event.sensor][event.reason] += 1
        else:
            self._chosen += 1
            if (self._chosen - 1) % self._options.every:
                self._drop(event, "not chosen by --every")
            elif event.sweep_ns in rescued:
                self._count(event, rescued[event.sweep_ns])
            else:
                self._make(event, writer)

    def _make(self, event: SweepDone, writer: FrameWriter) -> None:
        try:
            sweep = readable_sweep(event.sweep)
        except DsegError as error:
            self._drop(event, error.what)
            return
        images = {name: pair.image for name, pair in event.pairs.items()}
        try:
            frame, unusable = self._maker.frame(sweep, images, self._ledger)
        except TransformError as error:
            # The mounting is the same for the whole drive: without it, nothing can be recorded.
            raise DsegError(error.what, where=self._reader.path, fix=error.fix) from None
        for name, reason in unusable.items():
            if not event.pairs[name].reused:
                self._ledger.dropped[name][reason] += 1
        if frame is None:
            self._ledger.dropped[LIDAR]["no usable image"] += 1
            return
        writer.write(frame)
        self._count(event, {view.camera for view in frame.views})

    def _count(self, event: SweepDone, cameras: set[str]) -> None:
        """A frame was made of these cameras' images."""
        self._frames += 1
        self._views += len(cameras)
        self._ledger.paired[LIDAR] += 1
        for name in cameras:
            self._ledger.offsets_ns[name].append(event.pairs[name].offset_ns)
            counter = self._ledger.reused if event.pairs[name].reused else self._ledger.paired
            counter[name] += 1

    def _drop(self, event: SweepDone, reason: str) -> None:
        self._ledger.dropped[LIDAR][reason] += 1
        for name, pair in event.pairs.items():
            if not pair.reused:
                self._ledger.dropped[name][reason] += 1

    def _result(self, seconds: float) -> dict[str, Any]:
        for sensor, count in self._messages.items():
            unread = count - self._ledger.total(sensor)
            if unread and not self._options.max_frames:
                raise RuntimeError(f"{sensor}: {count} messages, {count - unread} accounted for")
            if unread:
                self._ledger.dropped[sensor]["after --max-frames"] += unread
        return {
            "bag": str(self._reader.path.resolve()),
            "lidar": self._sensors.lidar,
            "cameras": {camera.name: camera.topic for camera in self._sensors.cameras},
            "notes": list(self._sensors.notes),
            "frames": self._frames,
            "views": self._views,
            "seconds": round(seconds, 3),
            "drive_seconds": round((self._reader.end_ns - self._reader.start_ns) / 1e9, 3),
            **self._ledger.to_dict(self._messages),
        }

    def _account(self) -> str:
        """Where the messages went, in words."""
        return _in_words(self._ledger.to_dict(self._messages)["sensors"])


def _in_words(sensors: Mapping[str, Any]) -> str:
    parts = []
    for sensor, row in sensors.items():
        dropped = "".join(f", {count} dropped: {reason}" for reason, count in row["dropped"].items())
        surplus = f", {row['surplus']} surplus" if row["surplus"] else ""
        parts.append(f"{sensor} {row['messages']} messages, {row['paired']} paired{surplus}{dropped}")
    return "; ".join(parts)


def _summary(out: Path, drives: Mapping[str, Any], kept: Sequence[str]) -> Summary:
    """One paragraph and the numbers of all drives in the folder."""
    frames, views = (sum(row[name] for row in drives.values()) for name in ("frames", "views"))
    sensors: dict[str, dict[str, Any]] = {}
    for row in drives.values():
        for name, counts in row["sensors"].items():
            total = sensors.setdefault(name, {"messages": 0, "paired": 0, "surplus": 0, "dropped": {}})
            for kind in ("messages", "paired", "surplus"):
                total[kind] += counts[kind]
            for reason, count in counts["dropped"].items():
                total["dropped"][reason] = total["dropped"].get(reason, 0) + count
    resumed = f" {len(kept)} drives were recorded before and kept." if kept else ""
    unmoved = sum(sum(row["motion"]["not_compensated"].values()) for row in drives.values())
    motion = "" if not unmoved else f" {unmoved} views without motion compensation (no odometry for them)."
    notes = "".join(f" {drive}: {note}." for drive, row in drives.items() for note in row["notes"])
    text = (
        f"Recorded {frames} frames with {views} views from {len(drives)} drives into {out}. "
        f"{_in_words(sensors)}.{motion}{notes}{resumed}"
    )
    return Summary(text, {"frames": frames, "views": views, "sensors": sensors, "drives": dict(drives)})
