"""The rotation and the offset in time under which depth edges fall best on image edges, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from dseg_core.cameras import Camera
from dseg_core.inspection.alignment import Alignment, EdgePair
from dseg_core.inspection.depth_edges import SIDEWAYS, UPWARDS

Vector = NDArray[np.float64]
_COARSE, _MIDDLE, _FINE = np.deg2rad([0.6, 0.25, 0.12])
_SHIFTS = 200
FEWEST_PAIRS, _BLOCKS = 4, 10
_STEP = 1.25  # of the blur, in which the score's curvature is measured: smaller ones would measure its roughness
_DEGREE, _TENTH = np.deg2rad(1.0), 0.05  # units in which angles and offsets are searched for


@dataclass(frozen=True, eq=False)
class Found:
    """A correction as `Alignment` has it, the standard errors of its parts, and scores.

    `score`: of the calibration as it is, in standard deviations above the scores of images turned at random; `best`:
    of the correction. `deviation`: inf for what cannot be told. `beams`: how far off edges may pull it that lie
    anywhere between two beams, which more sweeps like these would not mend; inf likewise. `apart`: by how much the best
    corrections of the two halves of the drive, each searched for on its own, differ; inf where there are too few pairs.
    """

    correction: Vector
    deviation: Vector
    beams: Vector
    apart: Vector
    score: float
    best: float


def search(pairs: Sequence[EdgePair], pinhole: Camera, angle: float, offset: float, seed: int = 0) -> Found:
    """Find the best correction within `angle` [rad] and `offset` [s]; `offset` 0 looks for none.

    Args:
        pairs: Of one camera, in the order of time.
        pinhole: The camera of the pairs' edges.
        angle: Largest component of the rotation vector.
        offset: Largest error of the stamps.
        seed: Of the random turns that the score is measured against.
    """
    best = _best(pairs, pinhole, angle, offset)
    fine, middle = Alignment(pairs, pinhole, _FINE), Alignment(pairs, pinhole, _MIDDLE, 60_000)
    chance = _by_chance(middle, np.random.default_rng(seed))
    score, top = ((middle.score(c) - chance.mean()) / max(float(chance.std()), 1e-9) for c in (np.zeros(4), best))
    apart = np.full(4, np.inf)
    if len(pairs) >= FEWEST_PAIRS:
        middle_pair = len(pairs) // 2
        halves = [_best(half, pinhole, angle, offset) for half in (pairs[:middle_pair], pairs[middle_pair:])]
        apart = np.abs(halves[0] - halves[1])
    return Found(best, *_deviations(fine, best, offset > 0), apart, score, top)


def _best(pairs: Sequence[EdgePair], pinhole: Camera, angle: float, offset: float) -> Vector:
    starts = _grid(Alignment(pairs, pinhole, _COARSE, 30_000), angle, offset)
    middle = Alignment(pairs, pinhole, _MIDDLE, 60_000)
    start = max((_climb(middle, start, angle, offset) for start in starts), key=middle.score)
    return _climb(Alignment(pairs, pinhole, _FINE), start, angle, offset)


def _grid(alignment: Alignment, angle: float, offset: float) -> list[Vector]:
    """The best few of a grid, apart from each other."""
    step = _COARSE * 1.2
    turns = np.arange(-np.floor(angle / step), np.floor(angle / step) + 1) * step
    rolls = np.array([-0.6, 0.0, 0.6]) * angle
    count = int(np.ceil(offset / 0.04))
    offsets = np.linspace(-offset, offset, 2 * count + 1) if offset > 0 else np.zeros(1)
    grid = np.stack(np.meshgrid(turns, turns, rolls, offsets, indexing="ij"), axis=-1).reshape(-1, 4)
    scores = np.array([alignment.score(c) for c in grid])
    starts: list[Vector] = [np.zeros(4)]
    for i in np.argsort(-scores):
        apart = [np.abs((grid[i] - s) / (1.5 * step, 1.5 * step, angle, 0.05)).max() for s in starts]
        if min(apart) > 1:
            starts.append(grid[i])
        if len(starts) == 5:
            break
    return starts


def _climb(alignment: Alignment, start: Vector, angle: float, offset: float) -> Vector:
    """The top of the hill at a start."""
    units = np.array([_DEGREE, _DEGREE, _DEGREE, _TENTH])
    free = 4 if offset > 0 else 3
    limits = np.array([angle, angle, angle, max(offset, 1e-9)]) * 1.1

    def loss(x: Vector) -> float:
        c = np.zeros(4)
        c[:free] = x * units[:free]
        beyond = float((np.maximum(np.abs(c) - limits, 0) / limits).sum())
        return -alignment.score(c) * (1 - beyond)

    x0 = (start / units)[:free]
    simplex = np.concatenate([x0[None], x0 + 0.3 * np.eye(free)])
    options = {"initial_simplex": simplex, "xatol": 0.005, "fatol": 1e-4, "maxfev": 250}
    found = np.zeros(4)
    found[:free] = minimize(loss, x0, method="Nelder-Mead", options=options).x * units[:free]
    return found


def _by_chance(alignment: Alignment, rng: np.random.Generator) -> Vector:
    """Scores under rotations that fit nothing."""
    scores = []
    for _ in range(_SHIFTS):
        turn = rng.uniform(0, 2 * np.pi)
        size = rng.uniform(np.deg2rad(3), np.deg2rad(8))
        scores.append(alignment.score(np.array([size * np.sin(turn), size * np.cos(turn), rng.normal(0, 0.03), 0.0])))
    return np.array(scores)


def _deviations(alignment: Alignment, best: Vector, timed: bool) -> tuple[Vector, Vector]:
    """Standard errors from the curvature of the score and from how much the pairs disagree (a sandwich estimate).

    Pairs that follow each other see the same things, so they are taken together in tenths of the drive. The second ones
    are of edges between beams: a piece of an outline that is off moves the top as far as it has part in the curvature,
    as if the camera were turned for it alone: about x (right) between beams, about y (down) between columns.
    """
    free = 4 if timed else 3
    up = _STEP * alignment.blurs[UPWARDS]
    steps = np.array([up, _STEP * alignment.blurs[SIDEWAYS], up, 0.01])[:free]
    moves = np.eye(4)[:free] * np.append(steps, 1.0)[:free, None]
    center = alignment.score(best)
    count = max(float(alignment.per_pair(best)[:, 1].sum()), 1.0)

    def pieces(correction: Vector) -> Vector:
        return alignment.per_piece(correction)[:, 0]

    slopes = np.zeros((alignment.pairs, free))
    resting = pieces(best)
    curvatures = np.zeros((len(resting), free, free))  # of each piece, in units of the steps
    for i, a in enumerate(moves):
        slopes[:, i] = (alignment.per_pair(best + a)[:, 0] - alignment.per_pair(best - a)[:, 0]) / (2 * count)
        curvatures[:, i, i] = pieces(best + a) - 2 * resting + pieces(best - a)
        for j, b in enumerate(moves[:i]):
            rising, falling = pieces(best + a + b) + pieces(best - a - b), pieces(best + a - b) + pieces(best - a + b)
            curvatures[:, i, j] = curvatures[:, j, i] = (rising - falling) / 4
    curvature = curvatures.sum(axis=0) / count
    deviation, beams = np.full((2, 4), np.inf)
    # A ridge or a plateau: some direction changes nothing. Where no edge is seen at all, both sides are 0.
    if len(slopes) < FEWEST_PAIRS or np.linalg.eigvalsh(curvature).max() >= -1e-6 * center:
        return deviation, beams
    sums = np.array([block.sum(axis=0) for block in np.array_split(slopes, min(_BLOCKS, len(slopes)))])  # (B, free)
    spread = np.cov(sums.T) * len(sums)
    bread = np.linalg.inv(curvature)
    deviation[:free] = np.sqrt(np.diag(bread @ spread @ bread)) * steps
    turns = np.where(alignment.kinds == UPWARDS, 0, 1)
    pull = curvatures[np.arange(len(turns)), :, turns] / count * (alignment.off / steps[turns])[:, None]  # (G, free)
    beams[:free] = np.sqrt(np.diag(bread @ (pull.T @ pull) @ bread)) * steps
    return deviation, beams
