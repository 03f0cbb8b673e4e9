"""Regions: what the camera sees of proposals, with known answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bags import CAMERA
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dseg_core.cameras import Camera
from dseg_core.frames_from_bag import record
from dseg_core.records import Sweep
from dseg_core.regions_from_pair import regions_from_pair
from dseg_core.stage_options import RecordOptions, RegionOptions
from dseg_core.store import FrameStore
from dseg_core.transforms import matrix_from_pose

OPTIONS = RegionOptions()
AXES = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])  # optical from x forward, z up
CAM = Camera.pinhole("cam", 320, 160, 200.0, 200.0, 160.0, 80.0)


def beams(surfaces: list[tuple[float, float, float, float, float]]) -> tuple[Sweep, np.ndarray]:
    """64 x 900 beams ahead onto upright surfaces (x, y range, z range); the nearest wins. And ids, 2 for the first."""
    e, a = np.meshgrid(np.linspace(0.25, -0.25, 64), np.linspace(-0.8, 0.8, 450), indexing="ij")
    ray = np.stack([np.ones(e.size), np.tan(a).ravel(), (np.tan(e) / np.cos(a)).ravel()], axis=1)
    reach, ids = np.full(e.size, np.inf), np.zeros(e.size, np.uint16)
    for number, (x, y0, y1, z0, z1) in enumerate(surfaces, start=2):
        at = ray * x
        hit = (at[:, 1] > y0) & (at[:, 1] < y1) & (at[:, 2] > z0) & (at[:, 2] < z1) & (x < reach)
        reach[hit], ids[hit] = x, number
    seen = np.isfinite(reach)
    ring = np.repeat(np.arange(64, dtype=np.uint16), 450)[seen]
    return Sweep(0, "l", (ray[seen] * reach[seen, None]).astype(np.float32), ring=ring), ids[seen]


def test_a_wall_that_the_camera_cannot_see_never_labels_the_post_before_it() -> None:
    """The LiDAR is 0.8 m to the left of the camera and sees the wall behind the post."""
    post, wall = (5.0, -0.3, 0.3, -1.0, 1.0), (15.0, -9.0, 9.0, -3.0, 3.0)
    sweep, ids = beams([post, wall])
    T = AXES.copy()
    T[:3, 3] = AXES[:3, :3] @ [0.0, 0.8, 0.0]  # the camera is to the right
    regions = regions_from_pair(sweep, ids, CAM, T, OPTIONS)
    left, right = (round(160 - 200 * (y + 0.8) / 5) for y in (0.3, -0.3))
    top, bottom = 80 - 40, 80 + 40
    inside = regions[top + 4 : bottom - 4, left + 2 : right - 1]
    assert (inside == 2).all()
    outside = regions.copy()
    outside[top - 5 : bottom + 6, left - 4 : right + 5] = 0
    assert not (outside == 2).any()
    assert (regions[60:100, 200:264] == 3).mean() > 0.95


def test_patches_do_not_bleed_over_another_proposal() -> None:
    """Two surfaces side by side at one distance part where they part; the gap to nothing stays narrow."""
    sweep, ids = beams([(8.0, -4.0, 0.0, -1.5, 1.5), (8.0, 0.0, 4.0, -1.5, 1.5)])
    regions = regions_from_pair(sweep, ids, CAM, AXES, OPTIONS)
    assert (regions[50:110, 162:250] == 2).all() and (regions[50:110, 70:158] == 3).all()
    assert not regions[:36].any() and not regions[124:].any()


def test_small_gaps_are_closed_and_large_ones_kept() -> None:
    sweep, ids = beams([(8.0, -4.0, 4.0, -1.5, 1.5)])
    u = 160 - 200 * sweep.xyz[:, 1] / sweep.xyz[:, 0]
    kept = ~((u > 100) & (u < 103.5)) & ~((u > 200) & (u < 230))
    part = Sweep(0, "l", sweep.xyz[kept], ring=sweep.ring[kept] if sweep.ring is not None else None)
    regions = regions_from_pair(part, ids[kept], CAM, AXES, OPTIONS)
    assert (regions[60:100, 80:190] == 2).all() and not regions[60:100, 206:224].any()
    opened = regions_from_pair(part, ids[kept], CAM, AXES, replace(OPTIONS, hole=0))
    assert ((opened == 0) | (opened == regions)).all()


def test_a_window_is_its_objects_and_a_gap_to_nothing_is_not() -> None:
    """A frame at 6 m, 1.2 m wide and 0.7 m high inside, that nothing is seen through; its top or bottom may lack."""
    frame = [(6.0, -1, -0.6, -1, 1), (6.0, 0.6, 1, -1, 1), (6.0, -1, 1, -1, -0.35), (6.0, -1, 1, 0.35, 1)]
    window = np.s_[72:89, 144:177]
    for parts, options, closed in (
        (frame, OPTIONS, True),
        (frame, replace(OPTIONS, window=0.0), False),
        (frame, replace(OPTIONS, window=1.1), False),
        (frame[:3], OPTIONS, True),
        ([*frame[:2], frame[3]], OPTIONS, False),
    ):
        sweep, ids = beams(parts)
        regions = regions_from_pair(sweep, np.where(ids > 1, 2, 0).astype(np.uint16), CAM, AXES, options)
        assert (regions[window] == 2).all() if closed else not regions[72:77, 150:170].any()
        if len(parts) == 3 and closed:
            assert not regions[:57, 150:170].any(), "half as high, 1 m, above the 12 pixels below the middle"
    ground = np.ones(len(ids), np.uint16)
    assert not regions_from_pair(sweep, ground, CAM, AXES, OPTIONS)[window].any(), "ground has no windows"


def test_thin_things_are_as_wide_as_they_are() -> None:
    """Ten posts of 0.18 to 0.36 m, 5 m away, before a wall; beams 2.1 pixels apart. Patches of 1.4 are too wide."""
    wide = Camera.pinhole("cam", 960, 480, 600.0, 600.0, 480.0, 240.0)
    widths = 0.18 + 0.02 * np.arange(10)
    posts = [(5.0, 0.7 * k - 3.2, 0.7 * k - 3.2 + width, -1.5, 1.5) for k, width in enumerate(widths)]
    sweep, ids = beams([*posts, (15.0, -9.0, 9.0, -3.0, 3.0)])
    off = []
    for border in (1.0, 1.4):
        regions = regions_from_pair(sweep, ids, wide, AXES, replace(OPTIONS, border=border))
        painted = np.array([(regions[200:280] == 2 + k).sum(axis=1).mean() for k in range(10)])
        off.append(painted - 120 * widths)
    assert np.abs(off[0]).max() < 2.6 and abs(off[0].mean()) < 0.4 and off[1].mean() > off[0].mean() + 0.6


def test_ground_seen_through_a_window_is_hidden() -> None:
    """The frame of a window at 6 m, without glass for the LiDAR, and ground (as an upright patch) at 12 m behind it."""
    frame = [(6.0, -1, -0.4, -1, 1), (6.0, 0.4, 1, -1, 1), (6.0, -1, 1, -1, -0.3), (6.0, -1, 1, 0.3, 1)]
    sweep, ids = beams([*frame, (12.0, -9.0, 9.0, -3.0, 3.0)])
    ids = np.where(ids == 6, 1, 2).astype(np.uint16)
    window = (slice(74, 87), slice(150, 171))
    assert not (regions_from_pair(sweep, ids, CAM, AXES, OPTIONS)[window] == 1).any()
    assert (regions_from_pair(sweep, ids, CAM, AXES, replace(OPTIONS, enclosed=0.0))[window] == 1).all()


def test_ground_between_two_objects_or_before_one_is_seen() -> None:
    """Only what one and the same nearer object encloses is behind its window."""
    ground, posts = (12.0, -9.0, 9.0, -3.0, 3.0), [(6.0, -0.7, -0.3, -1, 1), (6.0, 0.3, 0.7, -1, 1)]
    sweep, ids = beams([*posts, ground])
    between, window = np.where(ids == 4, 1, ids).astype(np.uint16), np.s_[65:95, 153:168]
    assert (regions_from_pair(sweep, between, CAM, AXES, OPTIONS)[window] == 1).all()
    one = np.where(between == 3, 2, between).astype(np.uint16)
    assert not (regions_from_pair(sweep, one, CAM, AXES, OPTIONS)[window] == 1).any()
    sweep, ids = beams([(6.0, -0.15, 0.15, -0.5, 0.5), (12.0, -9.0, 9.0, -3.0, 3.0)])
    before = np.where(ids == 2, 1, 2).astype(np.uint16)
    assert (regions_from_pair(sweep, before, CAM, AXES, OPTIONS)[70:90, 157:164] == 1).all()


@pytest.mark.parametrize("ahead", [0.0, 4.0])
def test_a_patch_reaches_half_way_to_the_beams_around_it(ahead: float) -> None:
    """A level beam on a cylinder of 10 m, the next ones 4 deg above and 8 deg below; the camera may be nearer to it."""
    turn = np.deg2rad(np.concatenate([np.arange(-20, 16), np.arange(90, 271)]))
    ring = np.repeat(np.arange(3, dtype=np.uint16), len(turn))
    elevation = np.deg2rad([4.0, 0.0, -8.0])[ring]
    azimuth = np.tile(turn, 3)
    rays = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    xyz = (10 * np.stack(rays, axis=1)).astype(np.float32)
    shown = (ring == 1) | (xyz[:, 0] < 0)  # of the beams above and below only what lies behind the camera
    sweep, spread = Sweep(0, "l", xyz[shown], ring=ring[shown]), 0.8
    T = AXES.copy()
    T[2, 3] = -ahead
    options = replace(OPTIONS, spread=spread, fill=100, hole=0, enclosed=0.0)
    regions = regions_from_pair(sweep, np.full(len(sweep), 2, np.uint16), CAM, T, options)
    nearer = 10 / (10 - ahead)
    rows = np.flatnonzero(regions[:, 160])
    assert (80 - rows.min(), rows.max() - 80) == pytest.approx(
        [nearer * spread * 200 * np.deg2rad(half) for half in (2, 4)], abs=1
    )
    columns = np.flatnonzero(regions[80])
    for azimuth, end in ((np.deg2rad(15), columns.min()), (np.deg2rad(-20), columns.max())):
        x, y = 10 * np.cos(azimuth) - ahead, -10 * np.sin(azimuth)
        patch = spread * 200 * np.deg2rad(0.5) * (1 + (y / x) ** 2) * 10 / np.hypot(x, y)
        assert abs(end - 160) == pytest.approx(abs(200 * y / x) + patch, abs=1)


@pytest.mark.parametrize("sign", [1, -1], ids=["stamped at the start", "stamped at the end"])
def test_each_point_is_moved_by_its_own_time(sign: int) -> None:
    """Against a pose per point, slerped by scipy: 15 m/s and 1 rad/s over 0.1 s; a little on the stamp's other side."""
    rng = np.random.default_rng(0)
    xyz = rng.uniform([6, -5, -1.5], [25, 5, 2], (400, 3)).astype(np.float32)
    time = rng.integers(0, 100_000_000, 400)
    time[:2] = 100_000_000, -500_000
    sweep = Sweep(0, "l", xyz, time_ns=sign * time)
    assert sweep.farthest_ns == sign * 100_000_000
    end = AXES.copy()
    turn = Rotation.from_euler("z", 0.1)
    end[:3, :3] = AXES[:3, :3] @ turn.as_matrix()
    end[:3, 3] = AXES[:3, :3] @ [1.5, 0.0, 0.0]
    options = replace(OPTIONS, fill_without_beams=0.5, hole=0, enclosed=0.0)
    found = regions_from_pair(sweep, np.arange(2, 402, dtype=np.uint16), CAM, AXES, options, end)
    share = time[:, None] / 1e8
    moved = Rotation.from_rotvec(turn.as_rotvec() * share).apply(xyz) + [1.5, 0, 0] * share
    uv, visible = CAM.project(moved @ AXES[:3, :3].T)
    away = [
        np.abs(np.argwhere(found == i + 2)[:, ::-1] - uv[i]).max(axis=1).min()
        for i in np.flatnonzero(visible)
        if (found == i + 2).any()
    ]
    assert len(away) > 100 and np.max(away) < 2.0
    still = regions_from_pair(sweep, np.arange(2, 402, dtype=np.uint16), CAM, AXES, options)
    assert (still != found).mean() > 0.005


