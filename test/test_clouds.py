"""Clouds as drivers lay them out: the same points, beams and times from each, or the reason why not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bags
import lidars
import numpy as np
import pytest
from bags import START_NS, write_bag
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dseg_core import messages as ros
from dseg_core.errors import DsegError
from dseg_core.frames_from_bag import record
from dseg_core.lidar.rows import rows_of
from dseg_core.messages.point_times import LONGEST_NS, times_from_column
from dseg_core.proposals_from_sweep import proposals_from_sweep
from dseg_core.records import Sweep
from dseg_core.stage_options import ProposalOptions, RecordOptions
from dseg_core.store import FrameStore, read_json

STAMP = START_NS + 123_456_789
SIZES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
I1, U1, I2, U2, I4, U4, F4, F8 = SIZES


def packed(fields: Sequence[tuple[str, int, int]], step: int, columns: dict[str, Any], stamp: int = STAMP) -> Any:
    """A PointCloud2 with fields (name, offset, datatype), bytes between them set to rubbish, written field by field."""
    n = len(next(iter(columns.values())))
    data = np.random.default_rng(1).integers(0, 256, (n, step)).astype(np.uint8)
    for name, offset, kind in fields:
        raw = np.asarray(columns[name]).astype("<" + SIZES[kind])
        data[:, offset : offset + raw.itemsize] = raw.view(np.uint8).reshape(n, -1)
    return ros.message(
        "sensor_msgs/msg/PointCloud2", header=ros.header(stamp, "lidar"), height=1, width=n, is_bigendian=False,
        fields=[ros.message("sensor_msgs/msg/PointField", name=f, offset=o, datatype=k, count=1) for f, o, k in fields],
        point_step=step, row_step=step * n, data=data.reshape(-1), is_dense=True,
    )  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """A driver's fields and what they hold: times by name, as a function of ns since the sweep began.

    `begin_ns`: of the sweep, after the stamp. `precise_ns`: to which times are known; None where there are none.
    """

    fields: tuple[tuple[str, int, int], ...]
    step: int
    time: str = ""
    unit: float = 1.0
    absolute: bool = False
    begin_ns: int = 0
    precise_ns: float | None = None
    ring: str = ""

    def message(self, xyz: np.ndarray, ring: np.ndarray, since_ns: np.ndarray, stamp: int = STAMP) -> Any:
        columns: dict[str, Any] = {name: np.arange(len(xyz)) % 100 for name, _, _ in self.fields}
        columns |= {name: xyz[:, "xyz".index(name.lower())] for name, _, _ in self.fields if name.lower() in "xyz"}
        if self.ring:
            columns[self.ring] = ring
        if self.time:
            ns = since_ns + self.begin_ns + (stamp if self.absolute else 0)
            kind = next(k for name, _, k in self.fields if name == self.time)
            whole = [int(t) for t in ns]
            columns[self.time] = (
                [round(t / self.unit) for t in whole] if kind < F4 else np.array(whole, np.float64) / self.unit
            )
        return packed(self.fields, self.step, columns, stamp)


XYZI = (("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("intensity", 16, F4))
TIGHT = (("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("intensity", 12, F4))
VELODYNE = (*TIGHT, ("ring", 16, U2), ("time", 18, F4))
HESAI = (*XYZI, ("timestamp", 24, F8), ("ring", 32, U2))
OUSTER = (*(*XYZI, ("t", 20, U4), ("reflectivity", 24, U2), ("ring", 26, U2), ("ambient", 28, U2), ("range", 32, U4)),)
LAYOUTS = {
    "velodyne_pointcloud, stamped at the end": Layout(VELODYNE, 22, "time", 1e9, False, -100_000_000, 10, "ring"),
    "velodyne_pointcloud, stamped at the start": Layout(VELODYNE, 22, "time", 1e9, False, 0, 10, "ring"),
    "ouster_ros": Layout(OUSTER, 48, "t", precise_ns=0.5, ring="ring"),
    "ouster_ros, 8 bit rings": Layout(
        (*XYZI, ("t", 20, U4), ("reflectivity", 24, U2), ("ring", 26, U1), ("ambient", 28, U2), ("range", 32, U4)), 48,
        "t", precise_ns=0.5, ring="ring"),
    "hesai": Layout(HESAI, 48, "timestamp", 1e9, True, 0, 300, "ring"),
    "hesai, stamped at the end": Layout(HESAI, 48, "timestamp", 1e9, True, -100_000_000, 300, "ring"),
    "robosense": Layout(
        (*TIGHT, ("ring", 16, U2), ("timestamp", 18, F8)), 26, "timestamp", 1e9, True, -99_000_000, 300, "ring"),
    "livox_ros_driver2": Layout(
        (*TIGHT, ("tag", 16, U1), ("line", 17, U1), ("timestamp", 18, F8)), 26, "timestamp", 1.0, True, 0, 260),
    "aeva": Layout(
        (("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("reflectivity", 12, F4), ("velocity", 16, F4),
         ("time_offset_ns", 20, I4), ("line_index", 24, U1), ("intensity", 25, F4)), 29,
        "time_offset_ns", precise_ns=0.5, ring="line_index"),
    "innovusion": Layout(
        (("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("timestamp", 16, F8), ("intensity", 24, U2), ("flags", 26, U1),
         ("scan_id", 28, U2), ("scan_idx", 30, U2)), 32, "timestamp", 1e9, True, 0, 300, "scan_id"),
    "nuscenes": Layout((*TIGHT, ("ring", 16, F4)), 20, ring="ring"),
    "autoware PointXYZIRCAEDT": Layout(
        (("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("intensity", 12, U1), ("return_type", 13, U1),
         ("channel", 14, U2), ("azimuth", 16, F4), ("elevation", 20, F4), ("distance", 24, F4),
         ("time_stamp", 28, U4)), 32, "time_stamp", precise_ns=0.5, ring="channel"),
    "autoware PointXYZIRADRT": Layout(
        (*XYZI, ("ring", 20, U2), ("azimuth", 24, F4), ("distance", 28, F4), ("return_type", 32, U1),
         ("time_stamp", 40, F8)), 48, "time_stamp", 1e9, True, 0, 300, "ring"),
    "kitti": Layout(TIGHT, 16),
    "carla": Layout(TIGHT, 16),
    "semantickitti": Layout((("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("label", 12, U4), ("i", 16, F4)), 20),
    "float64, capital names": Layout(
        (("X", 0, F8), ("Y", 8, F8), ("Z", 16, F8), ("Intensity", 24, F8), ("Ring", 32, U2), ("Time", 40, F4)), 48,
        "Time", 1e9, False, 0, 10, "Ring"),
    "microseconds since the start": Layout((*TIGHT, ("t", 16, U4)), 20, "t", 1e3, False, 0, 501),
    "microseconds as floats": Layout((*TIGHT, ("time", 16, F4)), 20, "time", 1e3, False, 0, 10),
    "milliseconds as floats": Layout((*TIGHT, ("time", 16, F4)), 20, "time", 1e6, False, 0, 10),
    "absolute nanoseconds": Layout((*XYZI, ("t", 24, F8)), 32, "t", 1.0, True, 0, 260),
    "absolute microseconds": Layout((*XYZI, ("t", 24, F8)), 32, "t", 1e3, True, 0, 260),
}  # fmt: skip
RINGS = [name for name, layout in LAYOUTS.items() if layout.ring]


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_drivers_write(name: str) -> None:
    layout, rng = LAYOUTS[name], np.random.default_rng(0)
    xyz = rng.uniform(-50, 50, (1000, 3)).astype(np.float32)
    ring, since = np.arange(1000) % 64, np.sort(rng.integers(0, 100_000_000, 1000))
    msg = layout.message(xyz, ring, since)
    sweep = ros.sweep_from_message(msg)
    assert (sweep.stamp_ns, sweep.frame_id) == (STAMP, "lidar")
    np.testing.assert_array_equal(sweep.xyz, xyz)
    assert sweep.xyz.dtype == np.float32 and sweep.xyz.flags.c_contiguous
    assert sweep.intensity is not None and sweep.intensity.dtype == np.float32
    np.testing.assert_array_equal(sweep.intensity, np.arange(1000) % 100)
    if layout.ring:
        assert sweep.ring is not None and sweep.ring.dtype == np.uint16
        np.testing.assert_array_equal(sweep.ring, ring)
    else:
        assert sweep.ring is None
    notes = ros.cloud_notes(msg)
    if layout.precise_ns is None:
        assert sweep.time_ns is None and notes == ("points have no times",)
    else:
        assert sweep.time_ns is not None and sweep.time_ns.dtype == np.int64
        np.testing.assert_allclose(sweep.time_ns, since + layout.begin_ns, atol=layout.precise_ns, rtol=0)
        unit = {1e3: "us", 1e6: "ms"}.get(layout.unit)
        expected = () if unit is None or layout.absolute else (f"point times are read as {unit} since the stamp",)
        assert notes == expected


@pytest.mark.parametrize("name", LAYOUTS)
def test_equal_points_give_equal_regions(name: str, tmp_path: Path) -> None:
    """`dseg record` over each layout, beside plain x, y, z and the same beams."""
    layout = LAYOUTS[name]
    xyz, ring = bags.scene(), bags.rings()
    since = np.tile(np.arange(360) * 277_777, 32)
    write_bag(tmp_path / "layout", sweep=lambda stamp: layout.message(xyz, ring, since, stamp))

    def plain(stamp: int) -> Any:
        columns: dict[str, Any] = {axis: xyz[:, i].copy() for i, axis in enumerate("xyz")}
        return ros.cloud_to_message(stamp, "lidar", columns | ({"ring": ring} if layout.ring else {}))

    write_bag(tmp_path / "plain", sweep=plain)
    record([tmp_path / "layout", tmp_path / "plain"], tmp_path / "frames", RecordOptions())
    store = FrameStore(tmp_path / "frames")
    one, other = (store.frame(drive, START_NS) for drive in ("layout", "plain"))
    np.testing.assert_array_equal(one.proposals, other.proposals)
    np.testing.assert_array_equal(one.views[0].regions, other.views[0].regions)
    assert len(np.unique(one.views[0].regions)) > 2
    drives = read_json(tmp_path / "frames" / "summary.json")["results"]["drives"]
    said = [note for note in drives["layout"]["notes"] if note.startswith("/lidar/points: ")]
    assert ("/lidar/points: points have no times" in said) == (layout.precise_ns is None)


def times(column: Any, kind: str, stamp: int = STAMP) -> tuple[Any, str]:
    found, note = times_from_column(np.array(column).astype(kind), stamp)
    return (None if found is None else found.tolist()), note


REFUSED: list[tuple[str, Any, str, str]] = [
    ("float32 seconds since 1970", STAMP / 1e9 + np.linspace(0, 0.1, 50), "f4", "steps of 128 s: too coarse"),
    ("float32 since 1970, at a step", [1.7e9 - 64, 1.7e9 + 64, 1.7e9 + 128], "f4", "steps of 128 s"),
    ("clock of TAI", STAMP / 1e9 + 37 + np.linspace(0, 0.1, 50), "f8", r"\+37.0 s from the header stamp"),
    ("clock that was never set", 77 + np.linspace(0, 0.1, 50), "f8", "no known unit or clock"),
    ("hours", np.linspace(0, 3000, 50), "f4", "no known unit or clock"),
    ("further from the stamp than frames can say", np.linspace(0, 3, 50), "f4", "no known unit or clock"),
    ("the same as of a clock", STAMP / 1e9 + np.linspace(-3, 0, 50), "f8", "by another clock"),
    ("a sweep of 1 us", np.arange(1000), "u4", "no known unit or clock"),
    ("whole seconds", [1_700_000_000, 1_700_000_001], "u4", "steps of 1 s: too coarse"),
    ("zeros", np.zeros(50), "f4", "all points have the same time"),
    ("NaN", [0.0, np.nan, 0.1], "f4", "not finite"),
    ("infinite", [0.0, np.inf, 0.1], "f8", "not finite"),
    ("huge", [0.0, 1e300], "f8", "not finite or no times"),
    ("uint64 that no clock shows", [0, 2**64 - 1], "u8", "no known unit"),
]


@pytest.mark.parametrize(("column", "kind", "match"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_times_of_no_use_are_none_with_the_reason(column: Any, kind: str, match: str) -> None:
    found, note = times_from_column(np.array(column, kind), STAMP)
    assert found is None
    assert re.search(match, note), note


def test_times_of_a_simulation_that_has_just_begun() -> None:
    """Absolute and relative are both within 2 s of the stamp: the nearer reading counts."""
    stamp = 1_050_000_000
    assert times([1.05, 1.15], "f8", stamp)[0] == [0, 100_000_000]
    assert times([0.0, 0.1], "f8", stamp)[0] == [0, 100_000_000]
    assert times([-0.1, 0.0], "f4", stamp)[0] == [-100_000_001, 0]
    assert times([1_050_000_000, 1_150_000_000], "u4", stamp)[0] == [0, 100_000_000]
    assert times([100.05, 100.15], "f4", 100_050_000_000)[0] == pytest.approx([0, 100_000_000], abs=8000)
    assert times([], "f4") == (None, "")


@given(st.sampled_from(["s", "ms", "us", "ns"]), st.booleans(), st.integers(5, 300), st.integers(-300, 300))
def test_the_unit_is_told_or_nothing_is(unit: str, real: bool, length_ms: int, begin_ms: int) -> None:
    """Sweeps of 5 to 300 ms, anywhere near their stamp, in any unit: right or refused, never another unit's."""
    if begin_ms + length_ms > 300 or begin_ms < -300:
        begin_ms = 0
    size = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0}[unit]
    ns = np.linspace(begin_ms * 1e6, (begin_ms + length_ms) * 1e6, 200)
    column = (ns / size).astype(np.float64) if real else np.round(ns / size).astype(np.int64)
    found, _ = times_from_column(column, STAMP)
    if found is not None:
        np.testing.assert_allclose(found, ns, atol=max(1.0, 0 if real else size))
    else:
        assert not real and unit in ("s", "ms")


