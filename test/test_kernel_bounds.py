"""Compiled loops stay within their memory: numba checks every index, for turns of widths that fit no vector."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOOPS = """
import numpy as np
import lidars
from dseg_core.cameras import Camera
from dseg_core.compiling import compiled
from dseg_core.inspection.depth_edges import edges_from_sweep
from dseg_core.png_from_ids import png_from_ids
from dseg_core.proposals_from_sweep import proposals_from_sweep
from dseg_core.records import Sweep
from dseg_core.regions_from_pair import regions_from_pair
from dseg_core.stage_options import ProposalOptions, RegionOptions
from dseg_core.stage_options.proposals import FEWEST_COLUMNS

def beyond(values):
    return values[len(values)]

try:
    compiled(beyond)(np.zeros(3))
except IndexError:
    print("checked", flush=True)

BOXES = ((8.0, 12.0, -2.0, 2.0, 1.5), (-20.0, -14.0, 5.0, 9.0, 4.0), (-3.0, 3.0, -9.0, -8.0, 3.0), (5, 5.2, 4, 4.2, 2))
T = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
for beams, columns in ((3, 65), (16, 127), (16, 128), (33, 719), (64, 1023)):
    rays, ring = lidars.spinning(np.linspace(3, -24, beams), columns)
    xyz, _ = lidars.cast(rays, BOXES)
    xyz[:7], xyz[-3:] = np.nan, np.inf
    two = np.concatenate([xyz, xyz + np.float32(1)])
    strays = np.random.default_rng(0).normal(0, 2, (90, 3)).astype(np.float32)
    for sweep in (
        Sweep(0, "lidar", xyz, ring=ring), Sweep(0, "lidar", xyz[40:]), Sweep(0, "lidar", xyz[::-1].copy()),
        Sweep(0, "lidar", two, ring=np.concatenate([ring, ring])), Sweep(0, "lidar", two),
        Sweep(0, "lidar", np.concatenate([strays, xyz, strays])),
    ):
        edges_from_sweep(sweep)
        for chosen in ({"columns": FEWEST_COLUMNS}, {"columns": 3000, "hole": 32}, {}, {"method": "euclidean"}):
            ids = proposals_from_sweep(sweep, ProposalOptions(**chosen))
            for width, height in ((321, 161), (17, 5)):
                camera = Camera.pinhole("camera", width, height, 0.6 * width, 0.6 * width, width / 2, height / 2)
                regions = regions_from_pair(sweep, ids, camera, T, RegionOptions())
                png_from_ids(regions), png_from_ids(regions.astype(np.uint8))
"""


@pytest.mark.slow
def test_no_loop_reads_or_writes_beyond_its_arrays(tmp_path: Path) -> None:
    """In a process and a cache of its own: what is compiled without checks would be taken otherwise."""
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests.parent), str(tests), os.environ.get("PYTHONPATH", "")])
    own = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    run = subprocess.run([sys.executable, "-c", LOOPS], env={**os.environ, **own}, capture_output=True, text=True)
    assert run.stdout.splitlines() == ["checked"], run.stderr
    assert run.returncode == 0, run.stderr
