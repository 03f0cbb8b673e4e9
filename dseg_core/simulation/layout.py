"""The plan of a street: its line, lanes, kerbs and side streets, and the ground they make."""

from __future__ import annotations

import numpy as np

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
from dseg_core.simulation.meshes import Floats, Mesh, quads
from dseg_core.simulation.scene import Mover
from dseg_core.simulation.street import Centreline

BEHIND, AHEAD = 50.0, 120.0  # metres of street behind the start and past the end of the drive
KERB = 0.12
FAR = 55.0  # how far the ground reaches to both sides


class Layout:
    """Collects the still meshes and movers of one world."""

    def __init__(self, rng: np.random.Generator, length: float, hills: float = 0.0) -> None:
        self.rng, self.end = rng, length + AHEAD
        self.street = Centreline.of_seed(rng, BEHIND + 5, self.end + 40, hills)
        self.materials = Materials(rng)
        self.meshes: list[Mesh] = []
        self.instances: list[int] = []
        self.movers: list[Mover] = []
        self.parked: list[tuple[float, float]] = []  # (s, d) of each parked vehicle
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


def lay_ground(w: Layout) -> None:
    """Road, side streets, kerbs, pavements and the land behind."""
    road, side_road, paving, stone, land = _ground_materials(w)
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
            put(s0, s1, outer, FAR, KERB - 0.02, KERB - 0.02, land, TERRAIN)
        for center, half in w.crossings:
            put(center - half, center + half, inner, FAR, 0, 0, side_road, ROAD)
            for s0, s1, edge in ((center - half - 2.4, center - half, 1), (center + half, center + half + 2.4, 0)):
                put(s0, s1, outer, FAR, KERB, KERB, paving, PAVEMENT)
                kerb = s0 if edge == 0 else s1
                put(kerb - 0.002, kerb + 0.002, inner, FAR, KERB * 0.5, KERB * 0.5, stone, PAVEMENT)


def _ground_materials(w: Layout) -> tuple[int, int, int, int, int]:
    """Road, side streets, pavement, kerb stones, land behind."""
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
    return road, side_road, paving, stone, land