def test_points_without_a_return_are_left_out() -> None:
    """Zeros and NaN, organised: what stays keeps its row as its ring; what is near is kept, and in no proposal."""
    xyz = np.ones((12, 3), np.float32) * 5
    xyz[[0, 5]], xyz[7], xyz[8] = 0, np.nan, [0, 0, 0.2]
    columns = {axis: xyz[:, i].copy() for i, axis in enumerate("xyz")}
    since = np.where(np.isin(np.arange(12), [0, 5, 7]), 0.0, STAMP / 1e9 + np.arange(12) * 0.01)
    msg = ros.cloud_to_message(STAMP, "lidar", columns | {"timestamp": since}, rows=3)
    sweep = ros.sweep_from_message(msg)
    kept = [1, 2, 3, 4, 6, 8, 9, 10, 11]
    np.testing.assert_array_equal(sweep.xyz, xyz[kept])
    np.testing.assert_array_equal(sweep.ring, [i // 4 for i in kept])
    assert sweep.rows == 0 and sweep.time_ns is not None
    np.testing.assert_allclose(sweep.time_ns, np.array(kept) * 10_000_000, atol=300)
    with_ring = ros.cloud_to_message(STAMP, "lidar", columns | {"ring": np.arange(12, dtype=np.uint8)}, rows=3)
    np.testing.assert_array_equal(ros.sweep_from_message(with_ring).ring, kept)
    whole = ros.sweep_from_message(ros.cloud_to_message(0, "l", {a: np.ones(12, np.float32) for a in "xyz"}, rows=3))
    assert whole.rows == 3 and whole.ring is None


def test_organised_rows_with_gaps_are_beams() -> None:
    """As Ouster sends them without a ring, half of the sky without return: the same proposals as with rings."""
    xyz, ring = np.nan_to_num(bags.scene()), bags.rings()
    columns = {axis: xyz[:, i].copy() for i, axis in enumerate("xyz")}
    one = ros.sweep_from_message(ros.cloud_to_message(STAMP, "l", columns, rows=32))
    other = ros.sweep_from_message(ros.cloud_to_message(STAMP, "l", columns | {"ring": ring}))
    found = [proposals_from_sweep(sweep, ProposalOptions()) for sweep in (one, other)]
    np.testing.assert_array_equal(*found)
    assert found[0].max() >= 2


@pytest.mark.parametrize("columns", [300, 900])
def test_organised_firings_with_gaps_are_no_beams_but_their_columns_are(columns: int) -> None:
    """As rslidar_sdk sends them: the message's rows are firings, its columns are beams, and misses are NaN."""
    table = np.linspace(15, -25, 32)
    ray, ring = lidars.spinning(table, columns)
    xyz, truth = lidars.cast(ray, ((6.0, 9.0, -1.0, 1.0, 1.5),))
    order = np.arange(len(xyz)).reshape(32, columns).T.reshape(-1)
    xyz, ring, truth = xyz[order], ring[order], truth[order]
    fields = {axis: np.where(truth > 0, xyz[:, i], np.nan).astype(np.float32) for i, axis in enumerate("xyz")}
    one = ros.sweep_from_message(ros.cloud_to_message(STAMP, "l", fields, rows=columns))
    np.testing.assert_array_equal(one.ring, ring[truth > 0])
    other = ros.sweep_from_message(ros.cloud_to_message(STAMP, "l", fields | {"ring": ring}, rows=columns))
    np.testing.assert_array_equal(*(proposals_from_sweep(sweep, ProposalOptions()) for sweep in (one, other)))


def test_an_organised_cloud_whose_rows_and_columns_are_no_beams() -> None:
    """Points in any order, in lines of 100, and gaps."""
    rng = np.random.default_rng(0)
    xyz = lidars.directions(rng.uniform(-20, 20, 20_000), rng.uniform(-60, 60, 20_000)).astype(np.float32) * 20
    xyz[::7] = np.nan
    sweep = ros.sweep_from_message(ros.cloud_to_message(STAMP, "l", dict(zip("xyz", xyz.T, strict=True)), rows=200))
    assert sweep.ring is None and sweep.rows == 0 and rows_of(sweep) is None


def test_organised_rows_whose_numbers_are_too_large_for_rings_are_none() -> None:
    """Of 16 bits, in which the last row would be the first one."""
    xyz = np.full((2**16 + 1, 3, 3), np.nan, np.float32)
    xyz[[0, -1]] = lidars.directions(np.array([[2.0], [-5.0]]), np.array([0.0, 1.0, 2.0])) * 10
    columns = dict(zip("xyz", xyz.reshape(-1, 3).T, strict=True))
    sweep = ros.sweep_from_message(ros.cloud_to_message(STAMP, "l", columns, rows=len(xyz)))
    assert len(sweep) == 6 and sweep.ring is None


def test_livox_lines_are_no_beams() -> None:
    rng = np.random.default_rng(0)
    azimuth, elevation = rng.uniform(-0.6, 0.6, 20_000), rng.uniform(-0.4, 0.2, 20_000)
    ray = np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1)
    layout = LAYOUTS["livox_ros_driver2"]
    msg = layout.message((ray * 20).astype(np.float32), np.zeros(20_000), np.arange(20_000) * 5000)
    assert rows_of(ros.sweep_from_message(msg)) is None


def test_second_returns_do_no_harm() -> None:
    """A tenth of the beams see something behind: first returns keep their proposals, up to a small share."""
    xyz = bags.scene()
    seen = np.isfinite(xyz).all(axis=1)
    xyz, ring = xyz[seen], bags.rings()[seen]
    rng = np.random.default_rng(3)
    twice = rng.random(len(xyz)) < 0.12
    distance = np.linalg.norm(xyz[twice], axis=1, keepdims=True)
    behind = (xyz[twice] * (1 + rng.uniform(0.5, 10, (twice.sum(), 1)) / distance)).astype(np.float32)
    order = np.argsort(np.r_[np.arange(len(xyz)), np.flatnonzero(twice) + 0.5])  # beside the first, as drivers send

    def sweep(points: np.ndarray, rings: np.ndarray) -> Any:
        columns = {axis: points[:, i].copy() for i, axis in enumerate("xyz")}
        return ros.cloud_to_message(STAMP, "lidar", columns | {"ring": rings})

    both = sweep(np.concatenate([xyz, behind])[order], np.append(ring, ring[twice])[order])
    share = twice.sum() / (len(xyz) + twice.sum())
    assert ros.cloud_notes(both)[-1] == f"second returns: {share:.0%} of the points"
    assert not any("second" in note for note in ros.cloud_notes(sweep(xyz, ring)))
    copies = ros.cloud_notes(sweep(np.concatenate([xyz, xyz[twice]]), np.append(ring, ring[twice])))
    assert copies[-1] == f"copies of other points: {share:.0%} of the points", "and no second returns"
    assert not any("second" in note for note in copies)
    one = proposals_from_sweep(ros.sweep_from_message(sweep(xyz, ring)), ProposalOptions())
    two = proposals_from_sweep(ros.sweep_from_message(both), ProposalOptions())[np.argsort(order)[: len(xyz)]]
    assert np.mean((one == 1) != (two == 1)) < 0.02
    best = {i: np.bincount(two[one == i], minlength=2).argmax() for i in range(2, int(one.max()) + 1)}
    assert all(i >= 2 for i in best.values()) and len(set(best.values())) == len(best)
    assert all(np.mean(two[one == i] == j) > 0.98 for i, j in best.items())


def test_what_is_no_cloud_costs_one_line() -> None:
    fields = [("x", 0, F4), ("y", 4, F4), ("z", 8, F4)]
    ones = {axis: np.ones(4) for axis in "xyz"}
    with pytest.raises(DsegError, match="field x is int16, of unknown unit"):
        ros.sweep_from_message(packed([("x", 0, I2), ("y", 4, F4), ("z", 8, F4)], 12, ones))
    with pytest.raises(DsegError, match="not unique"):
        ros.sweep_from_message(packed([*fields, ("x", 12, F4)], 16, ones))
    with pytest.raises(DsegError, match="not x, y, z"):
        ros.sweep_from_message(packed([], 16, ones))
    msg = packed(fields, 12, ones)
    msg.point_step = 0
    with pytest.raises(DsegError, match="lies outside the point"):
        ros.sweep_from_message(msg)
    msg = packed(fields, 12, ones)
    msg.height, msg.row_step = 2, 40
    with pytest.raises(DsegError, match="does not fit"):
        ros.sweep_from_message(msg)


def test_padding_arrays_and_sizes_that_drivers_get_wrong() -> None:
    fields = [("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("_", 12, U1), ("_", 13, U1), ("", 14, U1)]
    columns = {"T": np.zeros(6)} | {axis: np.arange(1, 7) * 1.0 for axis in "xyz"} | {"_": np.zeros(6), "": np.zeros(6)}
    msg = packed([*fields, ("t", 16, F4), ("T", 15, U1)], 32, columns | {"t": np.arange(6) / 60})
    array = ros.message("sensor_msgs/msg/PointField", name="normal", offset=20, datatype=F4, count=3)
    msg.fields = [*msg.fields, array]
    msg.row_step = 0
    sweep = ros.sweep_from_message(msg)
    np.testing.assert_array_equal(sweep.xyz[:, 2], np.arange(1, 7))
    np.testing.assert_allclose(sweep.time_ns, np.arange(6) / 60 * 1e9, atol=10)
    assert set(ros.columns_from_cloud(msg)) == {"x", "y", "z", "T", "t"}
    msg.height, msg.width = 2, 3
    for wrong in (0, 32, 192):
        msg.row_step = wrong
        assert len(ros.sweep_from_message(msg)) == 6


@pytest.mark.parametrize("ring", [[0, -1, 2], [0.0, 0.5, 1.0], [0.0, np.nan, 1.0], [0, 1, 70_000]])
def test_rings_that_are_none(ring: Any) -> None:
    column = np.array(ring, np.float32 if isinstance(ring[1], float) else np.int32)
    msg = ros.cloud_to_message(0, "l", {a: np.ones(3, np.float32) for a in "xyz"} | {"ring": column})
    assert ros.sweep_from_message(msg).ring is None
    assert "rings are no numbers of beams: not used" in ros.cloud_notes(msg)


def test_one_ring_for_all_points_is_none() -> None:
    """As drivers of solid-state sensors fill the field: no two points of one azimuth are second returns by that."""
    xyz, truth = lidars.cast(lidars.flash(), ())
    columns = dict(zip("xyz", xyz[truth > 0].T, strict=True)) | {
        "channel": np.zeros(np.count_nonzero(truth), np.uint16)
    }
    msg = ros.cloud_to_message(STAMP, "l", columns)
    assert ros.sweep_from_message(msg).ring is None
    notes = ros.cloud_notes(msg)
    assert "all points have the same ring: not used" in notes and not any("second" in note for note in notes)


FIELD = st.tuples(
    st.sampled_from(["x", "y", "z", "X", "t", "time", "timestamp", "ring", "intensity", "", "_", "ü"]),
    st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1)),
    st.integers(0, 255) | st.integers(1, 8),
    st.sampled_from([1, 1, 1, 0, 3, 2**32 - 1]),
)
SIZE = st.integers(0, 6) | st.integers(0, 2**32 - 1)
SPECIAL = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e300, -1e38, 1.7e9, 1e18, 1e-40])


