"""Loops compiled ahead: what recording does afterwards compiles nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUN = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from numba.core.dispatcher import Dispatcher
from dseg_core.loops_compiled import _turn, compile_loops

def kinds():
    modules = [m for name, m in sys.modules.items() if name.startswith("dseg_core.")]
    found = {v for m in modules for v in vars(m).values() if isinstance(v, Dispatcher)}
    return {f"{v.py_func.__module__}.{v.py_func.__name__}{s}" for v in found for s in v.signatures}

assert not kinds()
compile_loops()
known = kinds()
assert len(known) > 20, known

from bags import write_bag
from dseg_core.frames_from_drive import record_drive
from dseg_core.proposals_from_sweep import method_of, proposals_from_sweep
from dseg_core.stage_options import ProposalOptions, RecordOptions

account = record_drive(write_bag(Path(sys.argv[1]) / "drive"), Path(sys.argv[1]) / "frames", RecordOptions())
assert account["frames"], account
sweep, options = _turn(0.0), ProposalOptions()
rng = np.random.default_rng(0)
noise = rng.normal(0, 0.3, sweep.xyz.shape).astype(np.float32)
mixed = replace(sweep, xyz=(sweep.xyz + noise)[rng.permutation(len(sweep))], ring=None)
assert method_of(mixed, options) == "euclidean"
for case in (mixed, replace(mixed, xyz=mixed.xyz[:400]), _turn(-0.15), replace(_turn(0.1), ring=None)):
    proposals_from_sweep(case, options)
assert kinds() == known, kinds() - known
"""


def test_recording_compiles_nothing_more(tmp_path: Path) -> None:
    paths = f"{ROOT}{os.pathsep}{ROOT / 'test'}"
    process = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
