"""A box before a wall, by rays whose answer is known: what only the LiDAR sees past the box labels no pixel of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from dseg_core.cameras import Camera
from dseg_core.lidar.rows import rows_of
from dseg_core.records import Sweep
from dseg_core.region_silence import silent_surface
from dseg_core.regions_from_pair import regions_from_pair
from dseg_core.stage_options import RegionOptions

GROUND, BOX, WALL = 1, 2, 3
CAM = Camera.pinhole("camera", 640, 320, 400.0, 400.0, 319.5, 159.5)
AXES = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # optical from x forward, z up
OPTIONS = RegionOptions()
FLOOR, WALL_AT = -1.6, 20.0  # metres, from the camera


@dataclass(frozen=True)
class Box:
    """Its front [m ahead], sides, top above the floor, and depth; what is higher than `returns` returns nothing."""

    front: float
    right: float
    left: float
    height: float
    depth: float
    returns: float

    def cast(self, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances along rays (N, 3), metres, and what is met."""
        with np.errstate(divide="ignore", invalid="ignore"):
            low = (np.array([self.front, self.right, FLOOR]) - origin) / rays
            high = (np.array([self.front + self.depth, self.left, FLOOR + self.height]) - origin) / rays
            near, far = np.minimum(low, high).max(axis=1), np.maximum(low, high).min(axis=1)
            candidates = np.stack(
                [
                    np.where(rays[:, 2] < 0, (FLOOR - origin[2]) / rays[:, 2], np.inf),
                    np.where((near <= far) & (near > 0), near, np.inf),
                    np.where(rays[:, 0] > 0, (WALL_AT - origin[0]) / rays[:, 0], np.inf),
                ]
            )
        return candidates.min(axis=0), candidates.argmin(axis=0).astype(np.uint16) + 1

    def sweep(self, origin: np.ndarray) -> tuple[Sweep, np.ndarray]:
        """64 beams of a LiDAR at `origin`, axes like the camera's, and right proposals."""
        e, a = np.meshgrid(np.linspace(0.12, -0.42, 64), np.linspace(0.9, -0.9, 600), indexing="ij")
        ray = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=-1).reshape(-1, 3)
        reach, met = self.cast(origin, ray)
        xyz = ray * reach[:, None]
        back = (met != BOX) | (xyz[:, 2] + origin[2] < FLOOR + self.returns)
        ring = np.repeat(np.arange(64, dtype=np.uint16), 600)[back]
        return Sweep(0, "lidar", xyz[back].astype(np.float32), ring=ring), met[back]

    def seen(self) -> np.ndarray:
        """What the camera's pixels show, uint16 (H, W)."""
        rays = CAM.rays().reshape(-1, 3) @ AXES
        return self.cast(np.zeros(3), rays)[1].reshape(CAM.height, CAM.width)


def regions_of(box: Box, lidar: np.ndarray, options: RegionOptions = OPTIONS) -> np.ndarray:
    sweep, ids = box.sweep(lidar)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = AXES, AXES @ lidar
    return regions_from_pair(sweep, ids, CAM, T, options)


def inner(mask: np.ndarray, pixels: int) -> np.ndarray:
    return np.asarray(cv2.erode(mask.astype(np.uint8), np.ones((2 * pixels + 1,) * 2), borderValue=1) > 0)


def wrong_on_box(box: Box, regions: np.ndarray, edge: int) -> int:
    """Pixels of the box, but for its edge, that show something else."""
    on = inner(box.seen() == BOX, edge)
    assert on.sum() > 300
    return int((on & (regions != BOX) & (regions != 0)).sum())


@pytest.mark.parametrize("apart", [0.3, 0.7, 1.0, 1.5])
@pytest.mark.parametrize("returns", [9.0, 0.8, 0.0], ids=["all returns", "half of it", "nothing of it"])
def test_what_the_lidar_sees_over_a_box_labels_no_pixel_of_it(apart: float, returns: float) -> None:
    """The LiDAR above and behind the camera; the box may be black, or black above. Its edge is half a beam wide."""
    box = Box(8.0, -1.0, 1.2, 1.5, 3.0, returns)
    regions = regions_of(box, apart * np.array([-0.8, 0.0, 0.6]))
    assert not wrong_on_box(box, regions, 3)
    if returns < 1.5:
        assert wrong_on_box(box, regions_of(box, apart * np.array([-0.8, 0.0, 0.6]), replace(OPTIONS, silent=0.0)), 3)
    behind = inner(box.seen() == WALL, 20) & inner(box.seen() != 0, 20)
    assert (regions[behind & (np.arange(CAM.height)[:, None] > 120)] == WALL).mean() > 0.97, "what is seen is painted"


