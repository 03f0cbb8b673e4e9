"""Sweeps that hardly become ground or objects, and images no point lies in: told by `record` as by `inspect`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bags
import numpy as np
import pytest

from dseg_core import messages as ros
from dseg_core.cli import main
from dseg_core.errors import OptionError
from dseg_core.frames_from_bag import record
from dseg_core.inspection.inspect import inspect
from dseg_core.progress import Summary
from dseg_core.records import Frame, Sweep
from dseg_core.shares_from_frames import LOOKS, shares_from_frames, spread, told_of_shares
from dseg_core.stage_options import InspectOptions, RecordOptions
from dseg_core.store import read_json

Points = Callable[[np.ndarray], np.ndarray]


def bag_of(path: Path, points: Points, keep: slice = slice(None)) -> Path:
    """The usual street with other points."""

    def sweep(stamp: int) -> Any:
        xyz = points(bags.scene())[keep].astype(np.float32)
        columns = {axis: xyz[:, i].copy() for i, axis in enumerate("xyz")}
        return ros.cloud_to_message(stamp, "lidar", columns | {"ring": bags.rings()[keep]})

    return bags.write_bag(path, sweep=sweep)


def both(bag: Path, **options: Any) -> tuple[Summary, Summary]:
    """What `record` and `inspect` say."""
    done = record([bag], bag.parent / f"{bag.name}_frames", RecordOptions.from_mapping(options))
    return done, inspect(bag, InspectOptions.from_mapping({"out": str(bag.parent), **options}))


def test_shares_are_of_all_measured_points() -> None:
    """Not only of those that are in a proposal: where none is, nothing is ground."""
    xyz = np.array([[5, 0, 0]] * 8 + [[0, 0, 0]] * 2 + [[4e4, 0, 0]], np.float32)
    ids = np.array([0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0], np.uint16)
    shares = shares_from_frames([Frame("a", Sweep(0, "lidar", xyz), ids, ())])
    assert (shares["ground"], shares["objects"]) == (0.25, 0.125)
    none = shares_from_frames([Frame("a", Sweep(0, "lidar", xyz), np.zeros(11, np.uint16), ())])
    assert none["ground"] == none["objects"] == 0.0
    assert shares_from_frames([]) == {} and not list(told_of_shares({}))


def test_looks_are_spread_over_a_drive() -> None:
    assert spread(LOOKS, 6) == [0, 2, 3, 5] and spread(LOOKS, 2) == [0, 1] and spread(LOOKS, 0) == [0]


@pytest.mark.parametrize(
    ("points", "keep", "options", "told"),
    [
        (
            lambda xyz: np.full_like(xyz, 9.0),
            slice(1),
            {},
            "only 0% of the points are ground and 0.0% are of objects",
        ),
        (lambda xyz: xyz * [1, 1, 0], slice(None), {}, "only 0.0% of the points are of objects: see that z"),
        (lambda xyz: xyz, slice(None), {"proposals.min_points": 1000000}, "points are of objects: see that z"),
        (lambda xyz: xyz * [1, 1, -1], slice(None), {}, "of the points are ground: see that z points up"),
        (lambda xyz: xyz * 1000, slice(None), {}, "metres, not millimetres"),
    ],
)
def test_hardly_any_ground_or_object_is_told_by_both(
    points: Points, keep: slice, options: dict[str, Any], told: str, tmp_path: Path
) -> None:
    done, foretold = both(bag_of(tmp_path / "bag", points, keep), **options)
    (line,) = (line for line in done.text.splitlines() if told in line)
    assert line.removeprefix("bag: ") in foretold.results["warnings"]
    assert done.results["drives"]["bag"]["ground"] == foretold.results["lidar"]["ground"]


def test_a_street_as_usual_is_not_told_of(tmp_path: Path) -> None:
    done, foretold = both(bag_of(tmp_path / "bag", lambda xyz: xyz))
    assert "only" not in done.text and "only 0" not in " ".join(foretold.results["warnings"])
    row = done.results["drives"]["bag"]
    assert row["ground"] > 0.9 and 0.005 < row["objects"] < 0.1
    assert f"{100 * row['ground']:.0f} % of the points would be ground" in foretold.text


def test_images_without_any_point_are_told_by_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Frames are there, but no region is in any: `record` fails as `inspect` foretells, also when it goes on later."""
    bag = bag_of(tmp_path / "bag", lambda xyz: xyz * [0.1, 0.1, 1] + [0, 0, 50])
    told = "no point of the sweeps lies in an image of camera. Check the mounting in /tf_static"
    for command in (["record"], ["record"], ["inspect"]):
        assert main([*command, str(bag), "--out", str(tmp_path / command[0])]) == 1
        assert told in capsys.readouterr().err
    assert told in read_json(tmp_path / "record" / "summary.json")["problems"][0]


def test_the_points_that_the_box_takes_are_told_by_both(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", lambda xyz: xyz)
    done, foretold = both(bag, **{"ego.box": [-100, -100, -100, 100, 100, 100]})
    told = "--ego.box takes 100.0% of the points: see that it holds the vehicle only"
    assert done.text.count(told) == 1 and foretold.text.count("--ego.box takes 100.0%") == 1
    assert any(line.startswith(told) for line in foretold.results["warnings"])
    assert "are ground" not in done.text  # what little is left tells nothing of the sweeps
    for summary in both(bag_of(tmp_path / "other", lambda xyz: xyz), **{"ego.box": [-4, -1, -3, 4, 1, 0]}):
        (note,) = (line for line in summary.text.splitlines() if "--ego.box takes" in line)
        assert 0 < float(note.split("takes ")[1].split("%")[0]) < 50 and "see that" not in summary.text


def test_a_frame_of_no_box_is_refused() -> None:
    with pytest.raises(OptionError, match=r"frame = 'nix' is of no use without a box"):
        RecordOptions.from_mapping({"ego.frame": "nix"})
    assert RecordOptions.from_mapping({"ego": {"frame": "base_link", "box": [-1, -1, -1, 1, 1, 1]}}).ego.frame
