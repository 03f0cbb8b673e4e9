"""Damaged bags: what is whole is read, what is lost is counted and said, and nothing is made up."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from bag_kinds import KINDS, compressed_file, humble_db3, mcap_file, rosbag1_file, split, write_metadata
from bags import MS, START_NS, bag_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bag import assert_same, small_rows

from dseg_core.bag import BagReader, find_bags
from dseg_core.cli import main
from dseg_core.errors import DsegError
from dseg_core.records import Frame
from dseg_core.store import FrameStore

ROWS = small_rows(60)


def cut(path: Path, share: float) -> Path:
    """Cut a file off."""
    os.truncate(path, int(path.stat().st_size * share))
    return path


def garbage(path: Path, share: float, size: int = 700) -> Path:
    """Overwrite bytes in a file."""
    with path.open("r+b") as file:
        file.seek(int(path.stat().st_size * share))
        file.write(bytes((7 * n + 3) % 256 for n in range(size)))
    return path


def active(path: Path) -> Path:
    """A ROS 1 bag that is still being recorded: the index is not there yet, nor is its place."""
    content = bytearray(path.read_bytes())
    place = content.index(b"index_pos=") + len(b"index_pos=")
    (index,) = struct.unpack_from("<Q", content, place)
    content[place : place + 8] = bytes(8)
    path = path.with_name(path.name + ".active")
    path.write_bytes(content[:index])
    return path


def wrong_checksum(path: Path) -> Path:
    """The second chunk's checksum is another."""
    content = bytearray(path.read_bytes())
    place, chunks = 8, 0
    while chunks < 2:
        chunks += content[place] == 6
        if chunks < 2:
            place += 9 + struct.unpack_from("<Q", content, place + 1)[0]
    content[place + 9 + 24] ^= 0xFF
    path.write_bytes(content)
    return path


# name -> (how to make it, least share of messages that must be read, most, words that the notes must have)
DAMAGES: dict[str, tuple[Callable[[Path], Path], float, float, Sequence[str]]] = {
    "mcap cut in a chunk": (lambda p: cut(mcap_file(p, ROWS), 0.5), 0.45, 0.55, ["cut off", "mcap recover"]),
    "mcap lz4 cut": (lambda p: cut(mcap_file(p, ROWS, "LZ4"), 0.5), 0.4, 0.6, ["cut off", "mcap recover"]),
    "mcap zstd cut": (lambda p: cut(mcap_file(p, ROWS, "ZSTD"), 0.5), 0.35, 0.6, ["cut off", "mcap recover"]),
    "mcap without chunks cut": (lambda p: cut(mcap_file(p, ROWS, chunk=0), 0.5), 0.4, 0.55, ["mcap recover"]),
    "mcap without its end": (lambda p: cut(mcap_file(p, ROWS), 0.995), 0.98, 1.0, ["no end", "mcap recover"]),
    "mcap with garbage": (lambda p: garbage(mcap_file(p, ROWS), 0.5), 0.8, 0.95, ["checksum", "is lost"]),
    "mcap lz4 with garbage": (lambda p: garbage(mcap_file(p, ROWS, "LZ4"), 0.5), 0.8, 0.95, ["is lost"]),
    "mcap zstd with garbage": (lambda p: garbage(mcap_file(p, ROWS, "ZSTD"), 0.5), 0.6, 0.95, ["is lost"]),
    "mcap cut and garbage": (
        lambda p: cut(garbage(mcap_file(p, ROWS, chunk=1 << 14), 0.3, 30000), 0.8), 0.55, 0.8, ["broken", "cut off"],
    ),
    "mcap with a wrong checksum": (lambda p: wrong_checksum(mcap_file(p, ROWS)), 0.8, 0.95, ["checksum is wrong"]),
    "rosbag1 active": (lambda p: active(rosbag1_file(p, ROWS, chunk=20000)), 1.0, 1.0, ["rosbag reindex"]),
    "rosbag1 cut": (lambda p: cut(rosbag1_file(p, ROWS, chunk=20000), 0.5), 0.4, 0.6, ["rosbag reindex"]),
    "rosbag1 lz4 cut": (lambda p: cut(rosbag1_file(p, ROWS, "lz4", chunk=90000), 0.5), 0.3, 0.6, ["cut off"]),
    "rosbag1 bz2 garbage": (
        lambda p: garbage(rosbag1_file(p, ROWS, "bz2", chunk=30000), 0.5), 0.7, 0.97, ["are lost", "rosbag reindex"],
    ),
    "rosbag1 active garbage": (
        lambda p: garbage(active(rosbag1_file(p, ROWS, chunk=20000)), 0.5, 30000), 0.7, 0.98, ["left out"],
    ),
    "sqlite3 cut": (lambda p: cut(humble_db3(p, ROWS), 0.5), 0.4, 0.55, ["damaged", ".recover"]),
    "sqlite3 garbage": (lambda p: garbage(humble_db3(p, ROWS), 0.5, 9000), 0.8, 1.0, []),
    "compressed file cut": (
        lambda p: next(cut(next(f.glob("*.zstd")), 0.5).parent for f in [compressed_file(p, ROWS, mcap_file)]),
        0.3, 0.6, ["cut off", "metadata.yaml counts"],
    ),
}  # fmt: skip


