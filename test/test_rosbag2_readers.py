"""What is written is what rosbag2's readers of Humble and Jazzy ask for: their rules, spelt out, on metadata and parts.

The rules are those of `rosbag2_storage` (yaml.hpp, qos.cpp; metadata_io.cpp in Humble), of the sequential reader of
`rosbag2_cpp`, and of `rosbag2_storage_mcap`; where yaml-cpp converts a node, this does it as strictly.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from bags import bag_rows, write_bag
from mcap.reader import SeekingReader
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from dseg_core.bag.mcap_writer import type_hash
from dseg_core.frame_writer import FrameWriter
from dseg_core.frames_from_bag import record
from dseg_core.messages import EXTRA_DEFINITIONS, typestore
from dseg_core.stage_options import RecordOptions
from dseg_core.store import FrameStore

# As `ros2 topic info --verbose` shows them in Iron, Jazzy and later.
PUBLISHED = {
    "sensor_msgs/msg/Image": "RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47",
    "sensor_msgs/msg/CompressedImage": "RIHS01_15640771531571185e2efc8a100baf923961a4d15d5569652e6cb6691e8e371a",
    "sensor_msgs/msg/CameraInfo": "RIHS01_b3dfd68ff46c9d56c80fd3bd4ed22c7a4ddce8c8348f2f59c299e73118e7e275",
    "sensor_msgs/msg/PointCloud2": "RIHS01_9198cabf7da3796ae6fe19c4cb3bdd3525492988c70522628af5daa124bae2b5",
    "geometry_msgs/msg/TransformStamped": "RIHS01_0a241f87d04668d94099cbb5ba11691d5ad32c2f29682e4eb5653424bd275206",
    "tf2_msgs/msg/TFMessage": "RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087",
    "std_msgs/msg/Header": "RIHS01_f49fb3ae2cf070f793645ff749683ac6b06203e41c891e17701b1cb597ce6a01",
}
QOS = ("history", "depth", "reliability", "durability", "deadline", "lifespan", "liveliness",
       "liveliness_lease_duration", "avoid_ros_namespace_conventions")  # fmt: skip
TRANSIENT_LOCAL = 1


class Hash(ctypes.Structure):
    """rosidl_type_hash_t."""

    _fields_ = (("version", ctypes.c_uint8), ("value", ctypes.c_uint8 * 32))


def hash_of_ros(kind: str) -> str | None:
    """What ROS's own compiled type support says, from its wheels; None where it has no such type."""
    package, _, name = kind.split("/")
    library = Path(sys.prefix) / "lib" / f"lib{package}__rosidl_generator_c.so"
    if not library.is_file():
        return None
    ask = getattr(ctypes.CDLL(str(library)), f"{package}__msg__{name}__get_type_hash", None)
    if ask is None:
        return None
    ask.restype, ask.argtypes = ctypes.POINTER(Hash), [ctypes.c_void_p]
    found = ask(None).contents
    return f"RIHS{found.version:02d}_{bytes(found.value).hex()}"


@pytest.mark.parametrize("kind", PUBLISHED)
def test_hashes_are_the_published_ones(kind: str) -> None:
    assert type_hash(kind) == PUBLISHED[kind]
    assert hash_of_ros(kind) in (None, PUBLISHED[kind])


def test_hashes_of_all_types_that_are_as_in_jazzy() -> None:
    """Humble's definitions are written, and the hash is theirs: of a type that Jazzy has changed it is another."""
    compared, differing = 0, []
    for kind in sorted(typestore().fielddefs):
        true = hash_of_ros(kind) if kind.split("/")[0] not in ("rmw_dds_common", "test_msgs") else None
        if true is not None:
            compared += 1
            differing += [kind] if type_hash(kind) != true else []
    if not compared:
        pytest.skip("ROS's wheels are not installed: pip install 'dseg_ros[ros]'")
    # Jazzy's Range has a variance; rosbags reads char as uint8, as ROS 2 says, but hashes it as that, too.
    assert compared > 100 and differing == ["sensor_msgs/msg/Range", "std_msgs/msg/Char"]
    assert get_typestore(Stores.ROS2_JAZZY).hash_rihs01("sensor_msgs/msg/Range") == hash_of_ros("sensor_msgs/msg/Range")


def scalar(node: Any, name: str) -> str:
    """yaml-cpp's as<std::string>: of a scalar that is there."""
    assert isinstance(node[name], str), name
    return str(node[name])


def count(node: Any, name: str) -> int:
    """yaml-cpp's as<uint64_t>."""
    text = scalar(node, name)
    assert text.isdecimal() and int(text) < 2**64, (name, text)
    return int(text)


def read_qos(text: str) -> list[dict[str, Any]]:
    """to_rclcpp_qos_vector: nothing, or a sequence of profiles; numbers up to version 8, which 9 recognises."""
    if not text:
        return []
    profiles = yaml.load(text, yaml.BaseLoader)  # noqa: S506  # all scalars stay text, as yaml-cpp's nodes
    assert isinstance(profiles, list)
    for profile in profiles:
        assert set(profile) == set(QOS)
        for name in ("history", "depth", "reliability", "durability", "liveliness"):
            assert count(profile, name) <= (10**6 if name == "depth" else 4)
        for name in ("deadline", "lifespan", "liveliness_lease_duration"):
            assert count(profile[name], "sec") >= 0 and count(profile[name], "nsec") < 10**9
        assert profile["avoid_ros_namespace_conventions"] in ("true", "false")
    return profiles


