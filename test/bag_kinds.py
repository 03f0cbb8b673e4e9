"""The same messages in every kind of bag, written by rosbags, by mcap and by sqlite3 alone: not by what is tested."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import zstandard
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags import rosbag1, rosbag2
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from dseg_core.messages import register_extra_types, typestore

Row = tuple[str, Any, int]
ROS1 = get_typestore(Stores.ROS1_NOETIC)
register_extra_types(ROS1)
ROS1.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms\n", "tf2_msgs/msg/TFMessage"))
_TF_MD5 = "94810edda583a504dfda3829e70d7eec"  # of tf/tfMessage and tf2_msgs/TFMessage alike


def to_ros1(msg: Any) -> Any:
    """A message with the fields that ROS 1 gives its type: header.seq, and K, D, R, P in upper case."""
    if isinstance(msg, list):
        return [to_ros1(item) for item in msg]
    if not is_dataclass(msg):
        return msg
    kind = ROS1.types[msg.__msgtype__]
    values = {}
    for field in fields(kind):
        if field.name == "__msgtype__":
            continue
        values[field.name] = (
            7
            if field.name == "seq"
            else to_ros1(
                getattr(msg, field.name, None) if hasattr(msg, field.name) else getattr(msg, field.name.lower())
            )
        )
    return kind(**values)


def rosbag1_file(
    path: Path, rows: Sequence[Row], compression: str = "none", old_tf: bool = False, chunk: int = 1 << 20
) -> Path:
    path = path.with_name(path.name + ".bag")
    writer = rosbag1.Writer(path)
    if compression != "none":
        writer.set_compression(rosbag1.Writer.CompressionFormat[compression.upper()])
    writer.chunk_threshold = chunk
    with writer:
        connections: dict[str, Any] = {}
        for topic, msg, log_ns in rows:
            kind = msg.__msgtype__
            if topic not in connections:
                if old_tf and kind.startswith("tf2_msgs"):
                    msgdef = ROS1.generate_msgdef(kind)[0]
                    connections[topic] = writer.add_connection(topic, "tf/msg/tfMessage", msgdef=msgdef, md5sum=_TF_MD5)
                else:
                    connections[topic] = writer.add_connection(topic, kind, typestore=ROS1, latching=1)
            writer.write(connections[topic], log_ns, ROS1.serialize_ros1(to_ros1(msg), kind))
    return path


def rosbag2_folder(path: Path, rows: Sequence[Row], storage: str, mode: str = "NONE", version: Any = 9) -> Path:
    writer = rosbag2.Writer(path, version=version, storage_plugin=StoragePlugin[storage])
    if mode != "NONE":
        writer.set_compression(CompressionMode[mode], CompressionFormat.ZSTD)
    with writer:
        connections: dict[str, Any] = {}
        for topic, msg, log_ns in rows:
            kind = msg.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=typestore())
            writer.write(connections[topic], log_ns, typestore().serialize_cdr(msg, kind))
    return path


def mcap_file(
    path: Path, rows: Sequence[Row], compression: str = "NONE", chunk: int = 1 << 16, ros1: bool = False, **options: Any
) -> Path:
    """With chunks of `chunk` bytes, 0 for none; a log time of every message's own."""
    path = path.with_name(path.name + ".mcap")
    with path.open("wb") as file:
        writer = McapWriter(
            file, chunk_size=chunk or 1, compression=CompressionType[compression], use_chunking=bool(chunk), **options
        )
        writer.start(profile="ros1" if ros1 else "ros2", library="test")
        channels: dict[str, int] = {}
        for number, (topic, msg, log_ns) in enumerate(rows):
            kind = msg.__msgtype__
            if topic not in channels:
                if ros1:
                    text, name = ROS1.generate_msgdef(kind)[0], kind.replace("/msg/", "/")
                else:
                    text, name = typestore().generate_msgdef(kind, ros_version=2)[0], kind
                schema = writer.register_schema(name, "ros1msg" if ros1 else "ros2msg", text.encode())
                channels[topic] = writer.register_channel(topic, "ros1" if ros1 else "cdr", schema)
            data = ROS1.serialize_ros1(to_ros1(msg), kind) if ros1 else typestore().serialize_cdr(msg, kind)
            writer.add_message(channels[topic], log_ns, bytes(data), log_ns, number)
        writer.finish()
    return path


def humble_db3(path: Path, rows: Sequence[Row], wal: bool = False) -> Path:
    """A .db3 as Humble writes it: no definitions in it. `wal`: as a crash leaves it, all messages in the log."""
    path = path.with_name(path.name + ".db3")
    working = path.with_name("working.db3")
    database = sqlite3.connect(working)
    if wal:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA wal_autocheckpoint=0")
    database.executescript(
        "CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);"
        "CREATE TABLE metadata(id INTEGER PRIMARY KEY, metadata_version INTEGER NOT NULL, metadata TEXT NOT NULL);"
        "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,"
        " serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL);"
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL,"
        " data BLOB NOT NULL);"
        "CREATE INDEX timestamp_idx ON messages (timestamp ASC);"
        "INSERT INTO schema VALUES (3, 'humble');"
    )
    topics: dict[str, int] = {}
    for topic, msg, log_ns in rows:
        kind = msg.__msgtype__
        if topic not in topics:
            topics[topic] = len(topics) + 1
            database.execute("INSERT INTO topics VALUES (?, ?, ?, 'cdr', '')", (topics[topic], topic, kind))
        data = bytes(typestore().serialize_cdr(msg, kind))
        database.execute(
            "INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)", (topics[topic], log_ns, data)
        )
    database.commit()
    if wal:  # copied before SQLite can tidy up
        path.write_bytes(working.read_bytes())
        path.with_name(path.name + "-wal").write_bytes(working.with_name("working.db3-wal").read_bytes())
    database.close()
    if not wal:
        working.rename(path)
    for left in path.parent.glob("working.db3*"):
        left.unlink()
    return path


