"""Shared fixtures."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples every time, and as long as they take: a slow machine is no failure.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

# What other machines on the network publish is none of the tests' business.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

# Small machines: one thread per library keeps parallel tests from fighting over the cores.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# ROS has it, PyPI has not. Processes that tests start take the path from the environment.
if importlib.util.find_spec("message_filters") is None:
    _standins = str(Path(__file__).parent / "ros_standins")
    sys.path.append(_standins)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), _standins]))

DRIVES = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def kitti_bag() -> Path:
    """The real drive of 40 pairs: one camera, 64 beams."""
    return _drive("kitti_city")


@pytest.fixture(scope="session")
def nuscenes_bag() -> Path:
    """The real sample with six cameras and 32 beams."""
    return _drive("nuscenes_sample")


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that `dseg demo --profile small` makes, once for all tests: bags, frames, run, masks. Never write to it."""
    from dseg_core.pipeline import demo
    from dseg_core.stage_options import DemoOptions

    out = tmp_path_factory.mktemp("small") / "demo"
    demo(out, DemoOptions(profile="small"))
    return out


def _drive(name: str) -> Path:
    path = DRIVES / name
    if not path.is_dir():
        pytest.skip(f"the real drive {name} is not at {path}")
    return path


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An exported run (`run/model.onnx`) beside the frames it belongs to (`frames`). Never write to it."""
    import models

    from dseg_core.model_from_student import export
    from dseg_core.stage_options import ExportOptions

    folder = tmp_path_factory.mktemp("tiny")
    models.write_frames(folder / "frames")
    models.write_run(folder / "run", folder / "frames")
    export(folder / "run", ExportOptions())
    made = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    yield folder / "run"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == made, "a test wrote to what others read"


@pytest.fixture
def own_run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the exported run, beside its frames, to write to."""
    shutil.copytree(tiny_run.parent, tmp_path / "tiny")
    return tmp_path / "tiny" / tiny_run.name