def read_metadata(folder: Path) -> dict[str, Any]:
    """metadata.yaml as version 8 is read, its files opened and its topics checked as before playing."""
    document = yaml.load((folder / "metadata.yaml").read_text(), yaml.BaseLoader)  # noqa: S506
    told = document["rosbag2_bagfile_information"]
    assert count(told, "version") == 8
    assert scalar(told, "storage_identifier") in ("mcap", "sqlite3")
    for node in (told, *told["files"]):
        assert count(node["duration"], "nanoseconds") >= 0
        assert count(node["starting_time"], "nanoseconds_since_epoch") > 0
    topics: dict[str, Any] = {}
    assert isinstance(told["topics_with_message_count"], list) and told["topics_with_message_count"]
    for row in told["topics_with_message_count"]:
        topic = row["topic_metadata"]
        topics[scalar(topic, "name")] = {
            "type": scalar(topic, "type"),
            "format": scalar(topic, "serialization_format"),
            "qos": read_qos(scalar(topic, "offered_qos_profiles")),
            "hash": scalar(topic, "type_description_hash"),
            "count": count(row, "message_count"),
        }
    assert {topic["format"] for topic in topics.values()} == {"cdr"}, "all of one format, or it is not played"
    assert sum(topic["count"] for topic in topics.values()) == count(told, "message_count")
    for name in ("compression_format", "compression_mode"):
        assert scalar(told, name) == ""
    assert told["custom_data"] in ("null", "~", "") or all(isinstance(v, str) for v in told["custom_data"].values())
    assert scalar(told, "ros_distro")
    paths = told["relative_file_paths"]
    assert isinstance(paths, list) and paths == [scalar(file, "path") for file in told["files"]]
    assert all((folder / path).is_file() and "/" not in path for path in paths)
    assert sum(count(file, "message_count") for file in told["files"]) == count(told, "message_count")
    return {"topics": topics, "files": paths}


def read_part(path: Path) -> dict[str, Any]:
    """An MCAP file's topics as rosbag2_storage_mcap tells them, as where there is no metadata.yaml."""
    with path.open("rb") as file:
        reader = SeekingReader(file)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        assert reader.get_header().profile == "ros2"
        assert all("serialized_metadata" in m.metadata for m in reader.iter_metadata() if m.name == "rosbag2")
    topics = {}
    for number, channel in summary.channels.items():
        schema = summary.schemas[channel.schema_id]
        assert schema.encoding == "ros2msg"
        topics[channel.topic] = {
            "type": schema.name,
            "format": channel.message_encoding,
            "qos": read_qos(channel.metadata["offered_qos_profiles"]),
            "hash": channel.metadata["topic_type_hash"],
            "count": summary.statistics.channel_message_counts.get(number, 0),
        }
        # The hash is of the definition beside it, by whoever reads that.
        store = get_typestore(Stores.EMPTY)
        store.register(get_types_from_msg(schema.data.decode(), schema.name))
        assert store.hash_rihs01(schema.name) == topics[channel.topic]["hash"]
    return topics


def test_a_folder_of_frames_is_read(tmp_path: Path) -> None:
    bags = [write_bag(tmp_path / "one"), write_bag(tmp_path / "two", sweeps=(0, 100), images=(0, 100))]
    record(bags, tmp_path / "frames", RecordOptions(threads=1))
    read = read_metadata(tmp_path / "frames")
    assert read["files"] == ["one_0.mcap", "two_0.mcap"]
    parts = [read_part(tmp_path / "frames" / name) for name in read["files"]]
    assert len(read["topics"]) == 6
    for name, topic in read["topics"].items():
        assert topic["hash"] == PUBLISHED[topic["type"]]
        assert topic["count"] == 5 == sum(part[name]["count"] for part in parts)
        assert all(part[name] == {**topic, "count": part[name]["count"]} for part in parts)


def test_frames_written_before_there_were_hashes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record([write_bag(tmp_path / "drive")], tmp_path / "frames", RecordOptions(threads=1))
    (frame, *_) = FrameStore(tmp_path / "frames").frames()
    monkeypatch.setattr("dseg_core.bag.mcap_writer.type_hash", lambda kind: "")
    with FrameWriter(tmp_path / "old", "drive") as writer:
        writer.write(frame)
    assert {topic["hash"] for topic in read_metadata(tmp_path / "old")["topics"].values()} == {""}


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_is_read_and_its_mounting_is_latched(tmp_path: Path, storage: str) -> None:
    """/tf_static is heard by tf2's listeners, who come later and ask for what is kept, when the bag is played."""
    rows = bag_rows()
    bag = write_bag(tmp_path / "drive", storage=storage)
    topics = read_metadata(bag)["topics"]
    assert {name: topic["type"] for name, topic in topics.items()} == {name: m.__msgtype__ for name, m, _ in rows}
    assert all(topic["hash"] == PUBLISHED[topic["type"]] for topic in topics.values())
    assert [int(profile["durability"]) for profile in topics["/tf_static"]["qos"]] == [TRANSIENT_LOCAL]
    assert not any(topic["qos"] for name, topic in topics.items() if name != "/tf_static")
    if storage == "mcap":
        assert read_part(bag / "drive_0.mcap") == topics
    with AnyReader([bag]) as reader:
        (mounting,) = (c for c in reader.connections if c.topic == "/tf_static")
        (profile,) = mounting.ext.offered_qos_profiles  # type: ignore[union-attr]
        assert (profile.durability.name, profile.reliability.name) == ("TRANSIENT_LOCAL", "RELIABLE")


def test_every_extra_type_has_a_hash() -> None:
    assert len({type_hash(kind) for kind in EXTRA_DEFINITIONS}) == len(EXTRA_DEFINITIONS)
