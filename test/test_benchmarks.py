"""Benchmarks import what there is: else a change would be noticed only by who measures next."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lidars import HEIGHT, cast, spinning
from scipy.spatial.transform import Rotation

FOLDER = Path(__file__).parents[1] / "benchmarks"


def test_every_benchmark_finds_what_it_uses() -> None:
    """In one process of their own: they set environment variables, and find each other in their folder."""
    names = sorted(path.stem for path in FOLDER.glob("*.py"))
    assert "proposals" in names
    code = f"import sys; sys.path[:0] = [{str(FOLDER)!r}, {str(FOLDER.parent)!r}]\n" + "".join(
        f"import {name}\n" for name in names
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_boxes_of_sustech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A cloud with a car turned by 30 degrees, stored as theirs are: the car is found, and so is the table's row."""
    monkeypatch.syspath_prepend(str(FOLDER))
    boxes = importlib.import_module("proposal_boxes")
    ray, ring = spinning(np.linspace(4, -24, 40), 1800)
    xyz, truth = cast(ray, ((8.0, 12.0, -1.0, 1.0, 1.5),))
    xyz = (xyz @ Rotation.from_euler("z", 30, degrees=True).as_matrix().T)[truth > 0]
    cloud = np.zeros(len(xyz), boxes.PCD)
    cloud["xyz"], cloud["ring"] = xyz, ring[truth > 0]
    header = f"# .PCD v0.7\nFIELDS x y z\nPOINTS {len(cloud)}\nDATA binary\n"
    center = {"x": 10 * np.cos(np.pi / 6), "y": 10 * np.sin(np.pi / 6), "z": 0.75 - HEIGHT}
    psr = {"position": center, "scale": {"x": 4.1, "y": 2.1, "z": 1.6}, "rotation": {"x": 0, "y": 0, "z": np.pi / 6}}
    for folder in ("lidar", "label"):
        (tmp_path / folder).mkdir()
    (tmp_path / "lidar" / "1.pcd").write_bytes(header.encode() + cloud.tobytes())
    (tmp_path / "label" / "1.json").write_text(json.dumps([{"obj_type": "Car", "psr": psr}]))

    ((sweep, [box]),) = boxes.of_sustech(tmp_path)
    monkeypatch.setattr("sys.argv", ["boxes", "--sustech", str(tmp_path), "--only", "dseg, range image"])
    boxes.main()

    np.testing.assert_array_equal(sweep.xyz, cloud["xyz"])
    np.testing.assert_array_equal(sweep.ring, cloud["ring"])
    assert box.name == "car"
    assert "| car | 1 | 100.0 |" in capsys.readouterr().out
