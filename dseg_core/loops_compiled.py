"""All loops of recording compiled ahead, so that no first sweep waits: `python -m dseg_core.loops_compiled`.

They are kept where `compiling.compiled` says, for this user, processor and source; a second call compiles nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from dseg_core.calls_of_loops import Call, calls_of_loops
from dseg_core.cameras import Camera
from dseg_core.compiled_files import folder_of
from dseg_core.compiling_helpers import help_compiling
from dseg_core.lidar.cell_labels import label_cells
from dseg_core.png_from_ids import png_from_ids
from dseg_core.progress import progress
from dseg_core.proposals_from_sweep import proposals_from_sweep
from dseg_core.records import Sweep
from dseg_core.regions_from_pair import regions_from_pair
from dseg_core.stage_options import ProposalOptions, RegionOptions

_BEAMS, _COLUMNS = 16, 400
_FEW_COLUMNS = 100  # where loops run in Python
_STEPS = 8  # proposals and regions of four kinds of sweeps
_SENSOR, _WALL, _FARTHEST, _BEHIND = 1.8, 12.0, 60.0, 3.0  # metres
_FEW = 100  # second returns, which are joined pair by pair
_TILT = np.deg2rad(12)
_CAMERA = Camera.pinhole("camera", 320, 160, 200.0, 200.0, 160.0, 80.0)
_T_IMAGE_SWEEP = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float64)


def compile_loops() -> None:
    """Meet every kind of sweep and image for which recording has loops of its own; helpers compile what comes later."""
    help_compiling()
    for _ in progress(_steps(_COLUMNS), "compiling", total=_STEPS, unit="step"):
        pass


def calls_by_need() -> Iterator[list[Call]]:
    """The loops that recording calls, those first that are needed first, and of these those that take longest."""
    known, steps = set[Call](), _steps(_FEW_COLUMNS)
    for _ in range(_STEPS):
        with calls_of_loops() as calls, np.errstate(all="ignore"):
            next(steps)
        yield sorted(calls.keys() - known, key=Call.cost, reverse=True)
        known |= calls.keys()


def _steps(columns: int) -> Iterator[str]:
    """Meet every kind of sweep and image for which recording has loops of its own, the most common kind first."""
    by_beams, own = _turn(0.0, columns), ProposalOptions()
    sweep = _by_firings(by_beams)
    missed = np.concatenate([np.zeros((1, 3), np.float32), by_beams.xyz])  # as drivers send what has no echo
    cases = [
        (sweep, own),
        (replace(by_beams, xyz=missed, ring=None), own),  # beams are found by the order of the points
        (_turn(_TILT, columns, 5), own),  # not numbered by elevation: beams are looked at more closely
        (sweep, replace(own, method="euclidean")),
    ]
    for case in cases:
        proposals = proposals_from_sweep(*case)
        yield "proposals"
        regions = regions_from_pair(case[0], proposals, _CAMERA, _T_IMAGE_SWEEP, RegionOptions())
        for ids in (regions, regions.astype(np.uint8)):
            png_from_ids(ids)
        yield "regions"


def _turn(tilt: float, columns: int = _COLUMNS, apart: int = 1) -> Sweep:
    """A turn of beams over a plane with walls, and what second returns show behind these; the sensor tilted [rad].

    `apart`: of neighbouring beams' numbers.
    """
    elevation, azimuth = np.deg2rad(np.linspace(8, -20, _BEAMS)), np.arange(columns) * 2 * np.pi / columns
    e, a = (x.ravel() for x in np.meshgrid(elevation, azimuth, indexing="ij"))
    ray = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=-1)
    down = -ray @ np.array([np.sin(tilt), 0.0, np.cos(tilt)])
    reach = np.minimum(_SENSOR / np.maximum(down, _SENSOR / _FARTHEST), _FARTHEST)
    walls = np.sin(7 * a) > 0.6
    reach = np.where(walls, np.minimum(reach, _WALL), reach)
    second = np.flatnonzero(walls & (reach == _WALL))[:_FEW]
    at = np.concatenate([np.arange(len(ray)), second])
    reach = np.concatenate([reach, reach[second] + _BEHIND])
    ring = np.repeat(np.arange(_BEAMS, dtype=np.uint16) * apart % _BEAMS, columns)[at].astype(np.uint16)
    return Sweep(0, "lidar", (ray[at] * reach[:, None]).astype(np.float32), ring=ring)


def _by_firings(sweep: Sweep) -> Sweep:
    """The same points, of which all beams' come at an azimuth before those at the next."""
    order = np.argsort(np.arctan2(sweep.xyz[:, 1], sweep.xyz[:, 0]), kind="stable")
    return replace(sweep, xyz=sweep.xyz[order], ring=None if sweep.ring is None else sweep.ring[order])


def main() -> None:
    """Compile, and tell where the result is kept."""
    begun = time.monotonic()
    try:
        compile_loops()
    except KeyboardInterrupt:
        print("interrupted; what is compiled is kept", file=sys.stderr)
        raise SystemExit(130) from None
    folder = folder_of(label_cells)
    if folder is None:
        raise SystemExit(1)  # `compiled` said why
    print(f"loops compiled in {time.monotonic() - begun:.0f} s, kept in {folder}")


if __name__ == "__main__":
    main()
