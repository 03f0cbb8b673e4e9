"""One bag on its way to frames: pairing runs over it, and every chosen sweep is made into a frame."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dseg_core.bag import BagReader
from dseg_core.compiling_helpers import say_and_help_compiling
from dseg_core.errors import DsegError
from dseg_core.fixes_from_reasons import AFTER, unused_sensors
from dseg_core.frame_messages import PackedFrame
from dseg_core.frame_writer import FrameWriter, part_path, unfinished_part
from dseg_core.frames_from_pairs import FrameRecorder, Show
from dseg_core.frames_from_regions import AccountMaker, FrameMaker, Made
from dseg_core.images_from_packets import images_from_packets
from dseg_core.ledger import Ledger, account_in_words
from dseg_core.messages import VIDEO_TYPES, stamp_ns
from dseg_core.pairs_from_bag import SweepDone
from dseg_core.pairs_from_messages import ChosenPairs, make_frame, read_pair
from dseg_core.progress import progress
from dseg_core.selection import OUTSIDE
from dseg_core.sensors_from_bag import LIDAR, sensors_from_bag
from dseg_core.shares_from_frames import told_of_box
from dseg_core.stage_options import RecordOptions
from dseg_core.store import salvage
from dseg_core.transforms import TransformError
from dseg_core.words import count

_MARGIN_NS = 500_000_000  # read around the chosen times, so that sweeps at their ends find images
_KEY_FRAME_NS = 5_000_000_000  # read before them where there is video: pictures are made from the key frame before them


_NO_FRAME = "`dseg inspect BAG` tells why and what would help"


class DriveRecorder:
    """Records one bag into its part of a folder of frames. The folder's list of parts is the caller's.

    Args:
        reader: The bag, open.
        out: The folder of frames.
        options: Everything that `record` can be told.
        show: Called with every frame that is written, in the order of their sweeps.

    Raises:
        DsegError: The bag lacks what frames need.
    """

    doing = "record"
    """What the progress bar calls it."""

    def __init__(self, reader: BagReader, out: Path, options: RecordOptions, show: Show | None = None) -> None:
        self._reader, self._out, self._options, self._show = reader, out, options, show
        self._sensors = sensors = sensors_from_bag(reader, options.topics)
        self._names = {sensors.lidar: LIDAR, **{camera.topic: camera.name for camera in sensors.cameras}}
        self._names |= {topic: name for name, topic in sensors.others.items()}
        self._messages = {self._names[topic.name]: topic.count for topic in reader.topics if topic.name in self._names}
        self._maker = FrameMaker(reader.name, sensors, options, logs=False)  # the account tells it
        self._accounts = AccountMaker(reader.name, sensors, options, logs=False)
        self._makers: tuple[FrameMaker, ...] = (self._maker, self._accounts)  # of which each makes every frame, or none
        self._windows = options.windows_ns(reader.start_ns, reader.end_ns)
        self._ledger = Ledger()
        self._rescued: dict[int, frozenset[str]] = {}  # cameras of the frames that a part that was cut off had
        self._frames = FrameRecorder(self._make, self._ledger, options.threads, self._rescued, show)
        self._pairs = ChosenPairs(sensors, options, self._frames)
        self._recounted: list[str] = []
        self._used_outside = Counter[str]()  # images from just beyond the chosen times, used for sweeps within

    def run(self) -> dict[str, Any]:
        """Record the drive, or finish it where a part was cut off; returns its account."""
        began = time.perf_counter()
        part = unfinished_part(self._out, self._reader.name)
        cut = part.with_name(part.name + ".cut")
        if part.exists() and not cut.exists():  # else the part was still taking over what the cut one has
            part.replace(cut)
        with FrameWriter(self._out, self._reader.name, listed=False) as writer:
            if cut.exists():
                self._rescue(cut, writer)
            self._make_frames(writer)
            if not self._frames.stamps:
                self._settle()
                raise DsegError(f"gave no frame: {self._account()}", where=self._reader.path, fix=_NO_FRAME)
        return self._result(time.perf_counter() - began)

    def _rescue(self, cut: Path, writer: FrameWriter) -> None:
        """Take over the whole frames of a part that was cut off."""
        for frame in salvage(cut, self._reader.name):
            writer.write(frame)
            if self._show is not None:
                self._show(frame)
            self._rescued[frame.stamp_ns] = frozenset(view.camera for view in frame.views)
        writer.sync()
        cut.unlink()

    def _make_frames(self, writer: FrameWriter) -> None:
        most = self._options.max_frames
        say_and_help_compiling(f"dseg {self.doing}")
        with self._frames as frames:
            try:
                for event in self._chosen(writer):
                    frames.record(event, writer)
                    if 0 < most <= len(frames.stamps) + frames.waiting:
                        frames.finish(writer)
                    if 0 < most <= len(frames.stamps):
                        break
                frames.finish(writer)
                frames.check_connected()
            except TransformError as error:
                # The mounting is the same for the whole drive: what there is of other cameras would never be finished.
                writer.discard()
                raise DsegError(error.what, where=self._reader.path, fix=error.fix) from None

    def _chosen(self, writer: FrameWriter) -> Iterator[SweepDone]:
        """The pairs to make frames of; everything else is accounted for."""
        for event in self._decided():
            used = (pair for pair in event.pairs.values() if not pair.reused)
            self._used_outside.update(p.camera for p in used if (p.camera, p.image_ns) in self._pairs.outside)
            if self._frames.is_making(event.sweep_ns):  # whether a sweep that comes again is new depends on that
                self._frames.finish(writer)
            if self._pairs.choose(event):
                yield event

    def _decided(self) -> Iterator[SweepDone]:
        """The pairs of the chosen times' messages."""
        total = sum(self._messages.values()) if self._is_whole() else None
        read = Counter[str]()
        for message in progress(self._read(), f"{self.doing} {self._reader.name}", total, "msg"):
            sensor, stamp = self._names[message.topic], stamp_ns(message.data)
            read[sensor] += 1
            outside = stamp > 0 and not any(a <= message.log_ns <= b for a, b in self._windows)
            if outside and sensor == LIDAR:
                self._ledger.dropped[LIDAR][OUTSIDE] += 1
                continue
            if outside:
                self._pairs.outside.add((sensor, stamp))
            yield from self._pairs.push(sensor, stamp, message.data)
        for topic, lost in self._reader.unreadable.items():
            if topic in self._names:
                self._ledger.dropped[self._names[topic]]["cannot be read from the bag"] += lost
                read[self._names[topic]] += lost
        yield from self._pairs.flush()
        if self._is_whole():
            self._recount(read)

    def _recount(self, read: Counter[str]) -> None:
        """What a bag announces is not always what it has: its messages are those that were read."""
        for sensor, announced in self._messages.items():
            if read[sensor] != announced:
                told = f"{self._reader.path.name} announces {count(announced, 'message')}"
                self._recounted.append(f"{told} of {sensor}, and has {read[sensor]}")
                self._messages[sensor] = read[sensor]

    def _is_whole(self) -> bool:
        return self._windows == [(self._reader.start_ns, self._reader.end_ns)]

    def _read(self) -> Iterator[Any]:
        """The chosen times' messages, videos as pictures."""
        if self._is_whole():
            yield from images_from_packets(self._reader, self._reader.messages(self._names))
            return
        video = any(topic.name in self._names for topic in self._reader.of_type(*VIDEO_TYPES))
        spans: list[tuple[int, int]] = []
        for begin, end in self._windows:
            start, stop = begin - (_KEY_FRAME_NS if video else _MARGIN_NS), end + _MARGIN_NS + 1
            if spans and start <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(stop, spans[-1][1]))
            else:
                spans.append((start, stop))
        for start, stop in spans:
            # A decoder each: what packets after a gap are decoded from was never read, and not every gap shows in them.
            yield from images_from_packets(self._reader, self._reader.messages(self._names, start, stop))

    def _make(self, event: SweepDone) -> tuple[Made, PackedFrame | None]:
        """In a thread. Raises DsegError for a sweep of no use, TransformError where the box has no place."""
        cameras = frozenset(event.pairs.keys() - self._sensors.others.keys())
        if self._rescued.get(event.sweep_ns) == cameras:
            pair = read_pair(event, self._sensors, self._options.topics)
            return replace(pair.made_by(self._accounts), frame=None), None
        return make_frame(self._maker, event)

    def _settle(self) -> None:
        """Account for the messages that were not read."""
        full = 0 < self._options.max_frames <= len(self._frames.stamps)
        chosen = self._chosen_times() if full and not self._is_whole() else self._messages if full else Counter[str]()
        for sensor, announced in self._messages.items():
            unread = announced - self._ledger.total(sensor)
            if unread and not self._options.max_frames and self._is_whole():
                raise RuntimeError(f"{sensor}: {announced} messages, {announced - unread} accounted for")
            outside = self._ledger.dropped[sensor].get(OUTSIDE, 0) + self._used_outside[sensor]
            after = max(chosen[sensor] - (self._ledger.total(sensor) - outside), 0)
            told = {AFTER: min(after, unread), OUTSIDE: max(unread - after, 0)}
            self._ledger.dropped[sensor].update({reason: number for reason, number in told.items() if number})

    def _chosen_times(self) -> Counter[str]:
        """How many messages of each sensor the bag has in the chosen times, read or not."""
        found = Counter[str]()
        for begin, end in self._windows:
            for topic, number in self._reader.counts(self._names, begin, end + 1).items():
                found[self._names[topic]] += number
        return found

    def _result(self, seconds: float) -> dict[str, Any]:
        self._settle()
        return {
            "bag": str(self._reader.path.resolve()),
            "fingerprint": self._reader.fingerprint,
            "lidar": self._sensors.lidar,
            "cameras": {camera.name: camera.topic for camera in self._sensors.cameras},
            "notes": self._notes(),
            "frames": len(self._frames.stamps),
            "views": self._frames.views,
            "seconds": round(seconds, 3),
            "drive_seconds": round((self._reader.end_ns - self._reader.start_ns) / 1e9, 3),
            **({} if (in_box := self._in_box()) is None else {"in_box": round(in_box, 4)}),
            **self._ledger.to_dict(self._messages),
        }

    def _in_box(self) -> float | None:
        """The share of the points that the vehicle's box takes; None without one."""
        taken, looked_at = (sum(getattr(maker.ego, n) for maker in self._makers) for n in ("taken", "looked_at"))
        return taken / looked_at if looked_at else None

    def _notes(self) -> list[str]:
        """What people should know about the drive."""
        in_box = self._in_box()
        jumps, unknown = self._pairs.pairing.jumps, self._pairs.unknown
        return [
            *self._reader.notes,
            *self._sensors.notes,
            *self._recounted,
            *([] if in_box is None else [told_of_box(in_box)]),
            *unused_sensors(self._ledger, self._sensors),
            *(f"{note} ({count(n, 'image')})" for note, n in self._ledger.notes.items()),
            *(self._of_sweeps(note, number) for note, number in self._ledger.sweep_notes.items()),
            *([f"a sensor's clock was set back {count(jumps, 'time')}, and pairing begun anew"] if jumps else []),
            *([f"{count(unknown, 'sweep')} of unknown position kept"] if unknown else []),
        ]

    def _of_sweeps(self, note: str, number: int) -> str:
        """A note with the number of its sweeps, where these are not all of them."""
        if any(note in maker.of_sensors for maker in self._makers):
            return note
        return f"{note} ({count(number, 'sweep')})"

    def _account(self) -> str:
        """Where the messages went, in words."""
        return account_in_words(self._ledger.to_dict(self._messages)["sensors"])


def record_drive(bag: Path, out: Path, options: RecordOptions, show: Show | None = None) -> dict[str, Any]:
    """Record one bag into a folder of frames, see `DriveRecorder`; returns the drive's account.

    Raises:
        DsegError: The bag cannot be used.
    """
    with BagReader(bag) as reader:
        # A part without its account is from a run that was cut off between the two: made anew.
        part_path(out, reader.name).unlink(missing_ok=True)
        try:
            return DriveRecorder(reader, out, options, show).run()
        except DsegError as error:
            if error.where and not reader.notes:
                raise
            # What is missing may be on what is lost.
            what = "; ".join([error.what, *reader.notes])
            raise DsegError(what, where=error.where or bag, fix=error.fix) from None
