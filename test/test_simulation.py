"""The simulated drive says the truth: about its images, its points, its motion and its stamps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open3d as o3d
import pytest
from rosbags.highlevel import AnyReader
from scipy.spatial.transform import Rotation, Slerp

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError, OptionError
from dseg_core.simulation.simulate import simulate
from dseg_core.simulation.world import build
from dseg_core.stage_options import SimulateOptions

SMALL = {"width": 96, "height": 40, "beams": 16, "columns": 180, "samples": 1, "sweeps": 2}
NUMPY_TYPES = {2: np.uint8, 4: np.uint16, 6: np.uint32, 7: np.float32}


def messages(bag: Path) -> dict[str, list[Any]]:
    """Every message by topic, by rosbags alone."""
    found: dict[str, list[Any]] = {}
    with AnyReader([bag]) as reader:
        for connection, _, raw in reader.messages():
            found.setdefault(connection.topic, []).append(reader.deserialize(raw, connection.msgtype))
    return found


def raw(bag: Path) -> list[tuple[str, int, bytes]]:
    with AnyReader([bag]) as reader:
        return [(connection.topic, stamp, bytes(data)) for connection, stamp, data in reader.messages()]


def ns(message: Any) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def columns(cloud: Any) -> np.ndarray:
    dtype = np.dtype(
        {
            "names": [f.name for f in cloud.fields],
            "formats": [NUMPY_TYPES[f.datatype] for f in cloud.fields],
            "offsets": [f.offset for f in cloud.fields],
            "itemsize": cloud.point_step,
        }
    )
    return np.frombuffer(cloud.data.tobytes(), dtype=dtype)


def xyz(cloud: Any) -> np.ndarray:
    points = columns(cloud)
    return np.stack([points["x"], points["y"], points["z"]], axis=1).astype(float)


class Poses:
    """T_odom_base from /tf by an implementation that shares nothing with the simulator."""

    def __init__(self, tf: list[Any]) -> None:
        edges = [edge for message in tf for edge in message.transforms]
        assert {(e.header.frame_id, e.child_frame_id) for e in edges} == {("odom", "base_link")}
        self.start = min(ns(e) for e in edges)
        self.time = np.array([(ns(e) - self.start) * 1e-9 for e in edges])
        shifts, turns = [e.transform.translation for e in edges], [e.transform.rotation for e in edges]
        self.shift = np.array([(t.x, t.y, t.z) for t in shifts])
        self.turn = Slerp(self.time, Rotation.from_quat([(q.x, q.y, q.z, q.w) for q in turns]))

    def to_world(self, points: np.ndarray, stamps: np.ndarray) -> np.ndarray:
        time = (stamps - self.start) * 1e-9
        shift = np.stack([np.interp(time, self.time, self.shift[:, k]) for k in range(3)], axis=1)
        return self.turn(time).apply(points) + shift

    def from_world(self, points: np.ndarray, stamp: int) -> np.ndarray:
        time = np.full(len(points), (stamp - self.start) * 1e-9)
        shift = np.stack([np.interp(time, self.time, self.shift[:, k]) for k in range(3)], axis=1)
        return self.turn(time).apply(points - shift, inverse=True)


def mounting(tf_static: list[Any], child: str) -> tuple[Rotation, np.ndarray]:
    (edge,) = [e for m in tf_static for e in m.transforms if e.child_frame_id == child]
    t, q = edge.transform.translation, edge.transform.rotation
    return Rotation.from_quat([q.x, q.y, q.z, q.w]), np.array([t.x, t.y, t.z])


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> tuple[SimulateOptions, dict[str, list[Any]]]:
    """A fast drive without range noise: motion distortion of up to 1.6 m a sweep."""
    sizes = {"width": 320, "height": 96, "beams": 32, "columns": 720, "samples": 1}
    options = SimulateOptions(seed=3, sweeps=2, speed=16.0, traffic=0.0, range_noise=0.0, **sizes)
    bag = tmp_path_factory.mktemp("drive") / "bag"
    simulate(bag, options)
    return options, messages(bag)


def world_points(found: dict[str, list[Any]], index: int, each_at_its_time: bool) -> np.ndarray:
    cloud = found["/lidar/points"][index]
    R, t = mounting(found["/tf_static"], "lidar")
    offset = columns(cloud)["t"].astype(np.int64) * each_at_its_time
    return Poses(found["/tf"]).to_world(R.apply(xyz(cloud)) + t, ns(cloud) + offset)


def test_truth_image_agrees_with_projected_labelled_points(drive: tuple[Any, dict[str, list[Any]]]) -> None:
    _, found = drive
    image, info = found["/truth/camera_front/semantic"][1], found["/camera/front/camera_info"][1]
    truth = image.data.reshape(image.height, image.width)
    label = columns(found["/truth/lidar/points"][1])["semantic"]
    base = Poses(found["/tf"]).from_world(world_points(found, 1, True), ns(image))
    R, t = mounting(found["/tf_static"], "camera_front_optical")
    optical = R.inv().apply(base - t)
    K = np.array(info.p).reshape(3, 4)[:, :3]
    with np.errstate(divide="ignore", invalid="ignore"):
        uv = (optical @ K.T)[:, :2] / optical[:, 2:]
    u, v = np.rint(np.nan_to_num(uv, nan=-1, posinf=-1, neginf=-1)).T
    seen = (optical[:, 2] > 0.5) & (u >= 0) & (u < image.width) & (v >= 0) & (v < image.height)
    u, v, depth, label = u[seen].astype(int), v[seen].astype(int), optical[seen, 2], label[seen]
    nearest = np.full((image.height + 4, image.width + 8), np.inf)
    for dv in range(5):
        for du in range(9):
            np.minimum.at(nearest, (v + dv, u + du), depth)
    unoccluded = depth < nearest[v + 2, u + 4] + 0.7
    assert unoccluded.sum() > 1500
    assert np.mean(truth[v, u][unoccluded] == label[unoccluded]) > 0.95


def test_odometry_undoes_the_motion_distortion_exactly(drive: tuple[Any, dict[str, list[Any]]]) -> None:
    options, found = drive
    world = build(options.seed, options.speed, options.sweeps / options.lidar_rate, options.traffic)
    still = world.scene._still
    walkers = {mover.instance for mover in world.scene._movers}
    instance = columns(found["/truth/lidar/points"][0])["instance"]
    fixed = ~np.isin(instance, list(walkers))

    def off_the_surfaces(points: np.ndarray) -> np.ndarray:
        return still.compute_distance(o3d.core.Tensor(points[fixed].astype(np.float32))).numpy()

    assert np.quantile(off_the_surfaces(world_points(found, 0, True)), 0.999) < 0.002
    assert np.quantile(off_the_surfaces(world_points(found, 0, False)), 0.95) > 0.1


def test_points_come_in_firing_order(drive: tuple[Any, dict[str, list[Any]]]) -> None:
    options, found = drive
    for cloud in found["/lidar/points"]:
        points = columns(cloud)
        time, ring = points["t"].astype(np.int64), points["ring"].astype(np.int64)
        assert ring.min() >= 0 and ring.max() == options.beams - 1
        assert time.min() >= 0 and time.max() < 1e9 / options.lidar_rate
        assert np.all(np.diff(time * 64 + ring) > 0)
        elevation = np.arctan2(points["z"], np.hypot(points["x"], points["y"]))
        means = [elevation[ring == k].mean() for k in np.unique(ring)]
        assert np.all(np.diff(means) > 0), "ring 0 looks lowest"
    ahead = time[(np.abs(np.arctan2(points["y"], points["x"])) < 0.02)]
    assert np.allclose(ahead * 1e-9 * options.lidar_rate, 0.15, atol=0.01), "the beam looks ahead after 15 % of a turn"


def test_truth_is_complete(drive: tuple[Any, dict[str, list[Any]]]) -> None:
    _, found = drive
    for points, truth in zip(found["/lidar/points"], found["/truth/lidar/points"], strict=True):
        assert ns(points) == ns(truth) and points.width == truth.width
    for rgb, semantic, instance in zip(
        found["/camera/front/image_raw"],
        found["/truth/camera_front/semantic"],
        found["/truth/camera_front/instance"],
        strict=True,
    ):
        assert ns(rgb) == ns(semantic) == ns(instance)
        assert rgb.header.frame_id == semantic.header.frame_id == "camera_front_optical"
        assert (rgb.encoding, semantic.encoding, instance.encoding) == ("rgb8", "mono8", "16UC1")
        ids, things = semantic.data, instance.data.view(np.uint16)
        assert np.all((things == 0) == np.isin(ids, (0, 1, 9, 10))), "stuff has no instances, things have"


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_rates_and_offsets_are_in_the_stamps(storage: str, tmp_path: Path) -> None:
    options = SimulateOptions(
        **SMALL, storage=storage, camera_rate=30.0, camera_offset=0.004, cameras=(0.0, 90.0), stamp_error=0.001
    )
    simulate(tmp_path / "bag", options)
    found = messages(tmp_path / "bag")
    sweeps = np.array([ns(m) for m in found["/lidar/points"]])
    assert np.array_equal(np.diff(sweeps), [100_000_000])
    for name in ("front", "left"):
        images = np.array([ns(m) for m in found[f"/camera/{name}/image_raw"]])
        assert len(images) == 6 and images[0] - sweeps[0] == 5_000_000
        assert np.allclose(np.diff(images), 1e9 / 30, atol=1)
    tf = np.array([ns(m.transforms[0]) for m in found["/tf"]])
    assert tf.min() < sweeps[0] and tf.max() > sweeps[-1] + 100_000_000
    assert np.diff(tf).max() <= 20_000_000, "at least 50 Hz"
    assert [ns(m) for m in found["/odom"]] == tf.tolist()
    R, _ = mounting(found["/tf_static"], "camera_left_optical")
    assert R.apply([0, 0, 1])[1] > 0.99, "the left camera looks left"


def test_the_same_seed_makes_the_same_bytes_and_another_seed_another_world(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        simulate(tmp_path / name, SimulateOptions(**SMALL, seed=seed))
    a, b, c = (raw(tmp_path / name) for name in "abc")
    assert a == b
    pictures = [[m for m in bag if m[0].endswith(("image_raw", "points"))] for bag in (a, c)]
    assert all(x != y for x, y in zip(*pictures, strict=False))


def test_finished_worlds_are_kept_and_missing_ones_made(tmp_path: Path) -> None:
    options = SimulateOptions(**SMALL, worlds=2)
    first = simulate(tmp_path / "out", options)
    assert "before and kept" not in first.text and first.results["images"] == 4
    kept, lost = tmp_path / "out" / "world_0000", tmp_path / "out" / "world_0001"
    before, stamps = raw(lost), kept.stat().st_mtime_ns
    lost.rename(tmp_path / "out" / ".world_0001.tmp")  # as an interrupted run leaves it
    assert "1 world finished before and kept" in simulate(tmp_path / "out", options).text
    assert raw(lost) == before and kept.stat().st_mtime_ns == stamps
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["summary.json", "world_0000", "world_0001"]
    assert "2 worlds with these options finished before and kept" in simulate(tmp_path / "out", options).text
    assert min(m[1] for m in raw(lost)) - min(m[1] for m in raw(kept)) == 3600 * 10**9
    assert ClassTable.read(kept / "truth_classes.yaml").names[:3] == ("road", "pavement", "building")
    with pytest.raises(DsegError, match=r"out: was made with beams = 16, not 32\. Remove it"):
        simulate(tmp_path / "out", SimulateOptions(**{**SMALL, "beams": 32}, worlds=2))


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DsegError, match="no simulated drive"):
        simulate(tmp_path, SimulateOptions(**SMALL))
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "record.yaml").write_text("")
    with pytest.raises(DsegError, match="holds what `dseg record` made"):
        simulate(tmp_path / "frames", SimulateOptions(**SMALL))
    with pytest.raises(OptionError, match="16, 32, 64"):
        simulate(tmp_path / "bag", SimulateOptions(**{**SMALL, "beams": 20}))


def test_hard_cases_are_added_to_the_same_world() -> None:
    """All that stood there still does; people are beside parked cars, and there is a way under the bridge."""
    plain, hard = (build(3, 8.0, 1.0, 1.0, hard=with_hard) for with_hard in (False, True))
    kept = np.isin(hard.scene.instance, np.unique(plain.scene.instance))
    assert kept.sum() == len(plain.scene.instance) < len(hard.scene.instance)
    rays = np.zeros((400, 6), np.float32)
    s = np.linspace(0, 60, 400)
    rays[:, :3], rays[:, 5] = hard.street.at(s, hard.lane, 1.0), 1.0
    above = [world.scene.at(0.0).cast(rays) for world in (plain, hard)]
    under = (above[1].distance < 7) & ~(above[0].distance < 7)
    assert 4 / 60 * 400 * 0.8 < under.sum() < 12 / 60 * 400 * 1.4
    assert (above[1].distance[under] > 3.4).all(), "its underside is 4.6 m up at least"


def test_hills_are_as_steep_as_asked() -> None:
    for hills in (0.0, 0.12):
        slope = build(4, 8.0, 1.0, 1.0, hills=hills).street.slope
        assert hills - 0.035 < np.abs(slope).max() < hills + 0.035


def test_128_beams(tmp_path: Path) -> None:
    simulate(tmp_path / "bag", SimulateOptions(**{**SMALL, "beams": 128, "sweeps": 1, "hills": 10.0, "hard": True}))
    (cloud,) = messages(tmp_path / "bag")["/lidar/points"]
    points = columns(cloud)
    elevation = np.rad2deg(np.arctan2(points["z"], np.hypot(points["x"], points["y"])))
    np.testing.assert_allclose(elevation, -25 + 40 / 127 * points["ring"], atol=0.01)
