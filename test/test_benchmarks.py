"""Benchmarks import what there is: else a change would be noticed only by who measures next."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lidars import HEIGHT, cast, spinning
from scipy.spatial.transform import Rotation

from dseg_core.errors import DsegError

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


@pytest.mark.parametrize(
    ("script", "given", "words"),
    [
        ("proposal_quality", ["--setting", "nix"], "no setting has 'nix' in its name; there are: streets; hills"),
        ("proposal_quality", ["--worlds", "0"], "--worlds: '0' is no whole number from 1 on"),
        ("proposal_quality", ["--worlds", "-1"], "--worlds: '-1' is no whole number from 1 on"),
        ("proposals", ["--turns", "0"], "--turns: '0' is no whole number from 1 on"),
        ("proposal_boxes", [], "give --av2 LOG, --sustech FOLDER or both"),
        ("proposal_boxes", ["--av2", "/nope"], "/nope: --av2: has no annotations.feather"),
        ("proposal_boxes", ["--sustech", "/nope"], "/nope: --sustech: has no lidar/"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    script: str, given: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No empty table, none of nan, no traceback."""
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module(script)
    monkeypatch.setattr("sys.argv", [script, *given])
    with pytest.raises((SystemExit, DsegError)) as refused:
        module.main()
    said = capsys.readouterr()
    assert said.out == "" and words in said.err + str(refused.value)
    assert not isinstance(refused.value, SystemExit) or refused.value.code == 2


def test_help_tells_of_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the scripts that compare proposals: an option without a word helps nobody."""
    monkeypatch.syspath_prepend(str(FOLDER))
    made: list[argparse.ArgumentParser] = []

    def stop(parser: argparse.ArgumentParser) -> None:
        made.append(parser)
        raise SystemExit

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    for script in ("proposals", "proposal_quality", "proposal_boxes"):
        with pytest.raises(SystemExit):
            importlib.import_module(script).main()
    assert len(made) == 3
    for parser in made:
        assert all(action.help for action in parser._actions), parser.format_help()
        parser.format_help()


def test_methods_that_are_not_installed_are_named_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("proposal_peers")
    monkeypatch.setattr(module, "_PACKAGES", module._PACKAGES | {"no_such_module": "no-such-package"})
    module.tell_left_out.cache_clear()
    for _ in range(2):
        with module.peers(module.Lidar(1.7, 64, (-24.8, 2.0), 4500, 64), [], []) as methods:
            assert {"dseg, range image", "dseg, euclidean", "depth clustering"} <= set(methods)
    said = capsys.readouterr().err
    assert said.count("no-such-package; pip install --no-deps ") == 1 and said.count("left out") == 1
    module.tell_left_out.cache_clear()
    with module.peers(module.Lidar(1.7, 64, (-24.8, 2.0), 4500, 64), ["dseg, range image"], []):
        assert not capsys.readouterr().err, "whoever chooses misses nothing"


def test_tables_have_the_titles_of_the_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    titles = list(importlib.import_module("proposal_quality").COLUMNS.values())
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"| method | {' | '.join(titles[:10])} |" in readme