@settings(max_examples=25, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    st.floats(0.3, 1.5),
    st.floats(-1.0, 1.0),
    st.floats(0.1, 1.0),
    st.floats(5.0, 12.0),
    st.floats(-2.0, 1.0),
    st.floats(0.5, 3.0),
    st.floats(0.8, 1.45),
    st.booleans(),
)
def test_nowhere_that_a_lidar_may_be_does_a_wall_label_what_hides_it(
    apart: float, aside: float, up: float, front: float, right: float, width: float, height: float, dark: bool
) -> None:
    """LiDARs above, behind and to either side of the camera; boards lower than either, half of which may be black.

    Boards, not boxes: of a side that faces the camera and not the LiDAR, nothing is known.
    """
    way = np.array([-0.5, aside, up])
    lidar = apart * way / np.linalg.norm(way)
    box = Box(front, right, right + width, height, 0.05, height / 2 if dark else 9.0)
    if inner(box.seen() == BOX, 4).sum() > 300:
        assert not wrong_on_box(box, regions_of(box, lidar), 4)


def test_silent_beams_are_on_what_swallowed_them() -> None:
    """Of a box that returns nothing above 0.7 m, seen from 2 m up: on its front, all of it."""
    box = Box(8.0, -1.0, 1.0, 1.5, 0.01, 0.7)
    lidar = np.array([0.0, 0.0, 0.4])
    sweep, ids = box.sweep(lidar)
    rows = rows_of(sweep)
    assert rows is not None
    xyz, row, own = silent_surface(sweep.xyz, np.arange(len(sweep)), ids, rows, 1.5)
    assert np.abs(xyz[:, 0] - 8).max() < 0.05 and (ids[own] == BOX).all()
    z = xyz[:, 2] + lidar[2] - FLOOR
    assert z.min() > 0.6 and 1.35 < z.max() < 1.55 and np.abs(xyz[:, 1]).max() == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(np.arctan2(xyz[:, 2], np.hypot(*xyz[:, :2].T)), rows.elevation[row], atol=1e-3)
    low = silent_surface(sweep.xyz, np.arange(len(sweep)), ids, rows, 0.3)[0]
    assert (low[:, 2] + lidar[2] - FLOOR).max() < 1.02, "no higher than told above what was returned"


def test_a_lidar_that_hangs_upside_down_hides_the_same() -> None:
    """Turned about its x axis, with beams counted from the other end of its frame: what it sees is the same."""
    box, lidar = Box(8.0, -1.0, 1.2, 1.5, 3.0, 0.8), 1.0 * np.array([-0.8, 0.0, 0.6])
    sweep, ids = box.sweep(lidar)
    turn = np.diag([1.0, -1.0, -1.0])
    assert sweep.ring is not None
    hung = Sweep(0, "lidar", (sweep.xyz @ turn).astype(np.float32), ring=np.uint16(63) - sweep.ring)
    T, T_hung = np.eye(4), np.eye(4)
    T[:3, :3], T[:3, 3] = AXES, AXES @ lidar
    T_hung[:3, :3], T_hung[:3, 3] = AXES @ turn, AXES @ lidar
    upright = regions_from_pair(sweep, ids, CAM, T, OPTIONS)
    regions = regions_from_pair(hung, ids, CAM, T_hung, OPTIONS, hangs=True)
    assert (regions != upright).mean() < 0.002, "all but what rounds otherwise at the edges of patches"
    assert not wrong_on_box(box, regions, 3)
    assert wrong_on_box(box, regions_from_pair(hung, ids, CAM, T_hung, OPTIONS), 3), "not told, it does not know"


def test_where_every_beam_comes_back_nothing_is_silent() -> None:
    """Nor where a few are lost by chance."""
    box = Box(8.0, -1.0, 1.0, 1.5, 1.0, 9.0)
    sweep, ids = box.sweep(np.array([0.0, 0.0, 0.4]))
    rows = rows_of(sweep)
    assert rows is not None
    assert not len(silent_surface(sweep.xyz, np.arange(len(sweep)), ids, rows, 1.5)[0])
    rng = np.random.default_rng(0)
    keep = np.flatnonzero(rng.random(len(sweep)) > 0.02)
    assert len(silent_surface(sweep.xyz, keep, ids, rows, 1.5)[0]) < 20
