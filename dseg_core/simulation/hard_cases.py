"""What is hard to tell apart by geometry: people beside cars, a bridge over the street, a barrier at its kerb."""

from __future__ import annotations

import numpy as np

from dseg_core.simulation.layout import FAR, KERB, Layout
from dseg_core.simulation.materials import BUILDING, PLAIN, Material, linear, varied
from dseg_core.simulation.meshes import box, merged
from dseg_core.simulation.people import pedestrian

_BESIDE = 1.05  # metres from a parked vehicle's middle to its side
_CLEAR = (4.6, 6.0)  # metres under the bridge


def add_hard_cases(w: Layout, rng: np.random.Generator, length: float) -> None:
    """Add them to a world that is laid out; its own random numbers are not touched.

    Args:
        w: The world's layout.
        rng: For what is added.
        length: Of the drive, metres.
    """
    _people_beside_cars(w, rng)
    _bridge(w, rng, float(rng.uniform(15, 30 + length)))
    for side in (-1, 1):
        _barrier(w, rng, side)


def _people_beside_cars(w: Layout, rng: np.random.Generator) -> None:
    """At the side of every third parked vehicle, 0.25 to 0.7 m from it: on the road, or between it and the houses."""
    for s, d in w.parked:
        if rng.random() > 0.35:
            continue
        away = (_BESIDE + rng.uniform(0.25, 0.7)) * rng.choice((-1, 1))
        height = KERB if abs(d + away) > w.kerb[0 if d > 0 else 1] else 0.0
        place = w.street.pose(s + rng.uniform(-1.8, 1.8), d + away, height, rng.uniform(0, 6.28), level=True)
        w.stand(pedestrian(rng, w.materials), place)


def _bridge(w: Layout, rng: np.random.Generator, s: float) -> None:
    """A deck across the street with a pillar on either pavement, class building."""
    grey = w.materials.add(Material(PLAIN, varied(rng, linear(150, 148, 142), 0.15), grain=0.15))
    width, low = float(rng.uniform(4, 12)), float(rng.uniform(*_CLEAR))
    parts = [box((0, -FAR, low), (width, FAR, low + 1.1), grey, BUILDING)]
    for side in (-1, 1):
        d = side * (w.kerb[0 if side > 0 else 1] + w.pavement[0 if side > 0 else 1] - 0.3)
        parts.append(box((width / 2 - 0.5, d - 0.4, -2), (width / 2 + 0.5, d + 0.4, low), grey, BUILDING))
    w.stand(merged(parts), w.street.pose(s, level=True))


def _barrier(w: Layout, rng: np.random.Generator, side: int) -> None:
    """A low wall along the kerb where nobody parks, class building."""
    row = 0 if side > 0 else 1
    start = float(rng.uniform(0, 40))
    if w.parking[row] or rng.random() < 0.4:
        return
    grey = w.materials.add(Material(PLAIN, varied(rng, linear(165, 162, 156), 0.15), grain=0.1))
    for s in np.arange(start, start + rng.uniform(10, 30), 2.0):
        if w.free(float(s), 1.5):
            wall = box((0, -0.15, -0.3), (2.0, 0.15, 0.8), grey, BUILDING)
            w.stand(wall, w.street.pose(float(s), side * (w.kerb[row] + 0.3), KERB))
