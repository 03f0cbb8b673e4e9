"""Loops compiled ahead, by calls that were found out without compiling: recording afterwards compiles nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUN = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from numba.core import event
from numba.core.dispatcher import Dispatcher
from dseg_core.loops_compiled import _STEPS, _steps, _turn, calls_by_need

def kinds():
    modules = [m for name, m in sys.modules.items() if name.startswith("dseg_core.")]
    found = {v for m in modules for v in vars(m).values() if isinstance(v, Dispatcher)}
    return {f"{v.py_func.__module__}.{v.py_func.__name__}{s}" for v in found for s in v.signatures}

compiled = []
class Compiling(event.Listener):
    def on_start(self, event):
        compiled.append(event.data["dispatcher"].py_func)
    def on_end(self, event):
        pass
event.register("numba:compile", Compiling())

assert not kinds()
needed = list(calls_by_need())
assert not compiled, "nothing is compiled to find out what is to be compiled"
for calls in needed:
    for loop, types in calls:
        loop.compile(types)
known = kinds()
assert len(known) > 20, known
assert len(list(_steps(200))) == _STEPS

from bags import write_bag
from dseg_core.frames_from_drive import record_drive
from dseg_core.proposals_from_sweep import method_of, proposals_from_sweep
from dseg_core.stage_options import ProposalOptions, RecordOptions

for number, bag in enumerate([write_bag(Path(sys.argv[1]) / "drive"), *map(Path, sys.argv[2:])]):
    account = record_drive(bag, Path(sys.argv[1]) / f"frames{number}", RecordOptions(max_frames=3))
    assert account["frames"], account
sweep, options = _turn(0.0), ProposalOptions()
rng = np.random.default_rng(0)
noise = rng.normal(0, 0.3, sweep.xyz.shape).astype(np.float32)
mixed = replace(sweep, xyz=(sweep.xyz + noise)[rng.permutation(len(sweep))], ring=None)
assert method_of(mixed, options) == "euclidean"
for case in (mixed, replace(mixed, xyz=mixed.xyz[:400]), _turn(-0.15), replace(_turn(0.1), ring=None)):
    proposals_from_sweep(case, options)
assert kinds() == known, kinds() - known
print(*{loop.__qualname__ for loop in compiled})
"""


def run(folder: Path, *command: str, **environment: str) -> subprocess.Popen[str]:
    paths = f"{ROOT}{os.pathsep}{ROOT / 'test'}"
    return subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )


def test_recording_compiles_nothing_more(tmp_path: Path) -> None:
    drives = filter(Path.is_dir, (ROOT.parent / "shared" / "data" / name for name in ("kitti_city", "nuscenes_sample")))
    process = run(tmp_path, "-c", RUN, str(tmp_path), *map(str, drives))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err


@pytest.mark.slow
def test_two_at_once_and_their_helpers_leave_nothing_to_compile(tmp_path: Path) -> None:
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    for process in [run(tmp_path, "-m", "dseg_core.loops_compiled", **cache) for _ in range(2)]:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0 and f"kept in {tmp_path / 'cache'}" in out, err
    process = run(tmp_path, "-c", RUN, str(tmp_path), **cache)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0 and out == "\n", out + err
