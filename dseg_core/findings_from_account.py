"""What is wrong with what a folder of frames says of itself: metadata.yaml and summary.json against its parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dseg_core.errors import DsegError
from dseg_core.findings_from_frame import Finding
from dseg_core.findings_from_part import Seen
from dseg_core.options import read_yaml
from dseg_core.rosbag2_metadata import describe
from dseg_core.stage_options import PairingOptions
from dseg_core.store import read_json

_MAKE_METADATA = "`ros2 bag reindex -s mcap FRAMES` makes it anew"
_AGAIN = "Record the drive again: remove its part, then run `dseg record`"
_OURS = {"version", "custom_data", "ros_distro"}  # of whoever wrote metadata.yaml


def of_metadata(folder: Path, parts: Mapping[str, Seen]) -> Iterator[Finding]:
    """Findings on metadata.yaml. `parts`: by file name."""
    path = folder / "metadata.yaml"
    try:
        content = read_yaml(path).get("rosbag2_bagfile_information")
    except DsegError as error:
        yield Finding(error.what, str(path), _MAKE_METADATA)
        return
    listed = content.get("relative_file_paths") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(listed, list):
        yield Finding("is no metadata of rosbag2", str(path), _MAKE_METADATA)
        return
    for name in listed:
        if name not in list(parts):  # a list: what YAML holds may have no hash
            yield Finding(f"lists {name}, which is not here", str(path), _MAKE_METADATA)
    for name in parts:
        if name not in listed:
            yield Finding(f"does not list {name}", str(path), _MAKE_METADATA)
    if sorted(map(str, listed)) != sorted(parts) or any(seen.broken for seen in parts.values()):
        return  # counts cannot agree then
    for key, true in describe(folder)["rosbag2_bagfile_information"].items():
        if key in ("topics_with_message_count", "files"):
            if _counts_of(content.get(key)) != _counts_of(true):
                yield Finding(f"the counts under {key} are not those of the parts", str(path), _MAKE_METADATA)
        elif key not in _OURS and content.get(key) != true:
            yield Finding(f"{key} is {content.get(key)}, the parts have {true}", str(path), _MAKE_METADATA)


def _counts_of(rows: Any) -> list[tuple[str, str]]:
    """Names and counts. What else metadata.yaml tells, QoS and hashes, `ros2 bag reindex` may write differently."""
    named = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return sorted((str(r.get("path", _topic(r))), str(r.get("message_count"))) for r in named)


def _topic(row: Mapping[str, Any]) -> tuple[Any, Any]:
    topic = _mapping(row.get("topic_metadata"))
    return topic.get("name"), topic.get("type")


class Account:
    """`summary.json` as `dseg record` wrote it: drives, numbers, the pairing's options.

    `pairing` and `frames` are None where the file does not tell; `findings` then says why.
    """

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "summary.json")
        self.findings: list[Finding] = []
        self.pairing: PairingOptions | None = None
        self.results: Mapping[str, Any] = {}
        self.drives: dict[str, Mapping[str, Any]] = {}
        self.frames: int | None = None
        self.known = False
        try:
            content = read_json(folder / "summary.json")
        except DsegError as error:
            self._find(error.what, "Run `dseg record` again: without it drives are recorded anew")
            return
        self.results = _mapping(content.get("results"))
        if not isinstance(self.results.get("drives"), Mapping):
            self._find("lacks the drives that `dseg record` writes", "Record into another folder")
            return
        self.known = True
        self.drives = {drive: _mapping(row) for drive, row in self.results["drives"].items()}
        self.frames = _whole(self.results.get("frames"))
        pairing = _mapping(content.get("options")).get("pairing")
        try:
            if not isinstance(pairing, Mapping):
                raise DsegError(f"{pairing!r}")
            options = PairingOptions.from_mapping(pairing)
            options.known_offsets_ns([])  # raises where they cannot be read
            self.pairing = options
        except DsegError as error:
            self._find(f"has no options of pairing: {error}", "Record into another folder")

    def _find(self, what: str, fix: str) -> None:
        self.findings.append(Finding(what, self.path, fix))

    def against(self, parts: Mapping[str, Seen]) -> Iterator[Finding]:
        """Findings on its numbers. `parts`: by drive. Those of a part that is broken cannot agree and are left out."""
        if not self.known:
            return
        for drive in self.drives.keys() - parts.keys():
            yield Finding(f"tells of drive {drive}, which has no part", self.path, _AGAIN)
        for drive in parts.keys() - self.drives.keys():
            yield Finding(f"does not tell of drive {drive}", self.path, _AGAIN)
        for drive in sorted(self.drives.keys() & parts.keys()):
            if not self.drives[drive]:
                yield Finding(f"drive {drive}: has no account", self.path, _AGAIN)
                continue
            if not parts[drive].broken:
                yield from self._counts(drive, parts[drive])
                yield from self._offsets(drive, parts[drive])
            yield from self._sensors(drive)
        rows = [row for row in self.drives.values() if row]
        for name in ("frames", "views") if len(rows) == len(self.drives) > 0 else ():
            told, counts = self.results.get(name), [_whole(row.get(name)) for row in rows]
            true = None if None in counts else sum(count or 0 for count in counts)
            if true is not None and told != true:
                yield Finding(f"{told} {name} in all, its drives have {true}", self.path, _AGAIN)

    def _counts(self, drive: str, seen: Seen) -> Iterator[Finding]:
        for name, true in (("frames", seen.frames), ("views", seen.views.total())):
            told = self.drives[drive].get(name)
            if told != true:
                yield Finding(f"drive {drive}: {told} {name}, the part has {true}", self.path, _AGAIN)

    def _sensors(self, drive: str) -> Iterator[Finding]:
        """Whether every message of every sensor is accounted for."""
        for sensor, told in _mapping(self.drives[drive].get("sensors")).items():
            row = _mapping(told)
            ends = [_whole(row.get("paired")), _whole(row.get("surplus"))]
            ends += map(_whole, _mapping(row.get("dropped")).values())
            if None in ends or not isinstance(row.get("dropped"), Mapping):
                yield Finding(f"drive {drive}: {sensor} has no account", self.path, _AGAIN)
                continue
            total = sum(end or 0 for end in ends)
            if total != row.get("messages"):
                what = f"drive {drive}: {sensor} has {row.get('messages')} messages, {total} are accounted for"
                yield Finding(what, self.path, _AGAIN)

    def _offsets(self, drive: str, seen: Seen) -> Iterator[Finding]:
        if self.pairing is None or self.pairing.reference != "stamp":
            return
        constants = self.pairing.known_offsets_ns(list(seen.offsets_ns))
        spreads = _mapping(self.drives[drive].get("offsets_ms"))
        for camera, offsets in seen.offsets_ns.items():
            for name, true in (("min", min(offsets)), ("max", max(offsets))):
                told = _mapping(spreads.get(camera)).get(name)
                true_ms = (true - constants[camera]) / 1e6
                if not isinstance(told, int | float) or abs(told - true_ms) > 0.01:
                    what = f"drive {drive}: {name} offset of {camera} is {told} ms, in the part {true_ms:g}"
                    yield Finding(what, self.path, _AGAIN)


def _mapping(value: Any) -> Mapping[str, Any]:
    """The value, or an empty mapping where it is something else: JSON of any shape can be read."""
    return value if isinstance(value, Mapping) else {}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
