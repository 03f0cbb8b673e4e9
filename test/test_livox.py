"""Livox's own messages: the points that a PointCloud2 of its driver would have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_kinds import rosbag1_file
from bags import START_NS, bag_rows, write_bag
from lidars import cast, rosette

from dseg_core import messages as ros
from dseg_core.bag import Topic
from dseg_core.errors import DsegError
from dseg_core.frames_from_bag import record
from dseg_core.messages import LIVOX_TYPES
from dseg_core.proposals_from_sweep import method_of
from dseg_core.sensors_from_bag import CLOUD_TYPES, chosen_lidar
from dseg_core.stage_options import ProposalOptions, RecordOptions, TopicOptions
from dseg_core.store import FrameStore


def points(stamp: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A box before the car, with misses at the origin; reflectivity, and ns since the stamp."""
    xyz, truth = cast(rosette(3000, 60), ((6.0, 7.0, -0.5, 0.5, 1.4),), seed=stamp % 1000)
    xyz[truth == 0] = 0
    return xyz, np.arange(len(xyz)) % 256, np.arange(len(xyz)) * 30_000


def custom(stamp: int, kind: str = LIVOX_TYPES[0]) -> Any:
    xyz, reflectivity, since = points(stamp)
    made = [
        ros.message(
            kind.replace("Msg", "Point"), offset_time=int(t), x=float(x), y=float(y), z=float(z), reflectivity=int(r),
            tag=16, line=n % 4,
        )
        for n, ((x, y, z), r, t) in enumerate(zip(xyz, reflectivity, since, strict=True))
    ]  # fmt: skip
    return ros.message(
        kind, header=ros.header(stamp, "lidar"), timebase=stamp, point_num=len(made), lidar_id=1,
        rsvd=np.zeros(3, np.uint8), points=made,
    )  # fmt: skip


def cloud(stamp: int) -> Any:
    xyz, reflectivity, since = points(stamp)
    columns: dict[str, Any] = dict(zip("xyz", xyz.T, strict=True))
    columns |= {"intensity": reflectivity.astype(np.float32), "timestamp": (stamp + since).astype(np.float64)}
    return ros.cloud_to_message(stamp, "lidar", columns)


@pytest.mark.parametrize("kind", LIVOX_TYPES)
def test_its_points_are_those_of_the_cloud(kind: str) -> None:
    one, other = ros.sweep_from_message(custom(START_NS, kind)), ros.sweep_from_message(cloud(START_NS))
    np.testing.assert_array_equal(one.xyz, other.xyz)
    np.testing.assert_array_equal(one.intensity, other.intensity)
    np.testing.assert_allclose(one.time_ns, other.time_ns, atol=260)  # as precise as float64 nanoseconds since 1970
    assert (one.stamp_ns, one.frame_id, one.ring) == (START_NS, "lidar", None)
    assert 0 < len(one) < 3000 and method_of(one, ProposalOptions()) == "euclidean"
    assert ros.cloud_notes(custom(START_NS, kind)) == ()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3", "ros1"])
def test_bags_of_them_give_frames(tmp_path: Path, storage: str) -> None:
    """The same as of the clouds, from bags that carry the type's definition and those that do not."""
    if storage == "ros1":
        rows = bag_rows(sweep=lambda stamp: custom(stamp, LIVOX_TYPES[1]))
        bag = rosbag1_file(tmp_path / "livox", rows)
    else:
        bag = write_bag(tmp_path / "livox", sweep=custom, storage=storage)
    record([bag, write_bag(tmp_path / "clouds", sweep=cloud)], tmp_path / "frames", RecordOptions())
    store = FrameStore(tmp_path / "frames")
    one, other = (store.frame(drive, START_NS) for drive in ("livox", "clouds"))
    np.testing.assert_array_equal(one.proposals, other.proposals)
    np.testing.assert_array_equal(one.views[0].regions, other.views[0].regions)
    assert one.proposals.max() >= 2 and one.sweep.time_ns is not None


def test_a_message_without_points_is_an_empty_sweep() -> None:
    message = custom(START_NS)
    message.points = []
    assert len(ros.sweep_from_message(message)) == 0 and ros.cloud_notes(message) == ()


def test_beside_another_cloud_the_user_chooses() -> None:
    """Mapping packages publish a PointCloud2 of the map beside the LiDAR's own messages."""
    own, registered = Topic("/livox/lidar", LIVOX_TYPES[0], 3), Topic("/cloud_registered", CLOUD_TYPES[0], 3)
    with pytest.raises(DsegError, match=r"several CustomMsg and PointCloud2 topics: .* Choose one with"):
        chosen_lidar("bag", [own, registered], TopicOptions())
    assert chosen_lidar("bag", [own, registered], TopicOptions(lidar=own.name)) == own.name
    packets = Topic("/packets", CLOUD_TYPES[-1], 3)
    assert chosen_lidar("bag", [packets, own], TopicOptions()) == own.name, "packets are the last choice"
