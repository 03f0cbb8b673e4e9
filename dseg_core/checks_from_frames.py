"""`dseg check`: whether a folder of recorded frames is whole and makes sense. Reads only."""

from __future__ import annotations

import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcap.exceptions import McapError
from mcap.reader import SeekingReader
from mcap.records import Channel, Chunk, Message
from mcap.stream_reader import StreamReader, breakup_chunk

from dseg_core import messages as ros
from dseg_core.errors import DsegError
from dseg_core.findings_from_frame import AGAIN, Finding, of_points, of_view, picture_size
from dseg_core.frame_messages import COLORS, POINTS_TOPIC, camera_of, unpack, unpack_points
from dseg_core.options import read_yaml
from dseg_core.progress import Summary, progress
from dseg_core.records import Frame
from dseg_core.rosbag2_metadata import describe
from dseg_core.stage_options import CheckOptions
from dseg_core.stage_options.record import PairingOptions
from dseg_core.store import read_json

_BROKEN = (McapError, EOFError, OSError, ValueError, RuntimeError, MemoryError, struct.error)
_KNOWN = {"metadata.yaml", "record.yaml", "summary.json", ".lock", "labels"}
_MAKE_METADATA = "`ros2 bag reindex -s mcap FRAMES` makes it anew"


@dataclass
class _Seen:
    """What was counted in one part."""

    frames: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    views: Counter[str] = field(default_factory=Counter)
    covered: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    offsets_ns: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    broken: bool = False
    last_ns: int | None = None


def check(frames: Path, options: CheckOptions) -> Summary:
    """Read all of a folder of frames and tell everything that is wrong, one line each; those are its `problems`.

    Raises:
        DsegError: There is no such folder.
    """
    if not frames.is_dir():
        raise DsegError("does not exist", where=frames, fix="`dseg record BAG --out FRAMES` makes frames")
    checker = _Checker(frames, options)
    findings = list(checker.run())
    problems = _lines([f for f in findings if not f.warning])
    notices = _lines([f for f in findings if f.warning])
    seen = checker.seen.values()
    count, views = sum(s.frames for s in seen), sum(s.views.total() for s in seen)
    how = "every picture decoded" if options.deep else "pictures not decoded"
    verdict = f"{len(problems)} problems, {len(notices)} warnings" if problems or notices else "nothing is wrong"
    text = f"Checked {count} frames with {views} views of {len(seen)} drives in {frames}, {how}: {verdict}."
    results = {"frames": count, "views": views, "drives": sorted(checker.seen), "warnings": list(notices)}
    return Summary("\n".join([text, *(f"warning: {line}" for line in notices)]), results, problems)