@st.composite
def clouds(draw: st.DrawFn) -> Any:
    """Mostly nearly right: x, y, z in place and data that fit, then anything changed."""
    real = draw(st.sampled_from([F4, F8]))
    width = 4 if real == F4 else 8
    fields = [(axis, i * width, real, 1) for i, axis in enumerate("xyz")] if draw(st.booleans()) else []
    fields += draw(st.lists(FIELD, max_size=4))
    step = draw(st.integers(0, 48) | SIZE)
    height, wide = draw(SIZE), draw(SIZE)
    row_step = draw(st.just(min(wide * step, 2**32 - 1)) | SIZE)
    length = min(row_step * height, 4096) if draw(st.booleans()) else draw(st.integers(0, 4096))
    data = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).integers(0, 256, length).astype(np.uint8)
    for number in draw(st.lists(SPECIAL, max_size=6)):
        with np.errstate(over="ignore"):
            raw = np.array([number], "f4" if real == F4 else "f8").view(np.uint8)
        at = draw(st.integers(0, max(0, length - 8)))
        data[at : at + len(raw)] = raw[: max(0, length - at)]
    names = ("name", "offset", "datatype", "count")
    return ros.message(
        "sensor_msgs/msg/PointCloud2",
        header=ros.header(draw(st.sampled_from([0, STAMP, -(10**9), 2**31 * 10**9])), "lidar"),
        height=height, width=wide, is_bigendian=draw(st.booleans()), point_step=step, row_step=row_step,
        fields=[ros.message("sensor_msgs/msg/PointField", **dict(zip(names, f, strict=True))) for f in fields],
        data=data, is_dense=draw(st.booleans()),
    )  # fmt: skip


