"""A street laid out by a seed: what stands where, what moves, and the light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dseg_core.simulation.materials import (
    ASPHALT,
    GRASS,
    PAVEMENT,
    PAVING,
    ROAD,
    TERRAIN,
    Material,
    Materials,
    linear,
    varied,
)
from dseg_core.simulation.meshes import Floats, Mesh, merged, pose, quads
from dseg_core.simulation.scene import Mover, Scene
from dseg_core.simulation.shading import Light
from dseg_core.simulation.shapes import bollard, building, pedestrian, sign, street_lamp, tree
from dseg_core.simulation.street import Centreline
from dseg_core.simulation.vehicles import vehicle

BEHIND, AHEAD = 50.0, 120.0  # metres of street behind the start and past the end of the drive
KERB = 0.12
_FAR = 55.0  # how far the ground reaches to both sides


@dataclass(frozen=True, eq=False)
class World:
    """One street and its light. The vehicle drives at lateral offset `lane` along `street`, from s = 0."""

    scene: Scene
    street: Centreline
    light: Light
    materials: NDArray[np.float32]
    lane: float


class _Layout:
    """Collects the still meshes and movers of one world."""

    def __init__(self, rng: np.random.Generator, length: float) -> None:
        self.rng, self.end = rng, length + AHEAD
        self.street = Centreline.of_seed(rng, BEHIND + 5, self.end + 40)
        self.materials = Materials(rng)
        self.meshes: list[Mesh] = []
        self.instances: list[int] = []
        self.movers: list[Mover] = []
        self.count = 0
        self.width = float(rng.uniform(2.9, 3.5))  # of a lane
        self.parking = [2.15 if rng.random() < 0.75 else 0.0 for _ in range(2)]  # left, right
        self.kerb = [self.width + p for p in self.parking]
        self.pavement = [float(rng.uniform(2.2, 4.2)) for _ in range(2)]
        self.crossings = self._crossings()
        self.zebra = float(rng.uniform(8, 45)) if rng.random() < 0.5 else -500.0

    def _crossings(self) -> list[tuple[float, float]]:
        """Side streets: (centre, half width)."""
        found, s = [], float(self.rng.uniform(-20, 50))
        while s < self.end - 15:
            found.append((s, float(self.rng.uniform(3.2, 4.5))))
            s += float(self.rng.uniform(55, 110))
        return found

    def stand(self, mesh: Mesh, T: Floats | None, instance: bool = True) -> None:
        """Put a still mesh into the world."""
        self.count += int(instance)
        self.meshes.append(mesh if T is None else mesh.moved(T))
        self.instances.append(self.count if instance else 0)

    def move(self, mesh: Mesh, s: float, d: float, z: float, speed: float, yaw: float) -> None:
        """Let a mesh follow the street."""
        self.count += 1
        self.movers.append(Mover(mesh, self.count, s, d, z, speed, yaw))

    def strip(
        self, s0: float, s1: float, d0: float, d1: float, z0: float, z1: float, material: int, semantic: int
    ) -> None:
        """A ribbon of ground from d0 (height z0) to d1 > d0 (height z1); texture (s, d, height)."""
        count = max(int(np.ceil((s1 - s0) / 2.0)), 1) + 1
        s = np.linspace(s0, s1, count)
        right, left = self.street.at(s, d0, z0), self.street.at(s, d1, z1)
        corners = np.stack([right[:-1], right[1:], left[1:], left[:-1]], axis=1)
        flat = [np.stack([s, np.full(count, d), np.full(count, z)], axis=1) for d, z in ((d0, z0), (d1, z1))]
        texture = np.stack([flat[0][:-1], flat[0][1:], flat[1][1:], flat[1][:-1]], axis=1)
        self.stand(quads(corners, material, semantic, texture=texture), None, instance=False)

    def free(self, s: float, margin: float) -> bool:
        """Whether `s` is clear of side streets and the zebra crossing."""
        on_zebra = self.zebra - margin < s < self.zebra + 4 + margin
        return not on_zebra and all(abs(s - c) > half + margin for c, half in self.crossings)


def build(seed: int, length: float, traffic: float) -> World:
    """The world of a seed. `length`: metres the vehicle will drive; `traffic`: moving things per usual number (1)."""
    rng = np.random.default_rng((seed, 1))
    layout = _Layout(rng, length)
    _ground(layout)
    for side in (0, 1):
        _houses(layout, side)
        _furniture(layout, side)
        _parked(layout, side)
    _skyline(layout)
    _traffic(layout, length, traffic)
    ids = np.repeat(np.array(layout.instances), [len(m) for m in layout.meshes])
    scene = Scene(merged(layout.meshes), ids, tuple(layout.movers), layout.street)
    return World(scene, layout.street, Light.of_seed(rng), layout.materials.table(), -layout.width / 2)


def _ground(w: _Layout) -> None:
    """Road, side streets, kerbs, pavements and the land behind."""
    rng = w.rng
    grey = rng.uniform(66, 112)
    tone = varied(rng, linear(grey, grey, grey * rng.uniform(0.96, 1.04)), 0.1, 0.02)
    style = float(rng.choice((0, 1, 2), p=(0.3, 0.5, 0.2)))
    extras = (w.width, *w.parking, style, w.zebra, 4.0, rng.uniform(0.0, 0.35))
    road = w.materials.add(Material(ASPHALT, tone, reflectivity=0.9, grain=0.2, extras=(*extras, 0.0)))
    side_road = w.materials.add(Material(ASPHALT, tone, reflectivity=0.9, grain=0.2, extras=(*extras, 1.0)))
    slab = varied(
        rng, linear(*((150, 146, 140), (128, 124, 120), (168, 150, 132), (100, 100, 100))[rng.integers(4)]), 0.15, 0.03
    )
    size = ((0.5, 0.5), (0.2, 0.1), (0.9, 0.6), (0.3, 0.3))[rng.integers(4)]
    joint = 0.0 if rng.random() < 0.25 else rng.uniform(0.2, 0.45)
    paving = w.materials.add(Material(PAVING, slab, reflectivity=1.1, grain=0.13, extras=(*size, joint)))
    stone = w.materials.add(
        Material(PAVING, varied(rng, linear(150, 148, 144), 0.15, 0.02), grain=0.12, extras=(1.0, 5.0, 0.3))
    )
    green = rng.random() < 0.6
    land = w.materials.add(
        Material(GRASS, varied(rng, linear(92, 104, 52), 0.25, 0.1), reflectivity=1.5, grain=0.2)
        if green
        else Material(PAVING, varied(rng, linear(140, 130, 116), 0.2, 0.04), grain=0.25, extras=(0.6, 0.6, 0.0))
    )
    w.strip(-BEHIND, w.end, -w.kerb[1], w.kerb[0], 0, 0, road, ROAD)
    cuts = [-BEHIND, *(c + h for c, half in w.crossings for h in (-half, half)), w.end]
    for side in (0, 1):
        inner, outer = w.kerb[side], w.kerb[side] + w.pavement[side]

        def put(
            s0: float,
            s1: float,
            a: float,
            b: float,
            za: float,
            zb: float,
            material: int,
            semantic: int,
            side: int = side,
        ) -> None:
            low, high, z0, z1 = (a, b, za, zb) if side == 0 else (-b, -a, zb, za)
            w.strip(s0, s1, low, high, z0, z1, material, semantic)

        for s0, s1 in zip(cuts[::2], cuts[1::2], strict=True):
            put(s0, s1, inner - 0.001, inner, 0, KERB, stone, PAVEMENT)
            put(s0, s1, inner, inner + 0.15, KERB, KERB, stone, PAVEMENT)
            put(s0, s1, inner + 0.15, outer, KERB, KERB, paving, PAVEMENT)
            put(s0, s1, outer, _FAR, KERB - 0.02, KERB - 0.02, land, TERRAIN)
        for center, half in w.crossings:
            put(center - half, center + half, inner, _FAR, 0, 0, side_road, ROAD)
            for s0, s1, edge in ((center - half - 2.4, center - half, 1), (center + half, center + half + 2.4, 0)):
                put(s0, s1, outer, _FAR, KERB, KERB, paving, PAVEMENT)
                kerb = s0 if edge == 0 else s1
                put(kerb - 0.002, kerb + 0.002, inner, _FAR, KERB * 0.5, KERB * 0.5, stone, PAVEMENT)


def _houses(w: _Layout, side: int) -> None:
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


def _furniture(w: _Layout, side: int) -> None:
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
    for _ in range(int(rng.integers(6, 16))):
        s = rng.uniform(0, 60) if rng.random() < 0.6 else rng.uniform(-BEHIND, w.end)
        person = pedestrian(rng, w.materials)
        d = kerb + rng.uniform(0.7, pavement - 0.4)
        if not w.free(s, 0.5):
            continue
        if rng.random() < 0.6:
            ahead = rng.random() < 0.5
            w.move(person, s, sign_of * d, KERB, (1 if ahead else -1) * rng.uniform(0.8, 1.6), 0.0 if ahead else np.pi)
        else:
            at(s, d, rng.uniform(0, 6.28), person)


def _parked(w: _Layout, side: int) -> None:
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
        s += rng.uniform(5.9, 7.2)


def _skyline(w: _Layout) -> None:
    """Houses across the far end of the street, so that it does not end in nothing."""
    rng = w.rng
    for d in np.arange(-_FAR, _FAR, 14.0):
        height = float(rng.uniform(7, 17))
        house = building(rng, w.materials, 14, 10, height)
        w.stand(house, w.street.pose(w.end, d, -0.1, level=True) @ pose(0, 14, 0, -np.pi / 2))


def _traffic(w: _Layout, length: float, traffic: float) -> None:
    """Oncoming vehicles, one or two ahead, someone on the zebra crossing."""
    rng = w.rng
    s = rng.uniform(8, 40)
    for _ in range(round(int(rng.integers(1, 4)) * traffic)):
        mesh = vehicle(rng, w.materials, bool(rng.random() < 0.25))
        w.move(mesh, s, w.width / 2 + rng.normal(0, 0.15), 0, -rng.uniform(5, 11), np.pi)
        s += rng.uniform(12, 35)
    s = rng.uniform(11, 28)
    for _ in range(round(int(rng.integers(0, 3)) * traffic)):
        mesh = vehicle(rng, w.materials, bool(rng.random() < 0.25))
        w.move(mesh, s, -w.width / 2 + rng.normal(0, 0.15), 0, rng.uniform(6, 10), 0.0)
        s += rng.uniform(10, 25)
    if traffic > 0 and w.zebra > 0:
        for _ in range(int(rng.integers(0, 3))):
            person = pedestrian(rng, w.materials).moved(pose(0, 0, 0, rng.choice((-1, 1)) * np.pi / 2))
            w.move(person, w.zebra + rng.uniform(0.5, 3.5), rng.uniform(-3, 3), 0, 0.0, 0.0)