def _lines(findings: Sequence[Finding]) -> tuple[str, ...]:
    """One line for each thing and place; frames that have the same are counted."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for f in findings:
        stamps = groups.setdefault((f.what, f.where, f.fix), [])
        if f.stamp_ns is not None:
            stamps.append(f.stamp_ns)
    lines = []
    for (what, where, fix), stamps in groups.items():
        if stamps:
            what += f" ({len(stamps)} frames, first {stamps[0]})" if len(stamps) > 1 else f" (frame {stamps[0]})"
        lines.append(str(DsegError(what, where=where, fix=fix)))
    return tuple(lines)


class _Checker:
    def __init__(self, folder: Path, options: CheckOptions) -> None:
        self.folder, self.options = folder, options
        self.parts = sorted(folder.glob("*_0.mcap"))
        self.seen: dict[str, _Seen] = {}
        self.summary: Mapping[str, Any] = {}
        self._pairing: PairingOptions | None = None

    def run(self) -> Iterator[Finding]:
        """All findings: of the folder, of each part, of what the parts say together."""
        yield from self._strays()
        yield from self._read_summary()
        if not self.parts:
            yield Finding("holds no frames", str(self.folder), "`dseg record BAG --out FRAMES` makes frames")
        for item in progress(self._all_parts(), "check", self._steps(), "frame"):
            yield from item
        yield from self._metadata()
        yield from self._counts()
        for drive, seen in self.seen.items():
            for camera, shares in seen.covered.items():
                percent = 100 * sum(shares) / len(shares)
                if percent < self.options.least_share:
                    yield Finding(
                        f"regions cover {percent:.2f} % of the images",
                        f"{drive}/{camera}",
                        "The calibration is probably wrong: look with `dseg view FRAMES`",
                        warning=True,
                    )

    def _strays(self) -> Iterator[Finding]:
        for path in sorted(self.folder.iterdir()):
            if path.name in _KNOWN or path in self.parts:
                continue
            if path.name.endswith((".mcap.tmp", ".mcap.cut")):
                yield Finding(
                    "is an unfinished part", str(path), "Run its `dseg record` again: it keeps the whole frames"
                )
            elif path.suffix in (".mcap", ".db3"):
                yield Finding("is no part of frames, and no command reads it", str(path), "Move it elsewhere")
            else:
                yield Finding("does not belong here", str(path), "Move it elsewhere", warning=True)

    def _read_summary(self) -> Iterator[Finding]:
        path = self.folder / "summary.json"
        try:
            content = read_json(path)
            self.summary = content["results"]
            self.summary["drives"].items()
            self._pairing = PairingOptions.from_mapping(content["options"]["pairing"])
        except DsegError as error:
            yield Finding(error.what, str(path), "Run `dseg record` again: without it drives are recorded anew")
        except (KeyError, TypeError, AttributeError) as error:
            yield Finding(f"lacks what `dseg record` writes: {error}", str(path), "Record into another folder")

    def _steps(self) -> int | None:
        """Frames, and an index for each part; None where the summary does not tell."""
        frames = self.summary.get("frames")
        return frames + len(self.parts) if isinstance(frames, int) else None

    def _all_parts(self) -> Iterator[list[Finding]]:
        for part in self.parts:
            yield from self._part(part)

    def _part(self, part: Path) -> Iterator[list[Finding]]:
        """The part's findings, chunk by chunk."""
        drive = part.name.removesuffix("_0.mcap")
        seen = self.seen.setdefault(drive, _Seen())
        channels = _channels(part)  # from the index: a broken chunk may be the one that names them
        frame: list[Message] = []
        with part.open("rb") as file:
            try:
                for record in StreamReader(file, emit_chunks=True, validate_crcs=True).records:
                    if not isinstance(record, Chunk):
                        continue
                    try:
                        for inner in breakup_chunk(record, validate_crc=True):
                            if isinstance(inner, Channel):
                                channels[inner.id] = inner.topic
                            elif isinstance(inner, Message):
                                frame.append(inner)
                    except _BROKEN as error:
                        seen.broken, frame = True, []
                        yield [Finding(f"a chunk is broken: {error}", str(part), AGAIN, record.message_start_time)]
                        continue
                    if frame and channels.get(frame[-1].channel_id) == POINTS_TOPIC:
                        yield list(self._frame(drive, seen, {channels.get(m.channel_id, ""): m for m in frame}))
                        seen.messages.update(channels.get(m.channel_id, "") for m in frame)
                        frame = []
                if frame:
                    yield [Finding("ends with a frame that has no points", str(part), AGAIN)]
            except _BROKEN as error:
                if not seen.broken:  # the checksum of all data says no more than that of the chunk
                    yield [Finding(f"is broken: {error or type(error).__name__}", str(part), AGAIN)]
                seen.broken = True
        yield list(_index(part, seen))

    def _frame(self, drive: str, seen: _Seen, found: Mapping[str, Message]) -> Iterator[Finding]:
        stamp_ns = found[POINTS_TOPIC].log_time
        seen.frames += 1
        if any(m.log_time != stamp_ns for m in found.values()):
            yield Finding("messages of one frame have different log times", drive, AGAIN, stamp_ns)
        if seen.last_ns is not None and stamp_ns <= seen.last_ns:
            yield Finding("stamps do not grow", drive, AGAIN, stamp_ns)
        seen.last_ns = stamp_ns
        for topic, message in found.items():
            camera = camera_of(topic)
            if camera is not None:
                seen.views[camera] += 1
                seen.offsets_ns[camera].append(message.publish_time - stamp_ns)
        try:
            data = {topic: bytes(message.data) for topic, message in found.items()}
            frame = unpack(drive, data) if self.options.deep else unpack_points(drive, data[POINTS_TOPIC])
        except DsegError as error:
            yield Finding(error.what, error.where or drive, error.fix or AGAIN, stamp_ns)
            return
        except KeyError as error:
            yield Finding(f"a view lacks {error}", drive, AGAIN, stamp_ns)
            return
        except Exception as error:  # garbled CDR raises anything
            yield Finding(f"messages cannot be read: {type(error).__name__}", drive, AGAIN, stamp_ns)
            return
        if frame.stamp_ns != stamp_ns:
            yield Finding("the sweep's stamp is not its log time", drive, AGAIN, stamp_ns)
        yield from of_points(frame)
        yield from self._views(frame, seen, data)

    def _views(self, frame: Frame, seen: _Seen, data: Mapping[str, bytes]) -> Iterator[Finding]:
        tolerance, offsets = self._allowed(frame)
        for view in frame.views:
            agreement = self.options.least_agreement / 100
            yield from of_view(frame, view, tolerance, offsets.get(view.camera, 0), agreement)
            seen.covered[view.camera].append(float((view.regions != 0).mean()))
            preview: Any = ros.TYPESTORE.deserialize_cdr(
                data[f"/dseg/{view.camera}/{COLORS}"], "sensor_msgs/msg/CompressedImage"
            )
            try:
                picture_size(bytes(preview.data))
            except DsegError as error:
                where = f"{frame.drive}/{view.camera}"
                yield Finding(f"the preview of the regions {error.what}", where, AGAIN, frame.stamp_ns)

    def _allowed(self, frame: Frame) -> tuple[int | None, dict[str, int]]:
        """Tolerance and constant offsets, ns. The beam's crossing lies anywhere in the sweep's time."""
        if self._pairing is None:
            return None, {}
        tolerance = round(self._pairing.tolerance * 1e9)
        times = frame.sweep.time_ns
        if self._pairing.reference == "crossing" and times is not None and len(times):
            tolerance += int(abs(times).max())
        try:
            return tolerance, self._pairing.constant_offsets_ns([view.camera for view in frame.views])
        except DsegError:  # an offset of a camera that this frame has no view of
            cameras = self.summary["drives"].get(frame.drive, {}).get("cameras", {})
            return tolerance, self._pairing.constant_offsets_ns(list(cameras))

    def _metadata(self) -> Iterator[Finding]:
        path = self.folder / "metadata.yaml"
        try:
            content = read_yaml(path).get("rosbag2_bagfile_information")
        except DsegError as error:
            yield Finding(error.what, str(path), _MAKE_METADATA)
            return
        listed = content.get("relative_file_paths") if isinstance(content, dict) else None
        if not isinstance(content, dict) or not isinstance(listed, list):
            yield Finding("is no metadata of rosbag2", str(path), _MAKE_METADATA)
            return
        names = [part.name for part in self.parts]
        for name in listed:
            if name not in names:
                yield Finding(f"lists {name}, which is not here", str(path), _MAKE_METADATA)
        for name in names:
            if name not in listed:
                yield Finding(f"does not list {name}", str(path), _MAKE_METADATA)
        if sorted(map(str, listed)) != names or any(seen.broken for seen in self.seen.values()):
            return  # counts cannot agree then
        for key, true in describe(self.folder)["rosbag2_bagfile_information"].items():
            if key not in ("version", "custom_data", "ros_distro", "topics_with_message_count", "files") and (
                content.get(key) != true
            ):
                yield Finding(f"{key} is {content.get(key)}, the parts have {true}", str(path), _MAKE_METADATA)
            if key in ("topics_with_message_count", "files") and _counts_of(content.get(key)) != _counts_of(true):
                yield Finding(f"the counts under {key} are not those of the parts", str(path), _MAKE_METADATA)

    def _counts(self) -> Iterator[Finding]:
        """summary.json against what is in the parts."""
        path, drives = str(self.folder / "summary.json"), self.summary.get("drives", {})
        again = "Record the drive again: remove its part, then run `dseg record`"
        for drive in drives.keys() - self.seen.keys():
            yield Finding(f"tells of drive {drive}, which has no part", path, again)
        for drive in self.seen.keys() - drives.keys() if self.summary else ():
            yield Finding(f"does not tell of drive {drive}", path, again)
        for drive in sorted(drives.keys() & self.seen.keys()):
            row, seen = drives[drive], self.seen[drive]
            for name, true in (("frames", seen.frames), ("views", seen.views.total())):
                if row.get(name) != true:
                    yield Finding(f"drive {drive}: {row.get(name)} {name}, the part has {true}", path, again)
            for sensor, counts in row.get("sensors", {}).items():
                total = counts["paired"] + counts["surplus"] + sum(counts["dropped"].values())
                if total != counts["messages"]:
                    yield Finding(
                        f"drive {drive}: {sensor} has {counts['messages']}, of which {total} are", path, again
                    )
            yield from self._offsets(drive, row, seen, path, again)
        if drives:
            for name in ("frames", "views"):
                told, true = self.summary.get(name), sum(row.get(name, 0) for row in drives.values())
                if told != true:
                    yield Finding(f"{told} {name} in all, its drives have {true}", path, again)

    def _offsets(self, drive: str, row: Mapping[str, Any], seen: _Seen, path: str, fix: str) -> Iterator[Finding]:
        if self._pairing is None or self._pairing.reference != "stamp":
            return
        constants = self._pairing.constant_offsets_ns(list(row.get("cameras", seen.offsets_ns)))
        for camera, offsets in seen.offsets_ns.items():
            told = row.get("offsets_ms", {}).get(camera, {})
            for name, true in (("min", min(offsets)), ("max", max(offsets))):
                true_ms = (true - constants.get(camera, 0)) / 1e6
                if not isinstance(told.get(name), int | float) or abs(told[name] - true_ms) > 0.01:
                    what = f"drive {drive}: {name} offset of {camera} is {told.get(name)} ms, in the part {true_ms:g}"
                    yield Finding(what, path, fix)


