"""rosbag2's metadata.yaml: which files a bag has, and writing it for a folder of MCAP parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from mcap.reader import SeekingReader

from dseg_core.bag.names import is_bag_file, part_order
from dseg_core.bag.part import Note
from dseg_core.errors import DsegError
from dseg_core.progress import write_whole

_ROOT = "rosbag2_bagfile_information"


def read_metadata(folder: Path, note: Note) -> tuple[list[Path], int | None]:
    """The files of a bag that are there, in the order of recording, and how many messages metadata.yaml counts.

    Files that it does not list are among them, since a recorder that is killed has not listed its last one.

    Raises:
        DsegError: A file's path leads outside the folder.
    """
    here = sorted((path for path in folder.iterdir() if is_bag_file(path)), key=part_order)
    try:
        information = yaml.safe_load((folder / "metadata.yaml").read_text(encoding="utf-8"))[_ROOT]
        names = [str(name) for name in information["relative_file_paths"]]
        claimed = int(information["message_count"])
    except (yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError) as error:
        what = " ".join(str(error).split())[:200]
        note(f"metadata.yaml is broken ({what}); all files beside it are read. `ros2 bag reindex` makes a new one")
        return here, None
    listed = [_inside(folder, name) for name in names]
    missing = [path.name for path in listed if not path.is_file()]
    if missing:
        note(f"metadata.yaml names files that are missing: {', '.join(missing)}. Copy them, or `ros2 bag reindex`")
    stems = {path.name.removesuffix(".zstd") for path in listed if path.is_file()}
    unlisted = [path for path in here if path.name.removesuffix(".zstd") not in stems]
    if unlisted:
        names = [path.name for path in unlisted]
        note(f"read though metadata.yaml does not name them: {', '.join(names)}. `ros2 bag reindex` makes a new one")
    return [path for path in listed if path.is_file()] + unlisted, claimed


def _inside(folder: Path, name: str) -> Path:
    """A file's path from metadata.yaml. Up to version 3 it begins with the folder's name, of the day of recording."""
    path = PurePosixPath(name)
    if ".." in path.parts or (path.is_absolute() and Path(path).parent != folder.resolve()) or not path.name:
        raise DsegError(
            f"metadata.yaml names a file outside of the bag: {name}", where=folder, fix="Correct relative_file_paths"
        )
    return folder / path.name


def write_metadata(folder: Path) -> None:
    """Write rosbag2's metadata.yaml (version 8) for the parts that are in the folder."""
    write_whole(folder / "metadata.yaml", yaml.safe_dump(describe(folder), sort_keys=False).encode())


def describe(folder: Path) -> dict[str, Any]:
    """What metadata.yaml (version 8) says of the folder's parts. Raises DsegError for one with no index."""
    parts = sorted(folder.glob("*_0.mcap"))
    files: list[tuple[str, int, int, int]] = []
    counts: dict[str, int] = defaultdict(int)
    kinds: dict[str, str] = {}
    for part in parts:
        with part.open("rb") as file:
            summary = SeekingReader(file).get_summary()
        if summary is None or summary.statistics is None:
            raise DsegError("has no index", where=part, fix="Remove it and record its drive again")
        statistics = summary.statistics
        start, end = statistics.message_start_time, statistics.message_end_time
        files.append((part.name, start, end, statistics.message_count))
        for number, count in statistics.channel_message_counts.items():
            channel = summary.channels[number]
            counts[channel.topic] += count
            kinds[channel.topic] = summary.schemas[channel.schema_id].name
    return _metadata(files, counts, kinds)


def _metadata(
    files: Sequence[tuple[str, int, int, int]], counts: dict[str, int], kinds: dict[str, str]
) -> dict[str, Any]:
    with_messages = [f for f in files if f[3]]
    start = min((f[1] for f in with_messages), default=0)
    end = max((f[2] for f in with_messages), default=0)
    topics = [
        {
            "topic_metadata": {
                "name": topic, "type": kinds[topic], "serialization_format": "cdr", "offered_qos_profiles": "",
                "type_description_hash": "",
            },
            "message_count": counts[topic],
        }
        for topic in sorted(counts)
    ]  # fmt: skip
    return {
        _ROOT: {
            "version": 8,
            "storage_identifier": "mcap",
            "duration": {"nanoseconds": end - start},
            "starting_time": {"nanoseconds_since_epoch": start},
            "message_count": sum(counts.values()),
            "topics_with_message_count": topics,
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [f[0] for f in files],
            "files": [
                {
                    "path": name,
                    "starting_time": {"nanoseconds_since_epoch": first},
                    "duration": {"nanoseconds": last - first},
                    "message_count": count,
                }
                for name, first, last, count in files
            ],
            "custom_data": None,
            "ros_distro": "humble",
        }
    }
