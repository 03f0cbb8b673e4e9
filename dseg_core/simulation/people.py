"""People."""

from __future__ import annotations

import numpy as np

from dseg_core.simulation.materials import CLOTHES, PEDESTRIAN, PLAIN, Material, Materials, linear, varied
from dseg_core.simulation.meshes import Mesh, ball, merged, tube

_SKINS = ((222, 176, 148), (150, 104, 78), (96, 64, 48))
_HAIR = ((40, 30, 26), (110, 80, 50), (150, 146, 140))


def pedestrian(rng: np.random.Generator, materials: Materials) -> Mesh:
    """A person in mid-step, walking along +x, feet on z = 0."""
    scale = rng.uniform(1.5, 1.92) / 1.75
    skin = materials.add(Material(PLAIN, varied(rng, linear(*_SKINS[rng.integers(3)]), 0.1)))
    hair = materials.add(Material(PLAIN, varied(rng, linear(*_HAIR[rng.integers(3)]), 0.2)))
    coat, trousers = _garment(rng, materials), _garment(rng, materials)
    wide, long_coat = float(rng.uniform(0.9, 1.2)), rng.random() < 0.25
    parts = [_limbs(rng, materials, wide, skin, coat, trousers)]
    low = 0.5 if long_coat else 0.84
    rings = [(low, 0.19 if long_coat else 0.165), (1.0, 0.165), (1.2, 0.17), (1.4, 0.2), (1.5, 0.1)]
    torso = tube([(0, 0, z) for z, _ in rings], [r for _, r in rings], coat, PEDESTRIAN, 12)
    flat = np.diag([0.72, wide, 1.0])
    parts.append(Mesh(torso.corners @ flat, torso.normals, torso.texture, torso.material, torso.semantic))
    parts.append(tube([(0, 0, 1.46), (0.01, 0, 1.58)], (0.055, 0.055), skin, PEDESTRIAN, 8))
    parts.append(ball((0.02, 0, 1.65), (0.1, 0.08, 0.125), skin, PEDESTRIAN, 7, 10))
    parts.append(ball((-0.012, 0, 1.68), (0.1, 0.088, 0.115), hair, PEDESTRIAN, 7, 10))
    if rng.random() < 0.4:
        bag = _garment(rng, materials)
        parts.append(ball((-0.2, 0, 1.2), (0.12, 0.16, 0.24), bag, PEDESTRIAN, 6, 10))
    whole = merged(parts)
    return Mesh(whole.corners * scale, whole.normals, whole.texture, whole.material, whole.semantic)


def _garment(rng: np.random.Generator, materials: Materials) -> int:
    color = varied(rng, CLOTHES[rng.integers(len(CLOTHES))], 0.2)
    return materials.add(Material(PLAIN, color, reflectivity=float(rng.uniform(0.5, 1.4))))


def _limbs(rng: np.random.Generator, materials: Materials, wide: float, skin: int, coat: int, trousers: int) -> Mesh:
    """Legs, shoes, arms and hands."""
    shoes = materials.add(Material(PLAIN, varied(rng, linear(50, 46, 44), 0.5)))
    stride, swing = rng.uniform(0.02, 0.3), rng.uniform(0.02, 0.22)
    parts = []
    for side in (-1, 1):
        y, step = 0.1 * side * wide, stride * side
        knee = (step * 0.6 + 0.03, y, 0.48)
        parts.append(
            tube([(step, y, 0.08), knee, (0, y * 0.95, 0.92)], (0.055, 0.068, 0.095 * wide), trousers, PEDESTRIAN, 9)
        )
        parts.append(ball((step + 0.06, y, 0.05), (0.14, 0.055, 0.06), shoes, PEDESTRIAN, 4, 8))
        hand = (-swing * side + 0.06, y * 2.6, 0.82)
        elbow = (-swing * side * 0.45, y * 2.5, 1.1)
        parts.append(tube([(0, y * 2.0, 1.42), elbow, hand], (0.06, 0.052, 0.042), coat, PEDESTRIAN, 8))
        parts.append(ball(hand, (0.045, 0.04, 0.06), skin, PEDESTRIAN, 4, 6))
    return merged(parts)
