"""Sweeps that cannot be used: few reasons however many messages, told of the LiDAR alone, each with what helps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bags
import numpy as np
import pytest

from dseg_core import messages as ros
from dseg_core.errors import DsegError
from dseg_core.fixes_from_reasons import fix_of
from dseg_core.frames_from_bag import record
from dseg_core.inspection.inspect import inspect
from dseg_core.ledger import Ledger, reasons_in_words
from dseg_core.stage_options import InspectOptions, RecordOptions


def cut_off(stamp: int) -> Any:
    """Half of its points' bytes; no two have as many."""
    keep = slice(10000 + stamp // bags.MS % 1000)
    cloud = ros.cloud_to_message(stamp, "lidar", {a: bags.scene()[keep, i].copy() for i, a in enumerate("xyz")})
    cloud.data = cloud.data[: len(cloud.data) // 2]
    return cloud


def without_x(stamp: int) -> Any:
    return ros.cloud_to_message(stamp, "lidar", {axis: np.ones(9, np.float32) for axis in "yz"})


def of_integers(stamp: int) -> Any:
    return ros.cloud_to_message(stamp, "lidar", {axis: np.ones(9, np.int32) for axis in "xyz"})


def without_fields(stamp: int) -> Any:
    cloud = without_x(stamp)
    cloud.fields = []
    return cloud


def shuffled(stamp: int) -> Any:
    """Without rings, in no order, and at no elevations that others have."""
    xyz = np.random.default_rng(stamp).uniform(-20, 20, (9000, 3)).astype(np.float32)
    return ros.cloud_to_message(stamp, "lidar", {axis: xyz[:, i].copy() for i, axis in enumerate("xyz")})


@pytest.mark.parametrize(
    ("sweep", "options", "reason", "fix"),
    [
        (cut_off, {}, "bytes does not fit", "width, height, point_step"),
        (without_x, {}, "cloud has fields y, z, not x, y, z", "x, y and z as float metres"),
        (of_integers, {}, "of unknown unit", "x, y and z as float metres"),
        (without_fields, {}, "cloud has fields none", "x, y and z as float metres"),
        (shuffled, {"proposals.method": "range_image"}, "no ring, no rows and no order", "--proposals.method"),
    ],
)
def test_one_reason_and_what_helps(
    sweep: Callable[[int], Any], options: dict[str, Any], reason: str, fix: str, tmp_path: Path
) -> None:
    """Of the LiDAR, by its topic: nothing is wrong with the camera. `inspect` says why `record` fails."""
    bag = bags.write_bag(tmp_path / "bag", sweep=sweep)
    with pytest.raises(DsegError) as failed:
        record([bag], tmp_path / "frames", RecordOptions.from_mapping(options))
    told = str(failed.value)
    assert told.count(reason) == 1 and "lidar 3 messages, 0 paired, dropped 3 (" in told
    assert "camera 3 messages, 0 paired, dropped 3 (no usable sweep)" in told
    summary = inspect(bag, InspectOptions.from_mapping({"out": str(tmp_path), **options}))
    (problem,) = summary.problems
    assert problem.startswith("lidar (/lidar/points): 3 of 3 messages cannot be used: ") and reason in problem
    assert fix in problem.partition(reason)[2]


def test_some_sweeps_without_beams_are_foretold(tmp_path: Path) -> None:
    """Where the range image was asked for they are dropped, by `inspect` as by `record`."""

    def sweep(stamp: int) -> Any:
        return shuffled(stamp) if stamp == bags.START_NS + 100 * bags.MS else bags.cloud(stamp)

    bag = bags.write_bag(tmp_path / "bag", sweep=sweep)
    options = {"proposals.method": "range_image"}
    told = inspect(bag, InspectOptions.from_mapping({"out": str(tmp_path), **options})).results["account"]
    done = record([bag], tmp_path / "frames", RecordOptions.from_mapping(options)).results["drives"]["bag"]
    assert told["frames"] == done["frames"] == 2 and told["sensors"] == done["sensors"]


def test_a_list_of_reasons_has_an_end() -> None:
    ledger = Ledger()
    for k in range(1000):
        ledger.drop("lidar", f"cloud of {k}x1 points of 16 bytes does not fit {k / 2} bytes")
    assert list(ledger.dropped["lidar"].values()) == [1000]
    for k in range(1000):
        ledger.drop("camera", f"encoding {'abcdefghij'[k % 10] * (1 + k // 10)!r} cannot be read")
    assert len(ledger.dropped["camera"]) < 250 and ledger.total("camera") == 1000
    words = reasons_in_words(ledger.dropped["camera"])
    assert words.count("encoding") == 4 and words.endswith("more reasons") and len(words) < 300
    assert reasons_in_words({"too far": 4, "no sweep": 1}) == "4 (too far), 1 (no sweep)"


@pytest.mark.parametrize("reason", ["no image", "no sweep", "broken jpeg image", "what nobody knows"])
def test_every_reason_has_a_fix(reason: str) -> None:
    assert fix_of(reason).split()[0] in ("Record", "Check", "Look")
