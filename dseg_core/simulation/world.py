"""A street laid out by a seed: what stands where, what moves, and the light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dseg_core.simulation.hard_cases import add_hard_cases
from dseg_core.simulation.layout import BEHIND, FAR, KERB, Layout, lay_ground
from dseg_core.simulation.meshes import Mesh, merged, pose
from dseg_core.simulation.people import pedestrian
from dseg_core.simulation.scene import Scene
from dseg_core.simulation.shading import Light
from dseg_core.simulation.shapes import bollard, building, sign, street_lamp, tree
from dseg_core.simulation.street import Centreline
from dseg_core.simulation.vehicles import vehicle


@dataclass(frozen=True, eq=False)
class World:
    """One street and its light. The vehicle drives at lateral offset `lane` along `street`, from s = 0."""

    scene: Scene
    street: Centreline
    light: Light
    materials: NDArray[np.float32]
    lane: float


def build(seed: int, speed: float, duration: float, traffic: float, hills: float = 0.0, hard: bool = False) -> World:
    """The world of a seed.

    Args:
        seed: Which world; everything in it follows from it and the other arguments.
        speed: Of the vehicle that will drive through, m/s: traffic keeps clear of it.
        duration: Of the drive, s.
        traffic: Moving vehicles, as a factor of the usual number.
        hills: Steepest slope beside the usual ones, rise per metre.
        hard: With what is hard to tell apart, see `hard_cases`; the rest of the world stays as it is.
    """
    rng = np.random.default_rng((seed, 1))
    layout = Layout(rng, speed * duration, hills)
    lay_ground(layout)
    for side in (0, 1):
        _houses(layout, side)
        _furniture(layout, side)
        _people(layout, side)
        _parked(layout, side)
    _skyline(layout)
    _traffic(layout, speed, duration, traffic)
    if hard:
        add_hard_cases(layout, np.random.default_rng((seed, 3)), speed * duration)
    ids = np.repeat(np.array(layout.instances), [len(m) for m in layout.meshes])
    scene = Scene(merged(layout.meshes), ids, tuple(layout.movers), layout.street)
    return World(scene, layout.street, Light.of_seed(rng), layout.materials.table(), -layout.width / 2)


def _houses(w: Layout, side: int) -> None:
    """A row of houses along the street with gaps, and a looser, higher second row behind."""
    rng = w.rng
    dense, tall = rng.uniform(0.6, 1.0), rng.uniform(6.5, 15)
    back = 0.0 if rng.random() < 0.55 else float(rng.uniform(1.5, 6))
    for row in (0, 1):
        s = -BEHIND
        while s < w.end - 6:
            width = float(rng.uniform(8, 20))
            middle = s + width / 2
            blocked = [c + half + 2.4 for c, half in w.crossings if s - half - 2.4 < c < s + width + half + 2.4]
            if blocked:
                before = min(c - half - 2.4 for c, half in w.crossings if s - half - 2.4 < c < s + width + half + 2.4)
                if before - s > 7:
                    width, middle = before - s, (s + before) / 2
                else:
                    s = max(blocked) + 0.01
                    continue
            if rng.random() < (dense if row == 0 else 0.5):
                depth = float(rng.uniform(9, 12))
                height = float(np.clip(rng.normal(tall, 2.2), 5.5, 22)) + row * 3
                house = building(rng, w.materials, width, depth, height)
                d = w.kerb[side] + w.pavement[side] + 0.05 + back + (18 if row else 0)
                place = pose(-width / 2, 0, 0)
                if side == 1:  # right: the front (-y) must look to the left
                    place = pose(0, 0, 0, np.pi) @ place
                w.stand(house.moved(place), w.street.pose(middle, d if side == 0 else -d, KERB - 0.02, level=True))
                s += width + (0.0 if rng.random() < 0.6 else float(rng.uniform(1, 5)))
            else:
                s += float(rng.uniform(5, 14))


def _furniture(w: Layout, side: int) -> None:
    """Trees, lamps, signs, bollards and people standing or walking."""
    rng, sign_of = w.rng, 1 if side == 0 else -1
    kerb, pavement = w.kerb[side], w.pavement[side]

    def at(s: float, d: float, yaw: float, mesh: Mesh) -> None:
        w.stand(mesh, w.street.pose(s, sign_of * d, KERB, yaw, level=True))

    gap = rng.uniform(8, 16) if rng.random() < 0.65 else rng.uniform(22, 45)
    models = [tree(rng, w.materials, float(rng.uniform(5, 9.5))) for _ in range(4)]
    for s in np.arange(-BEHIND + rng.uniform(0, 8), w.end, gap):
        if w.free(s, 3) and rng.random() < 0.75:
            at(s + rng.uniform(-1, 1), kerb + 0.8, rng.uniform(0, 6.28), models[rng.integers(4)])
    for _ in range(int(rng.integers(4, 14))):
        s = rng.uniform(-BEHIND, w.end)
        if w.free(s, 6):
            at(s, kerb + pavement + rng.uniform(15, 17) - 0.5, rng.uniform(0, 6.28), models[rng.integers(4)])
    lamps = street_lamp(rng, w.materials)
    for s in np.arange(-BEHIND + rng.uniform(0, 20), w.end, rng.uniform(18, 32)):
        if w.free(s, 1):
            at(s, kerb + 0.45, np.pi if side == 0 else 0.0, lamps)
    for s in np.arange(-BEHIND + rng.uniform(0, 12), w.end, rng.uniform(10, 24)):
        if w.free(s, 0.5):  # most are meant for who comes along on that side
            faces = 0.0 if (side == 1) != (rng.random() < 0.2) else np.pi
            at(
                s + rng.uniform(-3, 3),
                kerb + rng.uniform(0.35, 0.6),
                faces + rng.normal(0, 0.08),
                sign(rng, w.materials),
            )
    if rng.random() < 0.4:
        post = bollard(rng, w.materials)
        for s in np.arange(rng.uniform(-20, 30), rng.uniform(40, 80), rng.uniform(1.6, 3)):
            if w.free(s, 0.5):
                at(s, kerb + 0.35, 0.0, post)


def _people(w: Layout, side: int) -> None:
    """People who stand or walk on the pavement, more of them near the start."""
    rng, sign_of = w.rng, 1 if side == 0 else -1
    kerb, pavement = w.kerb[side], w.pavement[side]
    for _ in range(int(rng.integers(6, 16))):
        s = rng.uniform(0, 60) if rng.random() < 0.6 else rng.uniform(-BEHIND, w.end)
        person = pedestrian(rng, w.materials)
        d = kerb + rng.uniform(1.35, max(pavement - 0.4, 1.6))
        if not w.free(s, 0.5):
            continue
        if rng.random() < 0.6:
            ahead = rng.random() < 0.5
            w.move(person, s, sign_of * d, KERB, (1 if ahead else -1) * rng.uniform(0.8, 1.6), 0.0 if ahead else np.pi)
        else:
            w.stand(person, w.street.pose(s, sign_of * d, KERB, rng.uniform(0, 6.28), level=True))


def _parked(w: Layout, side: int) -> None:
    """Cars and vans at the kerb."""
    rng = w.rng
    if w.parking[side] == 0.0:
        return
    full, s = rng.uniform(0.35, 0.9), -BEHIND + rng.uniform(0, 6)
    while s < w.end:
        if w.free(s, 6.5) and rng.random() < full:
            d = w.kerb[side] - 1.05 + rng.normal(0, 0.07)
            turned = (side == 0) != (rng.random() < 0.08)
            mesh = vehicle(rng, w.materials, bool(rng.random() < 0.2))
            w.stand(mesh, w.street.pose(s, d if side == 0 else -d, 0, (np.pi if turned else 0) + rng.normal(0, 0.02)))
            w.parked.append((s, d if side == 0 else -d))
        s += rng.uniform(5.9, 7.2)


def _skyline(w: Layout) -> None:
    """Houses across the far end of the street, so that it does not end in nothing."""
    rng = w.rng
    for d in np.arange(-FAR, FAR, 14.0):
        height = float(rng.uniform(7, 17))
        house = building(rng, w.materials, 14, 10, height)
        w.stand(house, w.street.pose(w.end, d, -0.1, level=True) @ pose(0, 14, 0, -np.pi / 2))


def _traffic(w: Layout, speed: float, duration: float, traffic: float) -> None:
    """Oncoming vehicles, some ahead, and people on a zebra crossing that nobody reaches meanwhile."""
    rng = w.rng
    crossing = int(rng.integers(0, 3)) if w.zebra > speed * duration + 7 else 0
    for _ in range(crossing):
        person = pedestrian(rng, w.materials).moved(pose(0, 0, 0, rng.choice((-1, 1)) * np.pi / 2))
        w.move(person, w.zebra + rng.uniform(0.5, 3.5), rng.uniform(-3, 3), 0, 0.0, 0.0)

    def place(s: float, d: float, own: float, yaw: float) -> None:
        van = bool(rng.random() < 0.25)
        low, high = sorted((s, s + own * duration))
        if crossing and low - 5 < w.zebra + 4 and high + 5 > w.zebra:
            return  # somebody is crossing there
        w.move(vehicle(rng, w.materials, van), s, d + rng.normal(0, 0.12), 0, own, yaw)

    s, own = rng.uniform(8, 40), -rng.uniform(5, 11)
    for _ in range(round(int(rng.integers(1, 4)) * traffic)):
        place(s, w.width / 2, own, np.pi)
        s += rng.uniform(12, 35)
    s, own = rng.uniform(11, 28), speed * rng.uniform(1.0, 1.2)
    for _ in range(round(int(rng.integers(0, 3)) * traffic)):
        place(s, -w.width / 2, own, 0.0)
        s += rng.uniform(10, 25)
