"""The preview: every camera is in it, and points lie where the calibration puts them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import models
import numpy as np
import pytest

from dseg_core import preview_from_frames
from dseg_core.cameras import Camera
from dseg_core.class_colors import GROUND, object_colors
from dseg_core.image_codecs import region_colors
from dseg_core.preview_from_frames import chosen_views, points_over_image, preview
from dseg_core.records import REGION_GROUND, EncodedImage, Frame, Sweep, View, ViewKey
from dseg_core.reporting.neighbour_colors import neighbour_colors
from dseg_core.reporting.pictures import regions_over_image
from dseg_core.store import FrameStore


@pytest.mark.parametrize(("cameras", "count"), [(1, 4), (2, 4), (3, 6), (6, 6)])
def test_every_camera_is_shown_and_time_is_covered(cameras: int, count: int) -> None:
    keys = [ViewKey(d, s, f"cam_{c}") for d in ("a", "b") for s in range(20) for c in range(cameras)]
    chosen = chosen_views(tuple(sorted(keys)))
    assert len(set(chosen)) == count and {key.camera for key in chosen} == {f"cam_{c}" for c in range(cameras)}
    assert {key.drive for key in chosen} == {"a", "b"}
    assert len({(key.drive, key.stamp_ns) for key in chosen}) == count


def test_short_drives_are_shown_at_different_moments() -> None:
    keys = tuple(ViewKey(f"drive_{d:02d}", s, "front") for d in range(16) for s in range(5))
    chosen = chosen_views(keys)
    assert len({key.drive for key in chosen}) == 4 and len({key.stamp_ns for key in chosen}) >= 3


def test_few_views_are_all_shown() -> None:
    keys = tuple(ViewKey("a", s, "front") for s in range(3))
    assert chosen_views(keys) == list(keys) and chosen_views(()) == []


def test_a_point_is_drawn_where_a_pinhole_puts_it_and_the_nearer_one_on_top() -> None:
    """x right, y down, z forward: u = fx x / z + cx, by hand; red is near, blue far; shown at half the size."""
    calibration = Camera.pinhole("optical", 200, 100, 100.0, 100.0, 99.5, 49.5)
    xyz = np.array([[4.0, 2.0, 10.0], [0.0, 0.0, 4.0], [0.0, 0.0, 50.0], [0.0, 0.0, -5.0]], dtype=np.float32)
    T = np.eye(4)
    T[0, 3] = 1.0  # the camera is 1 m left of the sensor, so everything is 1 m further right
    view = View("front", EncodedImage(0, "optical", "png", b""), np.zeros((100, 200), np.uint16), calibration, T)
    drawn = points_over_image(np.zeros((100, 200, 3), np.uint8), Sweep(0, "lidar", xyz), view, 100)
    assert drawn.shape == (50, 100, 3)
    assert drawn[(50 + 20) // 2, (100 + 50) // 2].any()
    near, far = drawn[25, (100 + 25) // 2].astype(int), drawn[25, (100 + 2) // 2].astype(int)
    assert near[0] > near[2] + 80 and far[2] > far[0] + 80
    assert (drawn.any(axis=2)).sum() <= 3 * 4
    same = np.array([[-1.0, 0.0, 50.0], [-1.0, 0.0, 4.0]], dtype=np.float32)
    for xyz in (same, same[::-1]):
        top = points_over_image(np.zeros((100, 200, 3), np.uint8), Sweep(0, "lidar", xyz), view, 100)[25, 50]
        assert int(top[0]) > int(top[2]) + 80


def test_the_file_is_a_picture_with_room_for_every_view(tmp_path: Path) -> None:
    models.write_frames(tmp_path / "frames")
    store = FrameStore(tmp_path / "frames")
    preview(store, tmp_path / "preview.png")
    read = cv2.imread(str(tmp_path / "preview.png"))
    assert read is not None and read.shape[1] == 2 * (760 + 10)
    assert [path.name for path in tmp_path.glob("*.png")] == ["preview.png"]


def test_ground_is_told_from_grey_asphalt_and_has_the_colour_of_the_legend(tmp_path: Path) -> None:
    """Asphalt, half of it ground and half in no region, in the very picture: purple and grey."""
    asphalt = np.full((48, 64, 3), 110, np.uint8)
    regions = np.zeros((48, 64), np.uint16)
    regions[:, 32:] = REGION_GROUND
    over = regions_over_image(asphalt, regions)
    height, width = over.shape[:2]
    none, ground = over[height // 2, width // 4].astype(int), over[height // 2, 3 * width // 4].astype(int)
    assert np.ptp(none) <= 2 and min(ground[0], ground[2]) - ground[1] > 20
    models.write_frames(tmp_path / "frames")
    preview(FrameStore(tmp_path / "frames"), tmp_path / "preview.png")
    legend = cv2.imread(str(tmp_path / "preview.png"))[:38, :, ::-1]
    assert (legend == GROUND).all(axis=2).sum() > 100
    np.testing.assert_array_equal(region_colors(np.array([[REGION_GROUND]], np.uint16))[0, 0], GROUND)
    np.testing.assert_array_equal(object_colors(3)[REGION_GROUND], GROUND)
    np.testing.assert_array_equal(neighbour_colors(regions)[REGION_GROUND], GROUND)


@pytest.mark.parametrize(
    ("proposal", "region", "words"),
    [
        (0, 0, "this sweep has no proposals, nor ground"),
        (1, 1, "this sweep has no proposals but ground"),
        (2, 1, "none of the sweep's objects is in this image"),
        (2, 2, None),
    ],
)
def test_a_picture_without_objects_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proposal: int, region: int, words: str | None
) -> None:
    """An empty picture looks like one whose regions were forgotten."""
    models.write_frames(tmp_path / "frames")
    frame_of = FrameStore.frame

    def with_ids(self: FrameStore, drive: str, stamp_ns: int) -> Frame:
        frame = frame_of(self, drive, stamp_ns)
        views = tuple(replace(view, regions=np.full_like(view.regions, region)) for view in frame.views)
        return replace(frame, proposals=np.full_like(frame.proposals, proposal), views=views)

    told: list[str] = []
    write = preview_from_frames._write
    monkeypatch.setattr(FrameStore, "frame", with_ids)
    monkeypatch.setattr(preview_from_frames, "_write", lambda p, w, *rest: (told.append(w), write(p, w, *rest)))
    preview(FrameStore(tmp_path / "frames"), tmp_path / "preview.png")
    assert [line for line in told if " sweep has " in line or line.startswith("none ")] == 4 * [words] * bool(words)
