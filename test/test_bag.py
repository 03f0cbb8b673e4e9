"""BagReader on every kind of bag: the messages are the known ones, however they were stored."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bag_kinds import KINDS, Row
from bags import CAMERA, MS, START_NS, T_LIDAR_CAMERA, bag_rows
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from dseg_core import messages as ros
from dseg_core.bag import BagReader, BagWriter
from dseg_core.sensors_from_bag import sensors_from_bag
from dseg_core.stage_options import TopicOptions


def small_cloud(stamp: int) -> Any:
    """A flat street ahead."""
    x = np.arange(3, 12, dtype=np.float32)
    return ros.cloud_to_message(stamp, "lidar", {"x": x, "y": x % 3, "z": np.float32(stamp % 97 * 1e-4) - 1.8 + 0 * x})


def small_rows(count: int = 30) -> list[Row]:
    """Small messages, 10 ms apart; images differ in every pixel."""
    times = [10 * n for n in range(count)]
    return bag_rows(sweeps=times, images=[t + 3 for t in times], sweep=small_cloud)


def assert_same(found: Any, known: Any) -> None:
    """All fields that ROS 2 has are the same; ROS 1's names of them may be in upper case."""
    if is_dataclass(known):
        for field in fields(known):
            if field.name != "__msgtype__":
                name = field.name if hasattr(found, field.name) else field.name.upper()
                assert_same(getattr(found, name), getattr(known, field.name))
    elif isinstance(known, list):
        assert len(found) == len(known)
        for one, other in zip(found, known, strict=True):
            assert_same(one, other)
    else:
        np.testing.assert_array_equal(found, known)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_known_messages(tmp_path: Path, kind: str) -> None:
    rows = small_rows()
    path = KINDS[kind](tmp_path / "drive", rows)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and not p.name.endswith("-shm")}
    with BagReader(path) as reader:
        assert reader.name == "drive"
        assert {t.name: t.count for t in reader.topics} == Counter(topic for topic, _, _ in rows)
        assert {t.type.split("/")[1] for t in reader.topics} == {"msg"}
        assert (reader.start_ns, reader.end_ns) == (rows[0][2], rows[-1][2])
        found = list(reader.messages())
        assert [m.log_ns for m in found] == [row[2] for row in rows]
        found.sort(key=lambda m: (m.log_ns, m.topic))  # messages of one time have no order
        for message, (_, known, _) in zip(found, sorted(rows, key=lambda r: (r[2], r[0])), strict=True):
            assert_same(message.data, known)
        window = reader.messages(["/lidar/points"], START_NS + 50 * MS, START_NS + 80 * MS)
        assert [(m.topic, m.log_ns) for m in window] == [("/lidar/points", START_NS + t * MS) for t in (50, 60, 70)]
        assert reader.notes == [] or "without" in kind
        assert not reader.unreadable
        sensors = sensors_from_bag(reader, TopicOptions())
        assert sensors.lidar == "/lidar/points" and [c.name for c in sensors.cameras] == ["camera"]
        np.testing.assert_allclose(sensors.cameras[0].calibration.K, CAMERA.K)
        np.testing.assert_allclose(sensors.tree.lookup("lidar", "camera_optical", 0), T_LIDAR_CAMERA, atol=1e-12)
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_what_is_written_is_read_by_rosbags_and_mcap(tmp_path: Path, storage: str) -> None:
    rows = small_rows(5)
    with BagWriter(tmp_path / "drive", storage) as writer:
        for row in rows:
            writer.write(*row)
    with AnyReader([tmp_path / "drive"]) as reader:
        assert [log_ns for _, log_ns, _ in reader.messages()] == [row[2] for row in rows]
    information = yaml.safe_load((tmp_path / "drive" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert (information["version"], information["message_count"]) == (8, len(rows))
    assert information["starting_time"]["nanoseconds_since_epoch"] == rows[0][2]
    for topic in information["topics_with_message_count"]:
        metadata = topic["topic_metadata"]
        assert isinstance(metadata["offered_qos_profiles"], str)  # a list from version 9 on
        assert metadata["type_description_hash"].startswith("RIHS01_")
    if storage == "mcap":
        with (tmp_path / "drive" / "drive_0.mcap").open("rb") as file:
            for schema, channel, message in make_reader(file).iter_messages():
                assert schema is not None and (schema.encoding, channel.message_encoding) == ("ros2msg", "cdr")
                if schema.name == "sensor_msgs/msg/PointCloud2":
                    assert b"MSG: std_msgs/Header" in schema.data and b"MSG: sensor_msgs/PointField" in schema.data
                assert message.log_time in {row[2] for row in rows}
