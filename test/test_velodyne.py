"""Velodyne packets written here by the manuals' format, against points worked out from the manuals' angles."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bags
import numpy as np
import pytest
from bags import MS, START_NS, write_bag
from hypothesis import given, settings
from hypothesis import strategies as st

from dseg_core import messages as ros
from dseg_core.cli import main
from dseg_core.errors import DsegError
from dseg_core.frames_from_bag import record
from dseg_core.stage_options import RecordOptions, TopicOptions
from dseg_core.store import FrameStore

pytest.importorskip("velodyne_decoder")
STAMP = START_NS + 123_456_789
# VLP-16 manual, table 9-1: elevation of each channel, degrees; laser centres meet 41.91 mm from the axis.
VLP16 = [-15, 1, -13, 3, -11, 5, -9, 7, -7, 9, -5, 11, -3, 13, -1, 15]
FLAGS = {"low": 0xEEFF, "high": 0xDDFF}
Range = Callable[[np.ndarray, int], np.ndarray]


def packet(blocks: Sequence[tuple[int, int, np.ndarray]], microseconds: int, mode: int, model: int) -> np.ndarray:
    """1206 bytes: 12 blocks of (flag, azimuth in 0.01 deg, 32 ranges in the sensor's unit; intensities are 1..32)."""
    assert len(blocks) == 12
    data = b""
    for flag, azimuth, ranges in blocks:
        data += struct.pack("<HH", flag, azimuth % 36000)
        data += b"".join(struct.pack("<HB", int(r), i + 1) for i, r in enumerate(ranges))
    data += struct.pack("<IBB", microseconds % 3_600_000_000, mode, model)
    assert len(data) == 1206
    return np.frombuffer(data, np.uint8)


def scan(packets: Sequence[tuple[int, np.ndarray]], stamp: int, frame: str = "lidar") -> Any:
    """velodyne_msgs/VelodyneScan of (stamp, data) packets."""
    made = [
        ros.message("velodyne_msgs/msg/VelodynePacket", stamp=ros.header(when, "").stamp, data=data)
        for when, data in packets
    ]
    return ros.message("velodyne_msgs/msg/VelodyneScan", header=ros.header(stamp, frame), packets=made)


def vlp16_turn(reach: Range, stamp: int, start_us: int = 1_000_000, dual: Range | None = None) -> Any:
    """One turn of a VLP-16 at 10 Hz, from azimuth 0 clockwise: 76 packets of 24 firings, stamped like the last one.

    `reach`: metres for azimuths [deg, clockwise from x], and a channel.
    """
    period, per_packet = 55.296, 12 if dual else 24
    turns = int(np.ceil(100_000 / period / per_packet))
    packets = []
    for number in range(turns):
        first_us = number * per_packet * period
        blocks = []
        for block in range(12):
            firing = (block // 2 if dual else block) * 2  # the block's first of two
            at = (first_us + firing * period) / 100_000 * 360
            use = dual if dual and block % 2 == 0 else reach  # even blocks: the last return
            ranges = np.zeros(32)
            for channel in range(32):
                away = (first_us + (firing + channel // 16) * period + channel % 16 * 2.304) / 100_000 * 360
                ranges[channel] = np.round(use(np.array([away]), channel % 16)[0] / 0.002)
            blocks.append((FLAGS["low"], round(at * 100), ranges))
        late = round(first_us) - round((turns - 1) * per_packet * period)
        packets.append((stamp + late * 1000, packet(blocks, start_us + round(first_us), 0x39 if dual else 0x37, 0x22)))
    return scan(packets, stamp)


def test_a_vlp16_at_ten_metres() -> None:
    """Every channel at its own range: rings, points and times by the manual."""
    sweep = ros.sweep_from_message(vlp16_turn(lambda a, c: np.full(len(a), 10.0 + c), STAMP))
    assert sweep.stamp_ns == STAMP and sweep.frame_id == "lidar" and sweep.rows == 0
    assert sweep.ring is not None and sweep.time_ns is not None and sweep.intensity is not None
    assert len(sweep) == 76 * 12 * 32
    index = np.arange(len(sweep))
    channel, firing = index % 16, index // 16
    np.testing.assert_array_equal(sweep.ring, np.argsort(np.argsort(VLP16))[channel])
    np.testing.assert_array_equal(sweep.intensity, index % 32 + 1)
    # Times: firing by firing, negative up to the last packet, which the stamp is of.
    measured = firing * 55.296 + channel * 2.304
    np.testing.assert_allclose(sweep.time_ns / 1e3, measured - round(75 * 24 * 55.296), atol=1.5)
    elevation, azimuth = np.deg2rad(np.array(VLP16)[channel]), np.deg2rad(measured / 100_000 * 360)
    reach = 10.0 + channel
    expected = np.stack(
        [
            reach * np.cos(elevation) * np.cos(azimuth),
            -reach * np.cos(elevation) * np.sin(azimuth),
            reach * np.sin(elevation),
        ],
        axis=1,
    )
    # Azimuths are sent in 0.01 deg (4 mm here); the lasers' own heights, up to 12 mm, are not in `expected`.
    assert np.abs(sweep.xyz - expected).max() < 0.02
    np.testing.assert_allclose(sweep.xyz[:, :2], expected[:, :2], atol=0.01)


def test_times_go_on_over_the_full_hour_and_without_a_set_clock() -> None:
    """The packets' clock counts from the hour; its turn is in mid-scan, or it is nowhere near the computer's."""
    ten: Range = lambda a, c: np.full(len(a), 10.0)  # noqa: E731
    usual = ros.sweep_from_message(vlp16_turn(ten, STAMP))
    for start_us in (3_600_000_000 - 50_000, 1_234_567_890):
        other = ros.sweep_from_message(vlp16_turn(ten, STAMP, start_us))
        np.testing.assert_allclose(other.time_ns, usual.time_ns, atol=1000)
    early = vlp16_turn(ten, STAMP)
    early.header = ros.header(STAMP - 100 * MS, "lidar")  # a driver told to stamp the first packet
    np.testing.assert_array_equal(ros.sweep_from_message(early).time_ns, usual.time_ns + 100 * MS)
    far = vlp16_turn(ten, STAMP)
    far.header = ros.header(STAMP - 10**10, "lidar")
    assert ros.sweep_from_message(far).time_ns is None


def test_both_returns_are_points() -> None:
    msg = vlp16_turn(
        lambda a, c: np.full(len(a), 10.0), STAMP, dual=lambda a, c: np.full(len(a), 14.0 if c == 3 else 10.0)
    )
    sweep = ros.sweep_from_message(msg)
    distance = np.linalg.norm(sweep.xyz, axis=1)
    assert ((np.abs(distance - 10) < 0.02) | (np.abs(distance - 14) < 0.02)).all()
    assert np.mean(distance > 12) == pytest.approx(1 / 17, abs=1e-3)
    assert sweep.ring is not None
    np.testing.assert_array_equal(np.unique(sweep.ring[distance > 12]), [9])  # 3 deg
    (note,) = ros.cloud_notes(msg)
    assert "second returns: 6%" in note


def lasers(path: Path, angles: Sequence[float]) -> Path:
    rows = [f"- {{laser_id: {i}, rot_correction: 0.0, vert_correction: {a}}}" for i, a in enumerate(np.deg2rad(angles))]
    path.write_text(f"num_lasers: {len(rows)}\ndistance_resolution: 0.002\nlasers:\n" + "\n".join(rows) + "\n")
    return path


def hdl64_packet(metres: float) -> np.ndarray:
    ranges = np.full(32, round(metres / 0.002))
    blocks = [(FLAGS["high" if i % 2 else "low"], 9000 + i // 2 * 17, ranges) for i in range(12)]
    return packet(blocks, 5_000_000, 0x48, 0x13)  # the last bytes are status


def test_an_hdl64_is_named_and_has_its_own_angles(tmp_path: Path) -> None:
    msg = scan([(STAMP, hdl64_packet(20.0))], STAMP)
    with pytest.raises(DsegError, match=r"do not name.*velodyne-model"):
        ros.sweep_from_message(msg)
    with pytest.raises(DsegError, match=r"No calibration.*velodyne-calibration"):
        ros.sweep_from_message(msg, "HDL64E_S3")
    angles = np.linspace(2, -24.8, 64)
    sweep = ros.sweep_from_message(msg, "HDL64E_S3", lasers(tmp_path / "mine.yaml", angles))
    assert len(sweep) == 12 * 32 and sweep.ring is not None
    np.testing.assert_allclose(np.linalg.norm(sweep.xyz, axis=1), 20.0, atol=0.01)
    laser = np.tile(np.arange(64), 6)
    np.testing.assert_array_equal(sweep.ring, 63 - laser)
    np.testing.assert_allclose(np.rad2deg(np.arcsin(sweep.xyz[:, 2] / 20)), angles[laser], atol=0.05)
    assert (sweep.xyz[:, 1] < -17).all()  # azimuth 90 deg clockwise of x: to the right
    for content, match in (("lasers: 3", "is no calibration"), ("[", "is no calibration")):
        (tmp_path / "broken.yaml").write_text(content)
        with pytest.raises(DsegError, match=match):
            ros.sweep_from_message(msg, "HDL64E_S3", tmp_path / "broken.yaml")
    with pytest.raises(DsegError, match="has 16 lasers, but a HDL64E_S3 has 64"):
        ros.sweep_from_message(msg, "HDL64E_S3", lasers(tmp_path / "other.yaml", VLP16))


def test_wrong_packets_cost_one_line() -> None:
    good = vlp16_turn(lambda a, c: np.full(len(a), 10.0), STAMP)
    assert len(ros.sweep_from_message(scan([], STAMP))) == 0
    with pytest.raises(DsegError, match=r"Expected model ID.*velodyne-model"):
        ros.sweep_from_message(good, "VLP32C")
    short = scan([(STAMP, np.zeros(512, np.uint8))], STAMP)
    with pytest.raises(DsegError, match="not of 1206 bytes"):
        ros.sweep_from_message(short)
    mixed = scan([(STAMP, good.packets[0].data), (STAMP, np.zeros(1206, np.uint8))], STAMP)
    with pytest.raises(DsegError, match="Velodyne packets"):
        ros.sweep_from_message(mixed)


def test_without_the_decoder_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "velodyne_decoder", None)
    with pytest.raises(DsegError, match=r"dseg_ros\[velodyne\]"):
        ros.sweep_from_message(scan([(STAMP, hdl64_packet(20.0))], STAMP))


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([0x21, 0x22, 0x23, 0x24, 0x28, 0x31, 0xA1, 0x00]),
    st.lists(st.binary(min_size=1206, max_size=1206), min_size=1, max_size=3),
    st.sampled_from(["auto", "VLP16", "VLP32A", "VLS128", "HDL64E_S1", "HDL32E"]),
    st.booleans(),
)
def test_any_bytes_are_points_or_an_error(code: int, data: list[bytes], model: str, flagged: bool) -> None:
    packets = []
    for one in data:
        raw = np.frombuffer(one, np.uint8).copy()
        raw[-2:] = 0x37, code
        if flagged:
            raw[:1200].reshape(12, 100)[:, :2] = np.frombuffer(struct.pack("<H", FLAGS["low"]), np.uint8)
        packets.append((STAMP, raw))
    try:
        sweep = ros.sweep_from_message(scan(packets, STAMP), model)
    except DsegError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(sweep.xyz).all() and sweep.ring is not None and len(sweep.ring) == len(sweep)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_of_packets_gives_frames(tmp_path: Path, storage: str) -> None:
    """Street and a wall 8 m ahead; the same frames from packets as from the points that they hold."""

    def street(azimuth: np.ndarray, channel: int) -> np.ndarray:
        elevation, ahead = np.deg2rad(VLP16[channel]), np.cos(np.deg2rad(azimuth))
        with np.errstate(divide="ignore"):
            wall = np.where(ahead > 0.9, 8.0 / (ahead * np.cos(elevation)), np.inf)
            ground = np.full(len(azimuth), -1.8 / np.sin(elevation) if elevation < 0 else np.inf)
        reach = np.minimum(wall, ground)
        return np.where(reach < 60, reach, 0.0)

    def points(stamp: int) -> Any:
        sweep = ros.sweep_from_message(vlp16_turn(street, stamp))
        assert sweep.time_ns is not None
        columns: dict[str, Any] = {axis: sweep.xyz[:, i] for i, axis in enumerate("xyz")}
        times = (sweep.time_ns / 1e9).astype(np.float32)
        return ros.cloud_to_message(stamp, "lidar", columns | {"ring": sweep.ring, "time": times})

    record(
        [
            write_bag(tmp_path / "packets", sweep=lambda stamp: vlp16_turn(street, stamp), storage=storage),
            write_bag(tmp_path / "points", sweep=points),
        ],
        tmp_path / "frames",
        RecordOptions(topics=TopicOptions(velodyne_model="VLP16")),
    )
    store = FrameStore(tmp_path / "frames")
    one, other = (store.frame(drive, START_NS) for drive in ("packets", "points"))
    np.testing.assert_array_equal(one.proposals, other.proposals)
    np.testing.assert_array_equal(one.views[0].regions, other.views[0].regions)
    assert (one.proposals == 1).any() and (one.views[0].regions >= 2).mean() > 0.2
    assert bags.CAMERA.width == one.views[0].regions.shape[1]


def test_a_bag_that_cannot_be_decoded_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "drive", sweep=lambda stamp: scan([(stamp, hdl64_packet(20.0))], stamp))
    for match in ("--topics.velodyne-model", "pip install 'dseg_ros[velodyne]'"):
        capsys.readouterr()
        assert main(["record", str(bag), "--out", str(tmp_path / "frames")]) == 1
        shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dseg record:")]
        assert len(shown) == 1 and match in shown[0] and "drive" in shown[0]
        monkeypatch.setitem(sys.modules, "velodyne_decoder", None)


def test_points_go_before_packets(tmp_path: Path) -> None:
    packets = vlp16_turn(lambda a, c: np.full(len(a), 10.0), START_NS)
    bag = write_bag(tmp_path / "drive", more=[("/velodyne_packets", packets, START_NS)])
    record([bag], tmp_path / "frames", RecordOptions())
    assert len(FrameStore(tmp_path / "frames").frame("drive", START_NS).sweep) < 12_000
