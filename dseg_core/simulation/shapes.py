"""What stands in a street: buildings, trees, poles, signs."""

from __future__ import annotations

import numpy as np

from dseg_core.simulation.materials import (
    BARK,
    BUILDING,
    FACADE,
    FACADE_COLORS,
    FOLIAGE,
    PLAIN,
    POLE,
    ROOF,
    SIGN,
    SIGN_FACE,
    TREE,
    Material,
    Materials,
    linear,
    varied,
)
from dseg_core.simulation.meshes import Floats, Mesh, ball, box, merged, quads, triangles, tube


def building(rng: np.random.Generator, materials: Materials, width: float, depth: float, height: float) -> Mesh:
    """A house, its front on y = 0 facing -y, x from 0 to `width`, reaching down to z = -2 for slopes."""
    style = int(rng.choice((0, 1, 2, 3), p=(0.45, 0.2, 0.2, 0.15)))  # plaster, brick, stone blocks, concrete panels
    color = varied(rng, FACADE_COLORS[rng.integers(len(FACADE_COLORS))], 0.15, 0.05)
    if style == 3:
        grey = rng.uniform(105, 175)
        color = varied(rng, linear(grey, grey, grey), 0.1, 0.03)
    frame = varied(rng, linear(*(((225,) * 3, (60, 56, 52), (120, 84, 60))[rng.integers(3)])), 0.1)
    bay, floor = rng.uniform(1.9, 3.2), rng.uniform(2.8, 3.5)
    shop = float(rng.random() < 0.35)
    trim = float(rng.uniform(0.75, 1.35))
    extras = (style, floor, bay, rng.uniform(0.38, 0.6) * bay, rng.uniform(1.3, 1.75), shop, *frame, trim)
    wall = materials.add(Material(FACADE, color, reflectivity=1.0, grain=0.12, extras=extras))
    tiles = varied(rng, linear(*((122, 66, 52), (84, 80, 80), (96, 74, 64))[rng.integers(3)]), 0.15)
    roof = materials.add(Material(ROOF, tiles, grain=0.2))
    gable = bool(rng.random() < 0.55)
    parts = [_walls(width, depth, height, wall), _roof(width, depth, height, roof, wall, gable)]
    cornice = materials.add(Material(PLAIN, varied(rng, color, 0.2), grain=0.1))
    if rng.random() < 0.7:
        parts.append(box((0, -0.28, height - 0.3), (width, 0, height), cornice, BUILDING))
    if rng.random() < 0.5:
        parts.append(box((0, -0.1, floor + 0.05), (width, 0, floor + 0.3), cornice, BUILDING))
    if rng.random() < 0.3 and not shop:
        floors, bays = int((height - floor - 0.5) // floor), int(width // bay)
        for k in range(1, floors + 1):
            for j in range(int(rng.integers(2)), bays, 2):
                x, z = (j + 0.5) * width / bays, k * floor + 0.35
                parts.append(box((x - 0.9, -0.95, z), (x + 0.9, 0, z + 0.14), cornice, BUILDING))
                parts.append(box((x - 0.9, -0.95, z + 0.14), (x + 0.9, -0.9, z + 0.95), cornice, BUILDING))
    return merged(parts)


def _walls(width: float, depth: float, height: float, wall: int) -> Mesh:
    """Four walls; texture (along the wall, height, number of the wall plus a half)."""
    low = -2.0
    plan = [(0.0, 0.0), (width, 0.0), (width, depth), (0.0, depth)]
    corners, texture = [], []
    for k in range(4):
        (x0, y0), (x1, y1) = plan[k], plan[(k + 1) % 4]
        corners.append([(x0, y0, low), (x1, y1, low), (x1, y1, height), (x0, y0, height)])
        run = abs(x1 - x0) + abs(y1 - y0)
        w = k + 0.5
        texture.append([(0, low, w), (run, low, w), (run, height, w), (0, height, w)])
    return quads(corners, wall, BUILDING, texture=texture)


def _roof(width: float, depth: float, height: float, roof: int, wall: int, gable: bool) -> Mesh:
    if not gable:
        flat = box((-0.1, -0.1, height - 0.02), (width + 0.1, depth + 0.1, height + 0.25), roof, BUILDING)
        return merged(
            [
                flat,
                box(
                    (width * 0.3, depth * 0.4, height),
                    (width * 0.3 + 1.2, depth * 0.4 + 1, height + 1.4),
                    wall,
                    BUILDING,
                ),
            ]
        )
    eaves, rise = 0.45, depth / 2 * 0.75
    drop = eaves * 0.75
    front, back, ridge = -eaves, depth + eaves, depth / 2
    slopes = [
        [
            (0, front, height - drop),
            (width, front, height - drop),
            (width, ridge, height + rise),
            (0, ridge, height + rise),
        ],
        [
            (width, back, height - drop),
            (0, back, height - drop),
            (0, ridge, height + rise),
            (width, ridge, height + rise),
        ],
    ]
    run = float(np.hypot(depth / 2 + eaves, rise + drop))
    texture = [[(0, 0, 0), (width, 0, 0), (width, run, 0), (0, run, 0)]] * 2
    ends: list[list[tuple[float, float, float]]] = [
        [(0, depth, height), (0, 0, height), (0, ridge, height + rise)],
        [(width, 0, height), (width, depth, height), (width, ridge, height + rise)],
    ]
    high = [[(0, 200, 9), (1, 200, 9), (0.5, 201, 9)]] * 2
    chimney = box(
        (width * 0.7, ridge - 0.4, height + rise - 1),
        (width * 0.7 + 0.6, ridge + 0.4, height + rise + 0.9),
        wall,
        BUILDING,
    )
    return merged(
        [quads(slopes, roof, BUILDING, texture=texture), triangles(ends, wall, BUILDING, texture=high), chimney]
    )


def tree(rng: np.random.Generator, materials: Materials, height: float) -> Mesh:
    """A tree: bent trunk, some boughs, and crowns of leaf clumps around darker cores."""
    bark = materials.add(Material(BARK, varied(rng, linear(88, 74, 60), 0.25), grain=0.4))
    greens = ((74, 96, 38), (92, 104, 40), (58, 84, 44), (110, 104, 44), (128, 100, 40))
    green = varied(rng, linear(*greens[rng.choice(5, p=(0.3, 0.25, 0.25, 0.13, 0.07))]), 0.2, 0.08)
    leaves = materials.add(Material(FOLIAGE, green, grain=0.5, reflectivity=1.3))
    inner = materials.add(Material(FOLIAGE, tuple(0.55 * c for c in green), grain=0.5, reflectivity=1.2))  # type: ignore[arg-type]
    stem, lean = height * rng.uniform(0.26, 0.36), rng.normal(0, 0.12, 2)
    radius = 0.022 * height + 0.03
    top = np.array([lean[0], lean[1], height * 0.68])
    fork = np.array([lean[0] * 0.3, lean[1] * 0.3, stem])
    parts = [
        tube(
            np.stack([(0.0, 0.0, -0.2), fork, top]),
            (radius * 1.25, radius * 0.85, radius * 0.3),
            bark,
            TREE,
            9,
        )
    ]
    spread = height * rng.uniform(0.2, 0.3)
    for k in range(int(rng.integers(6, 10))):
        angle, level = k * 2.4 + rng.uniform(0, 0.8), rng.uniform(0.0, 1.0)
        reach = spread * (1.0 - 0.7 * level) * rng.uniform(0.5, 1.0)
        center = np.array([np.cos(angle) * reach, np.sin(angle) * reach, height * (0.45 + 0.42 * level)])
        center[:2] += lean
        size = height * rng.uniform(0.12, 0.18) * np.array([1.15, 1.15, 0.9])
        parts.append(tube(np.stack([fork, center]), (radius * 0.4, radius * 0.15), bark, TREE, 5))
        parts.append(ball(center, 0.72 * size, inner, TREE, 5, 8))
        parts.append(_clump(rng, center, size, leaves, count=300))
    return merged(parts)


def _clump(rng: np.random.Generator, center: Floats, size: Floats, material: int, count: int) -> Mesh:
    """Leaves as `count` small triangles on the shell of an ellipsoid, shaded as if they were its surface."""
    out = rng.normal(size=(count, 3))
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    middle = center + out * size * rng.uniform(0.72, 1.08, (count, 1))
    corners = middle[:, None] + rng.normal(0, 0.115, (count, 3, 3))
    shade = out[:, None] + rng.normal(0, 0.35, (count, 1, 3))
    shade /= np.linalg.norm(shade, axis=2, keepdims=True)
    return triangles(corners, material, TREE, normals=np.repeat(shade, 3, axis=1))


def street_lamp(rng: np.random.Generator, materials: Materials) -> Mesh:
    """A lamp post; its arm reaches along +y over the road."""
    grey = varied(rng, linear(*((120, 124, 126), (64, 70, 66), (150, 148, 144))[rng.integers(3)]), 0.2)
    metal = materials.add(Material(PLAIN, grey, gloss=0.05, grain=0.1))
    light = materials.add(Material(PLAIN, linear(225, 225, 215)))
    height, reach = rng.uniform(5.0, 8.5), rng.uniform(0.8, 2.0)
    parts = [
        tube([(0, 0, -0.1), (0, 0, 1.0)], (0.1, 0.1), metal, POLE, 10),
        tube([(0, 0, 1.0), (0, 0, height)], (0.075, 0.05), metal, POLE, 10),
        tube([(0, 0, height - 0.05), (0, reach, height + 0.25)], (0.045, 0.035), metal, POLE, 8),
        box((-0.13, reach - 0.15, height + 0.2), (0.13, reach + 0.55, height + 0.34), metal, POLE),
        box((-0.1, reach - 0.1, height + 0.17), (0.1, reach + 0.5, height + 0.2), light, POLE),
    ]
    return merged(parts)


def bollard(rng: np.random.Generator, materials: Materials) -> Mesh:
    """A bollard, class pole."""
    metal = materials.add(Material(PLAIN, varied(rng, linear(70, 72, 74), 0.5)))
    top = rng.uniform(0.8, 1.05)
    return merged(
        [
            tube([(0, 0, 0), (0, 0, top)], (0.075, 0.07), metal, POLE, 9),
            ball((0, 0, top), (0.075, 0.075, 0.05), metal, POLE, 4, 9),
        ]
    )


def sign(rng: np.random.Generator, materials: Materials) -> Mesh:
    """A traffic sign facing -x: plate of class sign, post of class pole."""
    metal = materials.add(Material(PLAIN, varied(rng, linear(138, 140, 142), 0.15), gloss=0.05))
    back = materials.add(Material(PLAIN, varied(rng, linear(120, 122, 124), 0.15)))
    kind = int(rng.integers(6))  # ring, blue disc, triangle, diamond, square, direction board
    face = materials.add(Material(SIGN_FACE, linear(230, 230, 230), reflectivity=12.0, grain=0.02, extras=(kind,)))
    size = rng.uniform(0.3, 0.38)
    outline = {
        2: np.deg2rad([90, 210, 330]),
        3: np.deg2rad([0, 90, 180, 270]),
        4: np.deg2rad([45, 135, 225, 315]),
        5: np.deg2rad([20, 160, 200, 340]),
    }.get(kind, np.linspace(0, 2 * np.pi, 17)[:-1])
    radius = {2: size * 1.3, 4: size * 1.2, 5: size * 1.7}.get(kind, size)
    center = rng.uniform(2.1, 2.7)
    y, z = -radius * np.cos(outline), radius * np.sin(outline)  # counter-clockwise seen from -x
    rim = np.stack([np.zeros_like(y), y, z + center], axis=1)
    unit = np.stack([-y / radius, z / radius, np.zeros_like(y)], axis=1)
    parts = []
    for offset, material, order in ((-0.075, face, (0, 1, 2)), (-0.055, back, (0, 2, 1))):
        ring = rim + np.array([offset, 0.0, 0.0])
        middle = np.broadcast_to((offset, 0.0, center), ring.shape)
        fan = np.stack([middle, ring, np.roll(ring, -1, axis=0)], axis=1)[:, order]
        flat = np.stack([np.zeros_like(unit), unit, np.roll(unit, -1, axis=0)], axis=1)[:, order]
        parts.append(triangles(fan, material, SIGN, texture=flat))
    return merged([tube([(0, 0, -0.1), (0, 0, center + 0.25)], (0.035, 0.035), metal, POLE, 8), *parts])
