"""What `dseg inspect` says of beams is what proposals use, and agrees with what is noted of the clouds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bags
import numpy as np
import pytest

from dseg_core import messages as ros
from dseg_core.inspection.inspect import inspect
from dseg_core.stage_options import InspectOptions

ROWS, COLUMNS = 32, 360


def measured() -> tuple[np.ndarray, np.ndarray]:
    """The scene's points without misses, beam by beam, and their rings."""
    seen = np.isfinite(bags.scene()).all(axis=1)
    return bags.scene()[seen], bags.rings()[seen]


def columns(xyz: np.ndarray, **more: np.ndarray) -> dict[str, Any]:
    return {axis: xyz[:, i].copy() for i, axis in enumerate("xyz")} | more


def by_rings() -> tuple[dict[str, Any], int]:
    xyz, ring = measured()
    return columns(xyz, ring=ring), 0


def by_order() -> tuple[dict[str, Any], int]:
    return columns(measured()[0]), 0


def organised() -> tuple[dict[str, Any], int]:
    return columns(bags.scene()), ROWS


def by_columns() -> tuple[dict[str, Any], int]:
    return columns(bags.scene().reshape(ROWS, COLUMNS, 3).transpose(1, 0, 2).reshape(-1, 3)), COLUMNS


def full() -> tuple[dict[str, Any], int]:
    """Without any miss: nothing is left out of the rows."""
    direction = bags.scene()
    direction[~np.isfinite(direction).all(axis=1)] = 0
    elevation = np.repeat(np.deg2rad(np.linspace(10, -30, ROWS)), COLUMNS)
    azimuth = np.tile(np.deg2rad(np.arange(180, -180, -1.0)), ROWS)
    ray = np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1)
    missed = (direction == 0).all(axis=1, keepdims=True)
    return columns(np.where(missed, 50 * ray, direction).astype(np.float32)), ROWS


def wrong_rings() -> tuple[dict[str, Any], int]:
    xyz, ring = measured()
    return columns(xyz, ring=np.random.default_rng(0).permutation(ring)), 0


def too_many_rings() -> tuple[dict[str, Any], int]:
    xyz, _ = measured()
    return columns(xyz, ring=np.arange(len(xyz), dtype=np.uint16)), 0


def told(cloud: dict[str, Any], rows: int, folder: Path) -> Any:
    bag = bags.write_bag(folder / "bag", sweep=lambda stamp: ros.cloud_to_message(stamp, "lidar", cloud, rows))
    return inspect(bag, InspectOptions.from_mapping({"out": str(folder), "check": {"frames": 0}}))


@pytest.mark.parametrize(
    ("make", "source"),
    [
        (by_rings, "their rings"),
        (by_order, "the order of points"),
        (organised, "the organised cloud"),
        (by_columns, "the organised cloud"),
        (full, "the organised cloud"),
        (wrong_rings, "the order of points"),
        (too_many_rings, "the order of points"),
    ],
)
def test_beams_are_known_by_what_they_are_known_by(make: Any, source: str, tmp_path: Path) -> None:
    found = told(*make(), tmp_path)
    lidar = found.results["lidar"]
    assert lidar["rows_from"] == source and f" beams, from {source}" in found.text
    assert lidar["elevation_deg"][0] == pytest.approx(-30, abs=0.1) and lidar["returns"] == 1
    is_wrong = make in (wrong_rings, too_many_rings)
    assert ("rings of lidar do not fit its points" in " ".join(found.text.split())) == is_wrong


@pytest.mark.parametrize("rings", [True, False])
@pytest.mark.parametrize("twice", [0.0, 0.2])
def test_returns_are_those_of_the_note(rings: bool, twice: float, tmp_path: Path) -> None:
    """Second ones 5 % behind the first: within half a metre of most."""
    xyz, ring = measured()
    again = np.repeat(np.arange(len(xyz)), 1 + (np.random.default_rng(0).random(len(xyz)) < twice))
    further = np.concatenate([[False], np.diff(again) == 0])
    cloud = columns((xyz[again] * np.where(further, 1.05, 1.0)[:, None]).astype(np.float32))
    found = told(cloud | ({"ring": ring[again]} if rings else {}), 0, tmp_path)
    assert ("second returns: " in found.text) == (twice > 0)
    assert found.results["lidar"]["returns"] == 1 + (twice > 0)
    assert ("two returns a pulse" if twice else "one return a pulse") in found.text


def test_points_in_one_plane_are_no_second_returns(tmp_path: Path) -> None:
    """Of 32 beams one after the other: azimuths come again, in other beams."""
    xyz, _ = measured()
    found = told(columns(xyz * np.array([1, 1, 0], np.float32)), 0, tmp_path)
    assert "second returns" not in found.text and "two returns" not in found.text


@pytest.mark.parametrize("miss", [np.nan, 0.0])
def test_a_cloud_of_which_most_is_lost_is_told_of(miss: float, tmp_path: Path) -> None:
    xyz, _ = measured()
    lost = np.random.default_rng(0).random((len(xyz), 1)) < 0.9
    found = told(columns(np.where(lost, np.float32(miss), xyz)), 0, tmp_path)
    assert "fewer than 20% of the points of lidar are measurements" in " ".join(found.text.split())
