"""Sides that are seen at a grazing angle are one, and what is beside them stays apart."""

from __future__ import annotations

import numpy as np
import pytest
from lidars import HEIGHT, Box, cast, spinning

from dseg_core.lidar.clustering import components
from dseg_core.lidar.ground import NONE, OBJECT
from dseg_core.proposals_from_sweep import proposals_from_sweep
from dseg_core.records import REGION_FIRST_OBJECT, Sweep
from dseg_core.stage_options import ProposalOptions


def seen(boxes: tuple[Box, ...], beams: int = 128, turn: float = 0.0) -> tuple[Sweep, np.ndarray, np.ndarray]:
    """A sweep of 1024 columns, what each point is, and its proposal. `turn`: of the LiDAR, radians."""
    elevation = np.linspace(22.5, -22.5, beams) if beams == 128 else np.linspace(2, -25, beams)
    ray, ring = spinning(elevation, 1024)
    xyz, truth = cast(ray, boxes)
    kept = truth > 0
    R = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    sweep = Sweep(0, "lidar", (xyz[kept] @ R.T).astype(np.float32), ring=ring[kept])
    return Sweep(0, "lidar", xyz[kept]), truth[kept], proposals_from_sweep(sweep, ProposalOptions())


def share(found: np.ndarray) -> tuple[int, float]:
    """The object that most points are, and how many of them."""
    ids, counts = np.unique(found[found >= REGION_FIRST_OBJECT], return_counts=True)
    return int(ids[counts.argmax()]), float(counts.max() / counts.sum())


@pytest.mark.parametrize("beams", [64, 128])
@pytest.mark.parametrize(
    ("near", "aside"), [(8, 1.3), (10, 1.3), (10, 1.6), (12, 1.6), (10, 2.0), (14, 2.0), (14, 2.4)]
)
def test_a_side_in_slivers_is_one(near: float, aside: float, beams: int) -> None:
    """Of a car 8 to 18 m ahead in the next lane, at 5 to 10 degrees: its columns are 0.3 to 1.2 m apart."""
    sweep, truth, found = seen(((near, near + 4.5, aside, aside + 1.8, 1.5),), beams)
    side = (truth == 2) & (sweep.xyz[:, 0] > near + 0.4) & (sweep.xyz[:, 2] > 0.25 - HEIGHT)
    assert side.sum() > 30 and share(found[side])[1] > 0.97


def test_on_the_seam_it_is_one() -> None:
    """Rows begin and end there."""
    boxes = ((10.0, 14.5, 1.6, 3.4, 1.5),)
    for turn in np.deg2rad(np.arange(172, 184, 1.3)) - np.arctan2(1.6, 12):
        sweep, truth, found = seen(boxes, turn=float(turn))
        side = found[(truth == 2) & (sweep.xyz[:, 0] > 10.4) & (sweep.xyz[:, 2] > 0.25 - HEIGHT)]
        assert len(np.unique(side[side >= REGION_FIRST_OBJECT])) == 1


@pytest.mark.parametrize("beams", [64])
@pytest.mark.parametrize("away", [0.25, 0.35, 0.5, 0.7])
@pytest.mark.parametrize("along", [11.0, 11.4, 12.0, 12.6, 13.0])
def test_people_beside_it_are_not_its_own(away: float, along: float, beams: int) -> None:
    person = (along, along + 0.35, 1.6 - away - 0.4, 1.6 - away, 1.75)
    _, truth, found = seen(((10.0, 14.5, 1.6, 3.4, 1.5), person), beams)
    standing, purity = share(found[truth == 3])
    assert purity > 0.9 and np.mean(truth[found == standing] == 3) > 0.9


@pytest.mark.parametrize("away", [0.6, 0.9])
@pytest.mark.parametrize("along", [10.0, 12.0, 14.0, 17.0])
def test_a_post_before_a_wall_is_not_the_walls(away: float, along: float) -> None:
    post = (along, along + 0.15, 3 - away - 0.15, 3 - away, 2.5)
    _, truth, found = seen(((8.0, 30.0, 3.0, 3.3, 2.5), post))
    standing, purity = share(found[truth == 3])
    assert purity > 0.9 and np.mean(truth[found == standing] == 3) > 0.9


def test_cars_that_park_one_behind_another_stay_two() -> None:
    """Their sides are in one plane, and what is between them is farther than columns are."""
    for first in np.arange(9.0, 10.0, 0.1):
        boxes = tuple((x, x + 4.2, 1.6, 3.4, 1.5) for x in (first, first + 5.2))
        sweep, truth, found = seen(boxes)
        names = [share(found[(truth == n) & (sweep.xyz[:, 2] > 0.25 - HEIGHT)])[0] for n in (2, 3)]
        assert names[0] != names[1]


@pytest.mark.parametrize("faces_the_lidar", [True, False])
def test_what_is_one_already_must_be_on_the_plane_too(faces_the_lidar: bool) -> None:
    """Columns of a plane, and before them three of another thing, on the plane or only its last one so."""
    inverse = 1 / 12 - np.arange(-2, 7) * 0.0045  # even, as a plane's
    reach = 1 / np.where((np.arange(9) < 2) & faces_the_lidar, inverse[2], inverse)
    assert (np.diff(1 / inverse) > 0.3).all()
    distance = np.zeros((6, 1047), np.float32)
    distance[:, 4:13] = reach
    a, e = np.meshgrid(np.arange(1047) * 0.006, np.arange(6) * -0.006)
    axes = (distance * np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])).astype(np.float32)
    kinds = np.where(distance > 0, OBJECT, NONE).astype(np.uint8)
    angles = float(np.deg2rad(10)), float(np.deg2rad(10))
    labels, sizes = components(axes, distance, kinds, angles, 0.1, 2.0, 4, 4.0, 0.01, 0.006, 8)
    assert len(sizes) == (2 if faces_the_lidar else 1)
    assert (labels[:, 7:13] == labels[0, 12]).all() and (labels[:, 4:7] == labels[0, 4]).all()
