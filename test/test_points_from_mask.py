"""Classes on points, against the simulation's truth of every point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dseg_core import messages as ros
from dseg_core.bag import BagReader
from dseg_core.cameras import Camera
from dseg_core.points_from_mask import points_from_mask
from dseg_core.records import UNLABELLED, Sweep
from dseg_core.sensors_from_bag import sensors_from_bag
from dseg_core.simulation.simulate import simulate
from dseg_core.stage_options import SimulateOptions, TopicOptions

CAMERA = Camera.pinhole("optical", 200, 100, 100.0, 100.0, 99.5, 49.5)
MASK = np.repeat(np.arange(100, dtype=np.uint8)[:, None], 200, axis=1)  # every row its own class


def sweep(*points: tuple[float, float, float]) -> Sweep:
    return Sweep(0, "optical", np.array(points, np.float32).reshape(-1, 3))


def test_every_point_gets_its_pixel() -> None:
    # Optical frame: x right, y down, z forward; v = 49.5 + 100 y / z.
    classes = points_from_mask(sweep((0, 0.05, 10), (3, 2.05, 10), (0, 0, -5), (50, 0, 10)), MASK, CAMERA, np.eye(4))
    assert classes.tolist() == [50, 70, UNLABELLED, UNLABELLED]


def test_points_behind_something_nearer_are_hidden_but_not_behind_the_ground_before_them() -> None:
    # The near point is in the pixel's row, or one below: an occluder, or the road on the way there.
    hidden = points_from_mask(sweep((0, 0.0, 5), (0, 0.0, 20)), MASK, CAMERA, np.eye(4))
    assert hidden.tolist() == [50, UNLABELLED]
    beside = points_from_mask(sweep((0, 0.0, 17), (0, 0.0, 20)), MASK, CAMERA, np.eye(4))
    assert beside.tolist() == [50, 50], "nearer by less than a fifth: the same thing's other side"
    road = points_from_mask(sweep((0, 1.7, 10), (0, 1.7, 15)), MASK, CAMERA, np.eye(4))
    assert road.tolist() == [67, 61]


def test_no_points() -> None:
    assert points_from_mask(sweep(), MASK, CAMERA, np.eye(4)).shape == (0,)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A street at 12 m/s, sensors apart as they are on the simulated car."""
    sizes = {"width": 640, "height": 192, "beams": 32, "columns": 720, "samples": 1}
    path = tmp_path_factory.mktemp("street") / "bag"
    simulate(path, SimulateOptions(seed=5, sweeps=3, speed=12.0, **sizes))
    return path


def test_classes_are_the_points_own_in_a_moving_street(bag: Path) -> None:
    with BagReader(bag) as reader:
        sensors = sensors_from_bag(reader, TopicOptions())
        found: dict[str, dict[int, object]] = {}
        for message in reader.messages([topic.name for topic in reader.topics if not topic.name.startswith("/tf")]):
            found.setdefault(message.topic, {})[ros.stamp_ns(message.data)] = message.data
    camera, right, standing, seen = sensors.cameras[0], 0, 0, 0
    for stamp, cloud in found["/lidar/points"].items():
        points = ros.sweep_from_message(cloud)
        truth = ros.columns_from_cloud(found["/truth/lidar/points"][stamp])
        (own,) = (truth[name] for name in truth if name in ("class", "semantic", "class_id"))
        at = min(found["/truth/camera_front/semantic"], key=lambda s: abs(s - stamp))
        image = found["/truth/camera_front/semantic"][at]
        mask = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width)  # type: ignore[attr-defined]
        times = [stamp, stamp + points.farthest_ns]
        T, why = sensors.tree.lookup_compensated(camera.calibration.frame_id, at, points.frame_id, times)
        assert why is None
        classes = points_from_mask(points, mask, camera.calibration, *T)
        labelled = classes != UNLABELLED
        seen += int(labelled.sum())
        right += int((classes[labelled] == own[labelled]).sum())
        T_still = sensors.tree.lookup(camera.calibration.frame_id, points.frame_id, stamp)
        still = points_from_mask(points, mask, camera.calibration, T_still)[labelled]
        standing += int((still == own[labelled]).sum())
    assert seen > 3000
    assert right / seen > 0.96
    assert standing < right, "the vehicle's motion must matter"