def reads_or_refuses(msg: Any) -> None:
    try:
        sweep, notes = ros.sweep_from_message(msg), ros.cloud_notes(msg)
        columns = ros.columns_from_cloud(msg)
    except DsegError as error:
        assert "\n" not in str(error)
        return
    assert isinstance(sweep, Sweep) and sweep.xyz.shape == (len(sweep), 3) and sweep.xyz.dtype == np.float32
    assert np.isfinite(sweep.xyz).all() and (sweep.xyz != 0).any(axis=1).all()
    assert len(sweep) <= 4096 and all(isinstance(note, str) for note in notes)
    for column in (sweep.intensity, sweep.ring, sweep.time_ns):
        assert column is None or len(column) == len(sweep)
    assert sweep.time_ns is None or int(np.abs(sweep.time_ns).max(initial=0)) <= LONGEST_NS
    assert all(column.dtype.isnative for column in columns.values())


EMPTY = ros.cloud_to_message(0, "l", {axis: np.zeros(0, np.float32) for axis in "xyz"})


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(EMPTY)
@given(clouds())
def test_anything_is_a_sweep_or_an_error(msg: Any) -> None:
    reads_or_refuses(msg)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(clouds())
def test_anything_is_a_sweep_or_an_error_at_length(msg: Any) -> None:
    reads_or_refuses(msg)


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
@pytest.mark.parametrize("frame_id", ["", "l", "lidar", "lidar_top"])
def test_a_cloud_in_pieces_is_the_whole_message(count: int, frame_id: str) -> None:
    rng = np.random.default_rng(count)
    columns = {"x": rng.random(count, np.float32), "ring": rng.integers(0, 9, count).astype(np.uint16)}
    whole = ros.typestore().serialize_cdr(ros.cloud_to_message(STAMP, frame_id, columns), "sensor_msgs/msg/PointCloud2")
    assert b"".join(ros.cloud_to_cdr(STAMP, frame_id, columns)) == bytes(whole)