def split(
    path: Path,
    rows: Sequence[Row],
    version: int,
    make: Callable[..., Path] = mcap_file,
    parts: int = 3,
    metadata: bool = True,
) -> Path:
    """A rosbag2 folder of several files. Their times overlap, as those of several recorder threads do."""
    path.mkdir()
    files = [make(path / f"{path.name}_{n}", rows[n::parts]).name for n in range(parts)]
    if metadata:
        names = [f"{path.name}/{name}" for name in files] if version < 4 else files
        write_metadata(path, names, rows, version, "mcap" if make is mcap_file else "sqlite3")
    return path


def write_metadata(
    path: Path,
    names: Sequence[str],
    rows: Sequence[Row],
    version: int,
    storage: str,
    count: int | None = None,
    compression: str = "",
) -> None:
    """metadata.yaml as rosbag2 of the version writes it."""
    import yaml

    topics = {topic: msg.__msgtype__ for topic, msg, _ in rows}
    information: dict[str, Any] = {
        "version": version, "storage_identifier": storage, "relative_file_paths": list(names),
        "duration": {"nanoseconds": rows[-1][2] - rows[0][2]},
        "starting_time": {"nanoseconds_since_epoch": rows[0][2]},
        "message_count": len(rows) if count is None else count,
        "topics_with_message_count": [
            {"topic_metadata": {"name": topic, "type": kind, "serialization_format": "cdr"},
             "message_count": sum(row[0] == topic for row in rows)}
            for topic, kind in topics.items()
        ],
        "compression_format": "zstd" if compression else "", "compression_mode": compression,
    }  # fmt: skip
    if version >= 5:
        information["files"] = [{"path": name, "message_count": 0} for name in names]
    (path / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": information}))


def compressed_file(path: Path, rows: Sequence[Row], make: Callable[..., Path], metadata: bool = True) -> Path:
    """A rosbag2 folder of one file, compressed whole."""
    path.mkdir()
    file = make(path / f"{path.name}_0", rows)
    packed = file.with_name(file.name + ".zstd")
    packed.write_bytes(zstandard.ZstdCompressor(level=1).compress(file.read_bytes()))
    file.unlink()
    if metadata:
        write_metadata(path, [packed.name], rows, 5, "mcap" if make is mcap_file else "sqlite3", compression="FILE")
    return path


KINDS: dict[str, Callable[[Path, Sequence[Row]], Path]] = {
    "rosbag1": rosbag1_file,
    "rosbag1 bz2, small chunks": lambda p, r: rosbag1_file(p, r, "bz2", chunk=1000),
    "rosbag1 lz4, tf/tfMessage": lambda p, r: rosbag1_file(p, r, "lz4", old_tf=True),
    "sqlite3": lambda p, r: rosbag2_folder(p, r, "SQLITE3"),
    "sqlite3 version 8": lambda p, r: rosbag2_folder(p, r, "SQLITE3", version=8),
    "sqlite3 messages zstd": lambda p, r: rosbag2_folder(p, r, "SQLITE3", "MESSAGE"),
    "sqlite3 file zstd": lambda p, r: rosbag2_folder(p, r, "SQLITE3", "FILE"),
    "mcap": lambda p, r: rosbag2_folder(p, r, "MCAP"),
    "mcap messages zstd": lambda p, r: rosbag2_folder(p, r, "MCAP", "MESSAGE"),
    "mcap file zstd": lambda p, r: rosbag2_folder(p, r, "MCAP", "FILE"),
    "mcap storage zstd": lambda p, r: rosbag2_folder(p, r, "MCAP", "STORAGE"),
    "bare mcap none": mcap_file,
    "bare mcap lz4": lambda p, r: mcap_file(p, r, "LZ4"),
    "bare mcap zstd": lambda p, r: mcap_file(p, r, "ZSTD", chunk=2000),
    "bare mcap without chunks": lambda p, r: mcap_file(p, r, chunk=0),
    "bare mcap without statistics": lambda p, r: mcap_file(p, r, use_statistics=False),
    "bare mcap without summary": lambda p, r: mcap_file(
        p, r, use_statistics=False, use_summary_offsets=False, repeat_channels=False, repeat_schemas=False
    ),
    "bare mcap of ROS 1": lambda p, r: mcap_file(p, r, ros1=True),
    "bare db3 of Humble": humble_db3,
    "db3 with its log": lambda p, r: humble_db3(p, r, wal=True),
    **{f"split mcap version {v}": lambda p, r, v=v: split(p, r, v) for v in range(1, 10)},  # type: ignore[misc]
    "split sqlite3 version 5": lambda p, r: split(p, r, 5, humble_db3),
    "split compressed file": lambda p, r: compressed_file(p, r, humble_db3),
}
"""How to write a bag of each kind: (path without suffix, rows) -> the bag."""
