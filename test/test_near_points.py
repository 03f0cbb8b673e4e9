"""Drops, dust and a housing all around a LiDAR are told of; a vehicle's own roof and things close by are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bags
import numpy as np
import pytest
from lidars import cast, spinning

from dseg_core import messages as ros
from dseg_core.frames_from_bag import record
from dseg_core.inspection.inspect import inspect
from dseg_core.near_points import NearWatch, near_note
from dseg_core.records import Sweep
from dseg_core.stage_options import InspectOptions, RecordOptions

TOLD = "points within 1 m of lidar lie in all directions"
BOX = [-1, -1, -1, 1, 1, 1]


def street(highest: float = 2.0) -> np.ndarray:
    """A street with a wall, float32 (N, 3)."""
    xyz, truth = cast(spinning(np.linspace(highest, highest - 45, 64))[0], ((8.0, 12.0, -1.0, 1.0, 1.5),))
    return np.asarray(xyz[truth > 0], np.float32)


def drops(xyz: np.ndarray, share: float = 0.1) -> np.ndarray:
    """Some beams come back from half a metre."""
    rng = np.random.default_rng(0)
    wet = rng.random(len(xyz)) < share
    away = np.linalg.norm(xyz, axis=1)
    return np.where(wet[:, None], xyz * (rng.uniform(0.45, 0.55, len(xyz)) / away)[:, None], xyz).astype(np.float32)


def roof(xyz: np.ndarray) -> np.ndarray:
    """A plane 0.3 m below the LiDAR, up to 1.5 m from it, where beams end."""
    with np.errstate(divide="ignore"):
        reach = np.where(xyz[:, 2] < 0, -0.3 / xyz[:, 2], np.inf)
    hit = xyz * np.where(np.isfinite(reach), reach, 0)[:, None]
    on_it = (np.abs(hit[:, :2]).max(axis=1) < 1.5) & (reach < 1)
    return np.where(on_it[:, None], hit, xyz).astype(np.float32)


def dome(xyz: np.ndarray) -> np.ndarray:
    """Points on a sphere, also where no beam comes back from the street."""
    around = np.random.default_rng(0).normal(size=(len(xyz) // 5, 3))
    return np.concatenate([xyz, 0.4 * around / np.linalg.norm(around, axis=1)[:, None]]).astype(np.float32)


def beside(xyz: np.ndarray) -> np.ndarray:
    """A lorry at 0.8 m, over more than a quarter of the turn."""
    side = np.abs(np.arctan2(xyz[:, 1], xyz[:, 0])) < 0.9
    return np.where(side[:, None], xyz * (0.8 / np.maximum(xyz[:, :1], 0.1)), xyz).astype(np.float32)


@pytest.mark.parametrize(
    ("xyz", "told"),
    [
        (street(), False),
        (roof(street(10.0)), False),
        (beside(street()), False),
        (drops(street(), 0.01), False),
        (drops(street()), True),
        (drops(roof(street(10.0))), True),
        (dome(street()), True),
        (np.full((50, 3), np.nan, np.float32), False),
        (np.zeros((0, 3), np.float32), False),
    ],
)
def test_what_is_near_in_all_directions(xyz: np.ndarray, told: bool) -> None:
    assert (TOLD in near_note(Sweep(0, "lidar", xyz))) == told


def test_the_roof_is_near_indeed() -> None:
    away = np.linalg.norm(roof(street(10.0)), axis=1)
    assert np.mean((away > 0.3) & (away < 1)) > 0.03


def test_only_some_sweeps_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = list[str]()
    monkeypatch.setattr("dseg_core.near_points.near_note", lambda sweep: looked.append(sweep.frame_id) or "near")
    watch = NearWatch()
    notes = [watch.note(Sweep(0, "lidar", np.zeros((0, 3), np.float32)), lambda sweep: sweep) for _ in range(100)]
    assert set(notes) == {"near"} and len(looked) == 2 * 7


def test_drops_are_told_by_both_until_a_box_takes_them(tmp_path: Path) -> None:
    xyz = drops(street(10.0))

    def sweep(stamp: int) -> Any:
        return ros.cloud_to_message(stamp, "lidar", {a: xyz[:, i].copy() for i, a in enumerate("xyz")})

    bag = bags.write_bag(tmp_path / "bag", sweep=sweep)
    summary = record([bag], tmp_path / "frames", RecordOptions())
    assert summary.text.count(TOLD) == 1 and "--ego.box=-1,-1,-1,1,1,1" in summary.text
    assert sum(TOLD in note for note in inspect(bag, InspectOptions(out=tmp_path)).results["sensors"]["notes"]) == 1
    boxed = record([bag], tmp_path / "boxed", RecordOptions.from_mapping({"ego.box": BOX})).text
    assert TOLD not in boxed and "--ego.box takes 10." in boxed