def test_nothing_in_nothing_out() -> None:
    empty = Sweep(0, "l", np.zeros((0, 3), np.float32))
    assert not regions_from_pair(empty, np.zeros(0, np.uint16), CAMERA, np.eye(4), OPTIONS).any()
    behind = Sweep(0, "l", np.full((5, 3), -5, np.float32))
    assert not regions_from_pair(behind, np.full(5, 2, np.uint16), CAM, AXES, OPTIONS).any()


def test_real_drives(kitti_bag: Path, nuscenes_bag: Path, tmp_path: Path) -> None:
    record([kitti_bag, nuscenes_bag], tmp_path / "frames", RecordOptions(max_frames=1))
    store = FrameStore(tmp_path / "frames")
    views = [store.view(key) for key in store.view_keys]
    assert len(views) == 7
    for view in views:
        painted, size = view.regions > 0, view.regions.shape
        assert 0.1 < painted.mean() < 0.9 and len(np.unique(view.regions)) > 5
        assert not painted[: size[0] // 12].any(), "no sky"
        assert (view.regions[size[0] // 2 :] == 1).mean() > 0.1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_points_left_out_before_projection_are_never_seen(seed: int, moving: bool) -> None:
    """Whatever the camera's place and the vehicle's motion: the same regions as when every point is projected."""
    rng = np.random.default_rng(seed)
    xyz = (rng.normal(0, 1, (800, 3)) * [10, 10, 2]).astype(np.float32)
    time_ns = rng.integers(-20_000_000, 100_000_000, 800) if moving else None
    sweep = Sweep(0, "lidar", xyz, time_ns=time_ns)
    proposals = rng.integers(0, 9, 800).astype(np.uint16)
    camera = Camera.pinhole("camera", 80, 60, *rng.uniform(30, 90, 2), 39.5, 29.5)
    T = matrix_from_pose(rng.normal(0, 1, 3), rng.normal(0, 1, 4))
    T_end = T @ matrix_from_pose(rng.normal(0, 1, 3), [*rng.normal(0, 0.1, 3), 1.0]) if moving else None
    found = regions_from_pair(sweep, proposals, camera, T, RegionOptions(), T_end)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("dseg_core.regions_from_pair._may_be_seen", lambda *_: np.arange(800))
        np.testing.assert_array_equal(found, regions_from_pair(sweep, proposals, camera, T, RegionOptions(), T_end))
