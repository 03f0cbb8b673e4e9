"""Low-poly cars and vans: a body lofted over stations along its length, glass, wheels, lamps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dseg_core.simulation.materials import (
    CAR,
    CAR_PAINTS,
    GLASS,
    PAINT,
    PLAIN,
    VAN,
    Material,
    Materials,
    linear,
    varied,
)
from dseg_core.simulation.meshes import Mesh, box, merged, quads, smoothed, tube


@dataclass(frozen=True)
class _Body:
    """A side view. Stations are (x, belt height, top height, top width as a share, glass behind it).

    "glass behind it": whether the window band and the top, from this station to the next, are glass: bit 1 the band,
    bit 2 the top (windscreen or rear window).
    """

    length: float
    width: float
    stations: tuple[tuple[float, float, float, float, int], ...]
    wheels: tuple[float, float]
    wheel_radius: float
    mirror: tuple[float, float]


def _car_body(rng: np.random.Generator) -> _Body:
    kind = rng.choice(("sedan", "hatch", "wagon", "suv"), p=(0.25, 0.35, 0.2, 0.2))
    length = {"sedan": 4.6, "hatch": 3.95, "wagon": 4.65, "suv": 4.45}[kind] + rng.uniform(-0.2, 0.2)
    lift = 0.16 if kind == "suv" else 0.0
    roof = {"sedan": 1.44, "hatch": 1.46, "wagon": 1.47, "suv": 1.62}[kind] + rng.uniform(-0.04, 0.04)
    half, belt = length / 2, 0.93 + lift
    front = half * rng.uniform(0.42, 0.5)
    roof_front = front - rng.uniform(0.6, 0.75)
    pillar = roof_front - rng.uniform(0.85, 1.0)
    rear = {"sedan": (-0.42, -0.74), "hatch": (-0.8, -0.95), "wagon": (-0.84, -0.97), "suv": (-0.82, -0.96)}[kind]
    roof_rear, rear_base = rear[0] * half, rear[1] * half
    deck = belt + 0.06 if kind == "sedan" else belt + 0.02
    stations = (
        (half, 0.52 + lift, 0.56 + lift, 0.86, 0),
        (half - 0.05, 0.6 + lift, 0.65 + lift, 0.88, 0),
        (half - 0.18, 0.68 + lift, 0.75 + lift, 0.88, 0),
        (half - 0.45, belt - 0.12, belt - 0.05, 0.87, 0),
        (front, belt - 0.02, belt + 0.04, 0.87, 2),
        (roof_front + 0.12, belt, roof - 0.09, 0.76, 2),
        (roof_front - 0.12, belt, roof - 0.02, 0.75, 1),
        (pillar + 0.04, belt + 0.01, roof, 0.76, 0),
        (pillar - 0.04, belt + 0.01, roof, 0.76, 1),
        (roof_rear + 0.25, belt + 0.02, roof - 0.03, 0.75, 1),
        (roof_rear, belt + 0.03, roof - 0.08, 0.74, 2),
        (rear_base, belt + 0.02, deck, 0.82, 0),
        (-half + 0.06, belt - 0.05, deck - 0.06, 0.84, 0),
        (-half, 0.6 + lift, 0.66 + lift, 0.86, 0),
    )
    width = rng.uniform(1.68, 1.86)
    return _Body(length, width, stations, (half - 0.82, -half + 0.8), 0.31 + 0.25 * lift, (roof_front + 0.25, belt))


def _van_body(rng: np.random.Generator) -> _Body:
    length, roof = rng.uniform(4.9, 5.9), rng.uniform(2.05, 2.6)
    half = length / 2
    windows = 1 if rng.random() < 0.3 else 0
    stations = (
        (half, 0.6, 0.7, 0.9, 0),
        (half - 0.1, 0.95, 1.0, 0.9, 0),
        (half - 0.75, 1.12, 1.2, 0.88, 2),
        (half - 1.35, 1.15, roof - 0.08, 0.84, 1),
        (half - 2.2, 1.18, roof, 0.86, 0),
        (half - 2.35, 1.18, roof, 0.86, windows),
        (-half + 0.25, 1.18, roof, 0.86, 0),
        (-half + 0.03, 1.18, roof - 0.06, 0.85, 0),
        (-half, 0.6, 0.7, 0.9, 0),
    )
    return _Body(length, rng.uniform(1.9, 2.05), stations, (half - 0.95, -half + 0.95), 0.34, (half - 1.1, 1.15))


def _loft(body: _Body, paint: int, glass: int, sill: int, semantic: int) -> Mesh:
    """The body's skin: rings of ten points (sill, side, window band, rail, roof, and back down) joined by quads."""
    lift, half = body.wheel_radius - 0.31, body.width / 2
    bottom = 0.24 + lift
    rings = []
    for x, belt, top, share, _ in body.stations:
        end = 0.92 if abs(x) > body.length / 2 - 0.05 else 1.0
        waist, rail = min(0.58 + lift, belt - 0.05), belt + 0.86 * (top - belt)
        left = [(0.95, bottom), (1.0, waist), (0.97, belt), (share, rail), (share - 0.1, top)]
        rings.append([(x, half * end * y, z) for y, z in left] + [(x, -half * end * y, z) for y, z in reversed(left)])
    ring = np.array(rings)  # (S, 10, 3)
    corners, materials = [], []
    for i, (*_, glazed) in enumerate(body.stations[:-1]):
        a, b = ring[i], ring[i + 1]
        for j in range(9):
            corners.append((a[j], b[j], b[j + 1], a[j + 1]))
            is_glass = (j in (2, 6) and glazed & 1) or (j == 4 and glazed & 2)
            is_sill = j in (0, 8) and 0 < i < len(ring) - 2
            materials.append(glass if is_glass else sill if is_sill else paint)
    for end, order in ((ring[0], (0, 1, 2, 3)), (ring[-1], (3, 2, 1, 0))):  # nose and tail
        for a, b in ((0, 1), (1, 2), (2, 3), (3, 4)):
            face = (end[a], end[b], end[9 - b], end[9 - a])
            corners.append(tuple(face[k] for k in order))
            materials.append(sill if a == 0 else paint)
    return smoothed(quads(np.array(corners), np.array(materials), semantic), np.deg2rad(38))


