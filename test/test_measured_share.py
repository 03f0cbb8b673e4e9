"""What LiDARs sent that is no measurement is counted: in one sweep, by `inspect` for each LiDAR, by `record`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bags
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dseg_core import messages as ros
from dseg_core.frames_from_bag import record
from dseg_core.inspection.inspect import inspect
from dseg_core.measured_share import blind_note, measured_share
from dseg_core.stage_options import InspectOptions, RecordOptions

NO_MEASUREMENTS = [
    (np.nan, 1, 1), (np.inf, 1, 1), (1, -np.inf, 1), (0, 0, 0), (0.1, 0.1, 0.1), (2e4, 0, 0), (1e30, 0, 0),
]  # fmt: skip


def cloud(stamp: int, xyz: Any, frame: str = "lidar") -> Any:
    return ros.cloud_to_message(stamp, frame, {axis: np.array(xyz, np.float32)[:, i] for i, axis in enumerate("xyz")})


def whole() -> np.ndarray:
    """The bags' scene: every point measured, 32 beams of 360."""
    return np.nan_to_num(bags.scene(), nan=30.0)


@given(bad=st.lists(st.sampled_from(NO_MEASUREMENTS), max_size=50), good=st.integers(0, 50), seed=st.integers(0, 99))
def test_every_kind_of_point_is_counted_as_what_it_is(bad: list[Any], good: int, seed: int) -> None:
    xyz = np.random.default_rng(seed).permutation([*bad, *[(3.0, -4.0, 0.5)] * good]).reshape(-1, 3)
    sweep = ros.sweep_from_message(cloud(1, xyz))
    assert len(sweep) + sweep.left_out == len(xyz)
    assert measured_share(sweep) == pytest.approx(good / len(xyz) if len(xyz) else 1.0)


@pytest.mark.parametrize("miss", [np.nan, 0.0, 0.1, np.inf])
def test_only_a_sweep_of_little_measurement_is_told_of(miss: float) -> None:
    """Not one of open country, of which the upper two thirds of an organised cloud are sky."""
    xyz = whole()
    assert not blind_note(ros.sweep_from_message(cloud(1, xyz)))
    sky = np.where(np.arange(len(xyz))[:, None] < 0.65 * len(xyz), np.float32(miss), xyz)
    assert not blind_note(ros.sweep_from_message(cloud(1, sky)))
    for lost in (0.85, 0.95):
        few = np.where(np.random.default_rng(0).random((len(xyz), 1)) < lost, np.float32(miss), xyz)
        note = blind_note(ros.sweep_from_message(cloud(1, few)))
        assert note.startswith("fewer than 20% of the points of lidar are measurements"), note


def test_a_sweep_of_hardly_any_measurement_is_told_of() -> None:
    xyz = whole()
    near = np.where(np.arange(len(xyz))[:, None] < 100, xyz, np.float32(0.1))
    for blind in (near, near * 1e6):
        assert "hardly any point of lidar is a measurement" in blind_note(ros.sweep_from_message(cloud(1, blind)))


def test_inspect_tells_the_share_of_each_lidar(tmp_path: Path) -> None:
    front, rear = whole(), whole()
    kinds = np.array(NO_MEASUREMENTS, np.float32)
    front[: len(front) // 4] = kinds[np.arange(len(front) // 4) % len(kinds)]
    rear[: len(rear) // 10] = np.nan
    times = [bags.START_NS + t * bags.MS for t in (0, 100, 200)]
    mounted = ros.transforms_to_message([(bags.START_NS, "lidar", "rear", np.eye(4))])
    more = [("/tf_static", mounted, bags.START_NS), *(("/rear/points", cloud(t, rear, "rear"), t) for t in times)]
    bag = bags.write_bag(tmp_path / "bag", sweep=lambda stamp: cloud(stamp, front), more=more)
    topics = {"lidar": "/lidar/points", "other_lidars": ["/rear/points"]}
    told = inspect(bag, InspectOptions.from_mapping({"out": str(tmp_path), "topics": topics}))
    assert told.results["lidar"]["not_measured"] == {"lidar": 0.25, "lidar_2": 0.1}
    assert "  25.0 % of the points not measured (NaN, infinite, < 0.3 m or > 10 km)" in told.text
    assert "  lidar_2: 10.0 % of the points not measured" in told.text


def test_a_recording_tells_of_sweeps_that_measured_nothing(tmp_path: Path) -> None:
    """The second of three sweeps is all within the LiDAR's own cover, the third all NaN."""
    clouds = {0: whole(), 100: whole() * 0 + 0.1, 200: whole() * np.nan}

    def sweep(stamp: int) -> Any:
        return cloud(stamp, clouds[(stamp - bags.START_NS) // bags.MS])

    bag = bags.write_bag(tmp_path / "bag", sweep=sweep)
    done = record([bag], tmp_path / "frames", RecordOptions())
    assert "hardly any point of lidar is a measurement" in done.text and "(1 sweep)" in done.text
    assert done.results["sensors"]["lidar"]["dropped"] == {"cloud without measured points": 1}