# Neither format has checksums, so that pixels can be garbled unseen.
UNCHECKED = ("sqlite3 garbage", "rosbag1 active garbage")


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_whole_is_read_and_the_rest_is_said(tmp_path: Path, damage: str) -> None:
    make, least, most, words = DAMAGES[damage]
    known = {(topic, log_ns): data for topic, data, log_ns in ROWS}
    with BagReader(make(tmp_path / "drive")) as reader:
        counts = {topic.name: topic.count for topic in reader.topics}
        found: Counter[str] = Counter()
        times = []
        for got in reader.messages():
            if damage not in UNCHECKED:
                assert_same(got.data, known[got.topic, got.log_ns])
            found[got.topic] += 1
            times.append(got.log_ns)
        notes = " | ".join(reader.notes)
        assert least <= found.total() / len(ROWS) <= most, (found.total(), len(ROWS), notes)
        assert times == sorted(times)
        # Nothing goes missing unseen: counted is given out or accounted for.
        for topic, count in counts.items():
            assert count == found[topic] + reader.unreadable.get(topic, 0)
        assert all(word in notes for word in words), notes
        assert len(reader.notes) < 12
        again = list(reader.notes)
        assert sum(1 for _ in reader.messages()) == found.total()
        assert reader.notes == again


@pytest.mark.parametrize("name", ["drive.mcap", "drive.db3", "drive.bag", "drive.db3.zstd", "drive.bag.active"])
@pytest.mark.parametrize(
    "content", [b"", b"\x89MCAP0\r\n", b"SQLite format 3\0" + bytes(90), b"#ROSBAG V2.0\n", b"x" * 99]
)
def test_nothing_to_read_is_one_line_or_an_empty_bag(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    try:
        with BagReader(path) as reader:
            assert list(reader.messages()) == [] and reader.notes
    except DsegError as error:
        assert "\n" not in str(error) and name in str(error)


def test_a_folder_without_metadata_is_read_in_the_order_of_log_time(tmp_path: Path) -> None:
    split(tmp_path / "drive", ROWS, 9, metadata=False)
    assert find_bags([tmp_path]) == [tmp_path / "drive"] == find_bags([tmp_path / "drive"])
    with BagReader(tmp_path / "drive") as reader:
        assert [m.log_ns for m in reader.messages()] == [row[2] for row in ROWS]
        assert "metadata.yaml is missing" in reader.notes[0] and "drive_2.mcap" in reader.notes[0]


def test_a_folder_of_bags_is_not_one_bag(tmp_path: Path) -> None:
    for make, name in ((mcap_file, "one"), (humble_db3, "two"), (rosbag1_file, "three")):
        make(tmp_path / name, ROWS[:4])
    assert [p.name for p in find_bags([tmp_path])] == ["one.mcap", "three.bag", "two.db3"]


def test_metadata_of_a_killed_recorder_counts_nothing_and_misses_its_last_file(tmp_path: Path) -> None:
    folder = split(tmp_path / "drive", ROWS, 9)
    names = ["drive_0.mcap", "drive_1.mcap", "drive_7.mcap"]
    write_metadata(folder, names, ROWS, 9, "mcap", count=0)
    with BagReader(folder) as reader:
        assert sum(topic.count for topic in reader.topics) == len(list(reader.messages())) == len(ROWS)
        notes = " | ".join(reader.notes)
    assert "missing: drive_7.mcap" in notes and "does not name them: drive_2.mcap" in notes
    assert f"counts 0 messages, the files have {len(ROWS)}" in notes


def test_a_broken_file_among_others_costs_itself_only(tmp_path: Path) -> None:
    folder = split(tmp_path / "drive", ROWS, 9)
    (folder / "drive_1.mcap").write_bytes(b"")
    with BagReader(folder) as reader:
        assert len(list(reader.messages())) == len(ROWS) - len(ROWS[1::3])
        assert "drive_1.mcap is empty; it is left out" in reader.notes


@pytest.mark.parametrize(
    "text", ["{", "- 1", "rosbag2_bagfile_information: {}", "!!python/object/apply:os.system ['touch hit']"]
)
def test_metadata_that_is_broken_is_not_believed_and_runs_nothing(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = split(tmp_path / "drive", ROWS, 9)
    (folder / "metadata.yaml").write_text(text)
    with BagReader(folder) as reader:
        assert len(list(reader.messages())) == len(ROWS)
        assert "metadata.yaml is broken" in reader.notes[0]
    assert not (tmp_path / "hit").exists()


@pytest.mark.parametrize("name", ["../secret_0.mcap", "/etc/passwd", "a/../../secret_0.mcap", ".."])
def test_metadata_cannot_point_outside_the_bag(tmp_path: Path, name: str) -> None:
    mcap_file(tmp_path / "secret_0", ROWS)
    folder = split(tmp_path / "drive", ROWS, 9)
    write_metadata(folder, ["drive_0.mcap", name], ROWS, 9, "mcap")
    with pytest.raises(DsegError, match="outside of the bag"), BagReader(folder):
        pass


def test_links_inside_a_bag_are_followed(tmp_path: Path) -> None:
    folder = split(tmp_path / "drive", ROWS, 9)
    (folder / "drive_0.mcap").rename(tmp_path / "elsewhere.mcap")
    (folder / "drive_0.mcap").symlink_to(tmp_path / "elsewhere.mcap")
    with BagReader(folder) as reader:
        assert len(list(reader.messages())) == len(ROWS) and not reader.notes


def test_unknown_types_are_skipped_and_named(tmp_path: Path) -> None:
    path = humble_db3(tmp_path / "drive", ROWS)
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO topics VALUES (99, '/odd', 'odd_msgs/msg/Odd', 'cdr', '')")
        database.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (99, ?, x'00010000')", (START_NS,))
    with BagReader(path) as reader:
        assert len(list(reader.messages())) == len(ROWS)
        assert "/odd" not in [topic.name for topic in reader.topics]
        assert reader.notes == ["/odd is skipped, its type is odd_msgs/msg/Odd: the bag has no definition of it"]


def test_an_encoding_that_is_left_empty_is_cdr(tmp_path: Path) -> None:
    """As tools that rewrite bags leave it."""
    path = humble_db3(tmp_path / "drive", ROWS)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE topics SET serialization_format = ''")
    with BagReader(path) as reader:
        assert len(list(reader.messages())) == len(ROWS) and not reader.notes


def test_messages_that_cannot_be_deserialised_are_counted_and_skipped(tmp_path: Path) -> None:
    path = humble_db3(tmp_path / "drive", ROWS)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE messages SET data = x'00010000ffffffff' WHERE topic_id = 2 AND id < 20")
        (broken,) = database.execute("SELECT COUNT(*) FROM messages WHERE topic_id = 2 AND id < 20").fetchone()
        (name,) = database.execute("SELECT name FROM topics WHERE id = 2").fetchone()
    with BagReader(path) as reader:
        assert len(list(reader.messages())) == len(ROWS) - broken
        assert reader.unreadable == {name: broken}
        assert len(reader.notes) == 1 and reader.notes[0].startswith(f"{broken} messages of {name} cannot be read: ")


# Every sweep goes with the image of its own, 3 ms later, or with none: what is lost changes no other frame.
OWN_IMAGE = ["--pairing.tolerance", "0.004", "--store.image-format", "png"]


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Frame]:
    """The frames of the whole bag, by stamp."""
    folder = tmp_path_factory.mktemp("undamaged")
    bag = mcap_file(folder / "drive", ROWS)
    assert main(["record", str(bag), "--out", str(folder / "frames"), *OWN_IMAGE]) == 0
    frames = {frame.stamp_ns: frame for frame in FrameStore(folder / "frames").frames()}
    assert len(frames) == 60
    return frames


def assert_same_frame(found: Frame, known: Frame) -> None:
    np.testing.assert_array_equal(found.sweep.xyz, known.sweep.xyz)
    np.testing.assert_array_equal(found.proposals, known.proposals)
    (view,), (same,) = found.views, known.views
    assert (view.stamp_ns, view.image.data) == (same.stamp_ns, same.image.data)
    np.testing.assert_array_equal(view.calibration.K, same.calibration.K)
    np.testing.assert_array_equal(view.regions, same.regions)
    np.testing.assert_array_equal(view.T_image_sweep, same.T_image_sweep)


@pytest.mark.parametrize("damage", DAMAGES)
def test_record_keeps_the_whole_frames_of_a_damaged_bag_and_says_what_is_lost(
    tmp_path: Path, damage: str, undamaged: dict[int, Frame], capsys: pytest.CaptureFixture[str]
) -> None:
    make, least, most, words = DAMAGES[damage]
    bag, out = make(tmp_path / "drive"), tmp_path / "frames"
    with BagReader(bag) as reader:
        whole = {(m.topic, m.log_ns) for m in reader.messages()}
        # Of a calibration, the first message is enough: how many others there are is not asked.
        notes = [note for note in reader.notes if "messages of /camera/camera_info" not in note]
    assert main(["record", str(bag), "--out", str(out), *OWN_IMAGE]) == 0
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    # What the reader says of the bag is in what people read, a line each, and in the numbers.
    lines = told.out.splitlines()
    drive = json.loads((out / "summary.json").read_text())["results"]["drives"]["drive"]
    for note in notes:
        assert f"drive: {note}." in lines and note in drive["notes"]
    assert all(any(word in line for line in lines if line.startswith("drive: ")) for word in words)
    # Each frame whose two messages are whole is there, and no other; each is the undamaged bag's.
    frames = {frame.stamp_ns: frame for frame in FrameStore(out).frames()}
    if damage not in UNCHECKED:
        wanted = {
            stamp
            for stamp in undamaged
            if ("/lidar/points", stamp) in whole and ("/camera/image_raw", stamp + 3 * MS) in whole
        }
        assert frames.keys() == wanted
    same = 0
    for stamp, frame in frames.items():
        if damage in UNCHECKED and (stamp not in undamaged or not is_same(frame, undamaged[stamp])):
            continue
        assert_same_frame(frame, undamaged[stamp])
        same += 1
    assert 60 * least - 2 <= same <= 60 * most
    # Every message is accounted for, and what was written is in order.
    assert drive["frames"] == len(frames) == drive["sensors"]["lidar"]["paired"]
    for row in drive["sensors"].values():
        assert row["messages"] == row["paired"] + row["surplus"] + sum(row["dropped"].values())
    assert main(["check", str(out)]) == 0


def is_same(found: Frame, known: Frame) -> bool:
    try:
        assert_same_frame(found, known)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("kind", ["rosbag1", "rosbag1 lz4, tf/tfMessage", "sqlite3 messages zstd", "bare mcap zstd",
                                  "split mcap version 9", "db3 with its log", "bare mcap of ROS 1"])  # fmt: skip
def test_record_makes_the_same_frames_of_every_kind(tmp_path: Path, kind: str) -> None:
    bag, out = KINDS[kind](tmp_path / "drive", bag_rows()), tmp_path / "frames"
    assert main(["record", str(bag), "--out", str(out)]) == 0
    drive = json.loads((out / "summary.json").read_text())["results"]["drives"]["drive"]
    assert (drive["frames"], drive["views"]) == (3, 3)
    assert drive["notes"] == ["/lidar/points: points have no times"]  # of the points, and nothing of the bag


FUZZED: dict[str, Callable[[Path], Path]] = {
    "mcap": lambda p: mcap_file(p, FEW, chunk=1 << 13),
    "mcap lz4": lambda p: mcap_file(p, FEW, "LZ4", chunk=1 << 14),
    "mcap zstd": lambda p: mcap_file(p, FEW, "ZSTD", chunk=1 << 14),
    "mcap without chunks": lambda p: mcap_file(p, FEW, chunk=0),
    "rosbag1": lambda p: rosbag1_file(p, FEW, chunk=20000),
    "rosbag1 bz2": lambda p: rosbag1_file(p, FEW, "bz2", chunk=30000),
    "rosbag1 active": lambda p: active(rosbag1_file(p, FEW, "lz4", chunk=30000)),
    "sqlite3": lambda p: humble_db3(p, FEW),
    "compressed file": lambda p: compressed_file(p, FEW, mcap_file),
}
FEW = small_rows(6)
CHECKED = ("mcap", "mcap lz4", "mcap zstd")  # chunks of these have checksums
WHOLE: dict[str, tuple[str, bytes]] = {}


def damage_anyhow(data: st.DataObject) -> None:
    """Cut a bag off and overwrite bytes anywhere: it is read as far as it is whole, or refused in one line."""
    kind = data.draw(st.sampled_from(sorted(FUZZED)))
    with TemporaryDirectory() as folder:
        if kind not in WHOLE:
            made = FUZZED[kind](Path(folder) / "drive")
            made = next(made.glob("*.zstd")) if made.is_dir() else made
            WHOLE[kind] = (made.name, made.read_bytes())
            shutil.rmtree(made.parent if made.parent != Path(folder) else made, ignore_errors=True)
        name, content = WHOLE[kind][0], bytearray(WHOLE[kind][1])
        for _ in range(data.draw(st.integers(0, 4))):
            at = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 200))
            patch = data.draw(st.sampled_from([b"\0" * 8, b"\xff" * 8, bytes(range(256)) * 8]) | st.binary(max_size=12))
            content[at : at + len(patch)] = patch
        content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]
        path = Path(folder) / name
        path.write_bytes(content)
        known = {(topic, log_ns): message for topic, message, log_ns in FEW}
        try:
            with BagReader(path) as reader:
                counts = {topic.name: topic.count for topic in reader.topics}
                found: Counter[str] = Counter()
                for got in reader.messages():
                    found[got.topic] += 1
                    if kind in CHECKED:
                        assert_same(got.data, known[got.topic, got.log_ns])
                missing = {name: count - found[name] for name, count in counts.items() if count != found[name]}
                assert missing == reader.unreadable
                assert all("\n" not in note for note in reader.notes)
                assert reader.notes or found.total() >= len(FEW) or kind not in CHECKED
        except DsegError as error:
            assert "\n" not in str(error) and name in str(error)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_is_read_past_or_refused(data: st.DataObject) -> None:
    damage_anyhow(data)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(st.data())
def test_much_damage_is_read_past_or_refused(data: st.DataObject) -> None:
    damage_anyhow(data)


def test_a_bag_that_may_not_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = mcap_file(tmp_path / "bag.mcap", ROWS)

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("dseg_core.bag.reader.open_part", refuse)
    assert main(["inspect", str(bag)]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.endswith(
        f"{bag}: Permission denied. `ls -ld` shows who may read and write there; allow it, or give another place"
    )