def vehicle(rng: np.random.Generator, materials: Materials, van: bool) -> Mesh:
    """A car or van, front along +x, centred, wheels on z = 0."""
    body = _van_body(rng) if van else _car_body(rng)
    semantic = VAN if van else CAR
    paints = CAR_PAINTS if not van or rng.random() < 0.45 else (linear(228, 228, 226),)
    color = varied(rng, paints[rng.integers(len(paints))], 0.15, 0.04)
    paint = materials.add(Material(PAINT, color, gloss=0.25, reflectivity=float(rng.uniform(0.3, 1.0)), grain=0.03))
    glass = materials.add(Material(GLASS, linear(26, 30, 32), gloss=0.6, reflectivity=0.08, grain=0.0))
    dark = materials.add(Material(PLAIN, linear(24, 24, 25), reflectivity=0.3))
    hub = materials.add(Material(PLAIN, linear(*(3 * (int(rng.uniform(70, 170)),))), gloss=0.2))
    tail = materials.add(Material(PLAIN, linear(150, 16, 14), gloss=0.2, reflectivity=4.0))
    lamp = materials.add(Material(PLAIN, linear(215, 218, 220), gloss=0.3, reflectivity=2.0))
    plate = materials.add(Material(PLAIN, linear(215, 213, 200), reflectivity=6.0))
    sill = dark if rng.random() < 0.5 else paint
    parts = [_loft(body, paint, glass, sill, semantic)]
    half = body.width / 2
    parts.append(
        box((-body.length / 2 + 0.3, -half * 0.9, 0.2), (body.length / 2 - 0.3, half * 0.9, 0.5), dark, semantic)
    )
    parts += [_wheels(body, dark, hub, semantic), _details(body, van, dark, paint, lamp, tail, plate)]
    return merged(parts)


def _wheels(body: _Body, dark: int, hub: int, semantic: int) -> Mesh:
    """Dark arches, tyres and hubs."""
    half, r, parts = body.width / 2, body.wheel_radius, []
    for x in body.wheels:
        for side in (-1, 1):
            for radius, inner, outer, material in (
                (r + 0.07, 0.3, 0.004, dark),
                (r, 0.25, 0.02, dark),
                (r * 0.62, 0.1, 0.026, hub),
            ):
                rim = half + outer
                ends = [(x, side * (rim - inner), r), (x, side * rim, r)]
                parts.append(tube(ends, (radius, radius), material, semantic, 14))
    return merged(parts)


def _details(body: _Body, van: bool, dark: int, paint: int, lamp: int, tail: int, plate: int) -> Mesh:
    """Lamps, mirrors, grille and number plates."""
    semantic, half, parts = VAN if van else CAR, body.width / 2, []
    lift, nose = body.wheel_radius - 0.31, body.length / 2
    for side in (-1, 1):
        y0, y1 = sorted((side * half * 0.5, side * half * 0.9))
        front, back = body.length / 2, -body.length / 2
        z = body.stations[0][1] + 0.05
        parts.append(box((front - 0.2, y0, z - 0.04), (front - 0.03, y1, z + 0.1), lamp, semantic))
        z = 0.66 + lift + (0.25 if van else 0.0)
        y0, y1 = sorted((side * half * 0.68, side * half * 0.94))
        parts.append(box((back - 0.012, y0, z), (back + 0.12, y1, z + (0.4 if van else 0.17)), tail, semantic))
        y0, y1 = sorted((side * half * 0.97, side * (half + 0.16)))
        x = body.mirror[0]
        z = body.mirror[1]
        parts.append(box((x - 0.1, y0, z), (x, y1, z + (0.28 if van else 0.14)), dark if van else paint, semantic))
    parts.append(box((nose - 0.1, -half * 0.45, 0.4 + lift), (nose + 0.008, half * 0.45, 0.54 + lift), dark, semantic))
    parts.append(
        box((-body.length / 2 - 0.015, -0.26, 0.45 + lift), (-body.length / 2, 0.26, 0.56 + lift), plate, semantic)
    )
    parts.append(
        box((body.length / 2, -0.26, 0.36 + lift), (body.length / 2 + 0.02, 0.26, 0.47 + lift), plate, semantic)
    )
    return merged(parts)
