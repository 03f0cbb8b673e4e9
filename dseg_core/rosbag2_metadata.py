"""rosbag2's metadata.yaml of a folder of MCAP parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from mcap.reader import SeekingReader

from dseg_core.errors import DsegError
from dseg_core.progress import write_whole

ROOT = "rosbag2_bagfile_information"


def write_metadata(folder: Path) -> None:
    """Write rosbag2's metadata.yaml (version 8) for the parts that are in the folder."""
    write_whole(folder / "metadata.yaml", yaml.safe_dump(describe(folder), sort_keys=False).encode())


def describe(folder: Path) -> dict[str, Any]:
    """What metadata.yaml (version 8) says of the folder's parts. Raises DsegError for one with no index."""
    parts = sorted(folder.glob("*_0.mcap"))
    files: list[tuple[str, int, int, int]] = []
    counts: dict[str, int] = defaultdict(int)
    told: dict[str, dict[str, str]] = {}
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
            told[channel.topic] = {
                "name": channel.topic,
                "type": summary.schemas[channel.schema_id].name,
                "serialization_format": channel.message_encoding,
                "offered_qos_profiles": channel.metadata.get("offered_qos_profiles", ""),
                "type_description_hash": channel.metadata.get("topic_type_hash", ""),
            }
    return _metadata(files, counts, told)


def _metadata(
    files: Sequence[tuple[str, int, int, int]], counts: dict[str, int], told: dict[str, dict[str, str]]
) -> dict[str, Any]:
    with_messages = [f for f in files if f[3]]
    start = min((f[1] for f in with_messages), default=0)
    end = max((f[2] for f in with_messages), default=0)
    topics = [{"topic_metadata": told[topic], "message_count": counts[topic]} for topic in sorted(counts)]
    return {
        ROOT: {
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