def _counts_of(rows: Any) -> list[tuple[str, Any]]:
    named = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return sorted((str(r.get("path", r.get("topic_metadata"))), r.get("message_count")) for r in named)


def _channels(part: Path) -> dict[int, str]:
    """Topics by channel, as the index has them; none where it is broken, which `_index` tells."""
    with part.open("rb") as file:
        try:
            summary = SeekingReader(file).get_summary()
        except _BROKEN:
            return {}
    return {c.id: c.topic for c in summary.channels.values()} if summary is not None else {}


def _index(part: Path, seen: _Seen) -> Iterator[Finding]:
    """The part's index against its data; the format's own checksum of the index."""
    size = part.stat().st_size
    with part.open("rb") as file:
        try:
            summary = SeekingReader(file).get_summary()
            file.seek(max(0, size - 28))  # start of the index (8), its offsets (8), its checksum (4), magic (8)
            start, _, checksum = struct.unpack("<QQI", file.read(20))
            file.seek(start)
            true = zlib.crc32(file.read(size - 12 - start))
        except _BROKEN as error:
            if not seen.broken:
                yield Finding(f"has no index: {error}", str(part), AGAIN)
            seen.broken = True
            return
    if checksum not in (0, true):
        yield Finding("its index is broken", str(part), AGAIN)
        seen.broken = True
    elif summary is None or summary.statistics is None:
        yield Finding("has no index", str(part), AGAIN)
        seen.broken = True
    elif not seen.broken:
        told = {summary.channels[n].topic: c for n, c in summary.statistics.channel_message_counts.items()}
        if told != dict(seen.messages):
            yield Finding("its index counts other messages than it has", str(part), AGAIN)
