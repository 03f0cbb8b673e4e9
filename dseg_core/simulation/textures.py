"""Procedural textures, compiled: the colour of a material at texture coordinates."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled_within

Row = NDArray[np.float32]
RGBG = tuple[float, float, float, float]


@compiled_within
def hash3(x: int, y: int, z: int) -> float:
    """A number in [0, 1) that looks random, for integers."""
    h = (
        (np.uint32(x) * np.uint32(73856093))
        ^ (np.uint32(y) * np.uint32(19349663))
        ^ (np.uint32(z) * np.uint32(83492791))
    )
    h = np.uint32(h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)
    h = np.uint32(h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B)
    h = np.uint32(h ^ (h >> np.uint32(16)))
    return float(h) / 4294967296.0


@compiled_within
def noise(x: float, y: float, z: float) -> float:
    """Value noise in [-1, 1], about one feature a unit."""
    fx, fy, fz = math.floor(x), math.floor(y), math.floor(z)
    ix, iy, iz = int(fx), int(fy), int(fz)
    u, v, w = x - fx, y - fy, z - fz
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    a = hash3(ix, iy, iz) * (1 - u) + hash3(ix + 1, iy, iz) * u
    b = hash3(ix, iy + 1, iz) * (1 - u) + hash3(ix + 1, iy + 1, iz) * u
    c = hash3(ix, iy, iz + 1) * (1 - u) + hash3(ix + 1, iy, iz + 1) * u
    d = hash3(ix, iy + 1, iz + 1) * (1 - u) + hash3(ix + 1, iy + 1, iz + 1) * u
    return 2.0 * ((a * (1 - v) + b * v) * (1 - w) + (c * (1 - v) + d * v) * w) - 1.0


@compiled_within
def _fade(frequency: float, footprint: float) -> float:
    """Weight of a pattern of `frequency` (1/m) seen by pixels of `footprint` (m): 0 where it would only alias."""
    return max(0.0, 1.0 - 1.2 * frequency * footprint)


@compiled_within
def _grain(u: float, v: float, w: float, seed: float, footprint: float) -> float:
    """Three octaves of noise, coarse to fine, in about [-1, 1]."""
    total = 0.5 * noise(0.35 * u + seed, 0.35 * v, 0.35 * w)
    for frequency, weight in ((2.3, 0.3), (11.0, 0.35), (47.0, 0.4)):
        faded = _fade(frequency, footprint)
        if faded > 0.0:
            total += weight * faded * noise(frequency * u + seed, frequency * v, frequency * w)
    return total


@compiled_within
def _asphalt(m: Row, u: float, v: float, foot: float) -> RGBG:
    """Extras: lane width, parking left, parking right, marking style, crossing position, its length, wear, cross."""
    seed = m[4]
    lane, left, right, style = m[8], m[9], m[10], m[11]
    shade = 1.0 + m[7] * _grain(u, v, 0.0, seed, foot)
    patch = noise(0.13 * u + seed, 0.45 * v, 7.0)
    if patch > 0.55:  # a mended patch
        shade *= 0.78
    track = math.exp(-(((abs(v) - 0.5 * lane) - 0.75) ** 2) / 0.12) + math.exp(
        -(((abs(v) - 0.5 * lane) + 0.75) ** 2) / 0.12
    )
    shade *= 1.0 - 0.07 * track
    if _fade(6.0, foot) > 0.2:
        crack = abs(noise(0.6 * u + seed, 0.6 * v, 3.0) + 0.35 * noise(2.7 * u, 2.7 * v, seed))
        if crack < 0.022:
            shade *= 0.7
    r, g, b = m[0] * shade, m[1] * shade, m[2] * shade
    paint = 0.0
    if m[15] == 0.0:  # not on a side street
        crossing = m[12] <= u <= m[12] + m[13]
        if crossing:
            if (v + 40.0) % 1.0 < 0.5 and abs(v) < lane + 0.3:
                paint = 1.0
        else:
            if style >= 1 and abs(v) < 0.07 and (style >= 2 or u % 9.0 < 4.0):
                paint = 1.0
            for edge, parked in ((v - lane, left), (-v - lane, right)):
                if parked > 0.0 and abs(edge - 0.05) < 0.06 and (style != 1 or u % 2.0 < 1.0):
                    paint = 1.0
            if (m[12] - 2.2 < u < m[12] - 1.8 and -lane < v < 0.0) or (
                m[12] + m[13] + 1.8 < u < m[12] + m[13] + 2.2 and 0.0 < v < lane
            ):
                paint = 1.0
    if paint > 0.0:
        worn = 0.82 + 0.35 * noise(5.0 * u + seed, 5.0 * v, 1.0) - m[14]
        paint = min(max(worn, 0.0), 0.95)
        r, g, b = r + paint * (0.62 - r), g + paint * (0.62 - g), b + paint * (0.60 - b)
    return r, g, b, 0.0


@compiled_within
def _paving(m: Row, u: float, v: float, w: float, foot: float) -> RGBG:
    """Extras: slab length, slab width, joint darkness (0 for asphalt pavements)."""
    shade = 1.0 + m[7] * _grain(u, v, w, m[4], foot)
    if m[10] > 0.0:
        row = math.floor(v / m[9])
        along = u / m[8] + 0.5 * (int(row) % 2)
        column = math.floor(along)
        shade *= 1.0 + 0.2 * (hash3(int(column), int(row), int(m[4])) - 0.5) * _fade(0.6 / m[8], foot)
        joint = min((along - column) * m[8], (1 - along + column) * m[8], v - row * m[9], (row + 1) * m[9] - v)
        if joint < 0.012 + 0.25 * foot:
            shade *= 1.0 - m[10] * _fade(1.0 / m[8], foot)
    return m[0] * shade, m[1] * shade, m[2] * shade, 0.0


@compiled_within
def _wall(m: Row, u: float, v: float, w: float, foot: float) -> RGBG:
    """The wall of a facade between its windows, by style: plaster, brick, stone blocks, concrete panels."""
    style, seed = int(m[8]), m[4]
    shade = 1.0 + m[7] * _grain(u, v, w, seed, foot)
    streak = noise(1.7 * u + seed, 0.12 * v, w)
    shade *= 1.0 - 0.1 * max(0.0, streak) - 0.12 * math.exp(-max(v, 0.0) / 0.5)
    length, height, joint, spread = 0.0, 0.0, 0.0, 0.0
    if style == 1:
        length, height, joint, spread = 0.24, 0.08, 0.012, 0.4
    elif style == 2:
        length, height, joint, spread = 0.9, 0.4, 0.02, 0.22
    elif style == 3:
        length, height, joint, spread = m[10], m[9], 0.03, 0.12
    if style > 0:
        row = math.floor(v / height)
        along = u / length + 0.5 * (int(row) % 2 if style < 3 else 0)
        column = math.floor(along)
        shade *= 1.0 + spread * (hash3(int(column), int(row), int(seed)) - 0.5) * _fade(0.5 / height, foot)
        edge = min((along - column) * length, (1 - along + column) * length, v - row * height, (row + 1) * height - v)
        if edge < joint:
            shade *= 1.0 + (0.3 if style == 1 else -0.3) * _fade(0.7 / height, foot)
    return m[0] * shade, m[1] * shade, m[2] * shade, 0.0


@compiled_within
def _facade(m: Row, u: float, v: float, w: float, foot: float) -> RGBG:
    """Texture w: number of the wall plus a half.

    Extras: style, floor height, bay, window width, window height, shop, frame r, g, b, trim.
    """
    floor, bay, wide, high, shop, seed, bottom = m[9], m[10], m[11], m[12], m[13], int(m[4]), 0.9
    if v > 150.0 or v < 0.0 or w > 4.0:
        return _wall(m, u, max(v, 0.0), w, foot)
    storey, cell = math.floor(v / floor), math.floor(u / bay)
    x, y = abs(u - (cell + 0.5) * bay), v - storey * floor
    pick = hash3(int(cell) + 31 * int(w), int(storey), seed)
    if storey == 0.0:
        if shop > 0.0 and w < 1.0:
            if y > 2.62:
                sign = hash3(int(cell) // 3, 5, seed)
                return 0.05 + 0.5 * sign, 0.08 + 0.35 * hash3(int(cell) // 3, 6, seed), 0.06 + 0.4 * (1 - sign), 0.0
            wide, high, bottom = bay - 0.25, 2.15, 0.4
        elif pick < 0.22 and w < 1.0:  # a door
            bottom, high, wide = 0.02, 2.2, 1.05
            if x < 0.5 * wide and y < 2.2:
                rail = 0.7 if (abs(y - 1.1) < 0.05 or x > 0.5 * wide - 0.08) else 1.0
                d = 0.25 + 0.75 * hash3(int(cell), 77, seed)
                return 0.16 * d * rail, 0.09 * d * rail + 0.03, 0.06 * rail + 0.06 * (1 - d), 0.03
    right, top = 0.5 * wide, bottom + high
    if not (x < right and bottom < y < top):
        r, g, b, gloss = _wall(m, u, v, w, foot)
        if x < right + 0.14 and bottom - 0.12 < y < top + 0.16:  # surround and sill
            r, g, b = r * m[17], g * m[17], b * m[17]
        elif x < right + 0.1 and bottom - 0.5 < y <= bottom - 0.12:  # dirt below the sill
            r, g, b = r * 0.9, g * 0.9, b * 0.9
        return r, g, b, gloss
    if x > right - 0.07 or y < bottom + 0.07 or y > top - 0.07 or (x < 0.035 and shop * (storey == 0.0) == 0.0):
        return m[14], m[15], m[16], 0.02
    reveal = 0.45 if y > top - 0.25 else 1.0  # the lintel's shadow
    r, g, b = 0.012, 0.014, 0.016
    if pick > 0.55:  # curtains or a blind
        drawn = bottom + high * (1.0 - hash3(int(cell), int(storey), seed + 9))
        side = right * 0.6
        if (pick > 0.8 and y > drawn) or (pick <= 0.8 and x > side):
            fold = 0.8 + 0.2 * math.sin(60.0 * x)
            r, g, b = 0.28 * fold, 0.27 * fold, 0.24 * fold
    elif storey == 0.0 and shop > 0.0:
        lit = 0.5 + 0.5 * noise(2.0 * u, 2.0 * v, m[4])
        r, g, b = 0.1 * lit, 0.085 * lit, 0.06 * lit
    return r * reveal, g * reveal, b * reveal, 0.4 * reveal


@compiled_within
def _sign_face(m: Row, u: float, v: float) -> RGBG:
    """Extras: kind. Coordinates from -1 to 1."""
    kind, r2 = int(m[8]), math.sqrt(u * u + v * v)
    white, red, blue = (0.75, 0.75, 0.75), (0.55, 0.02, 0.02), (0.02, 0.08, 0.42)
    glyph = abs(u) < 0.42 and abs(v) < 0.3 and noise(4.0 * u + m[4], 4.0 * v, 0.0) > 0.0
    c = white
    if kind == 0:
        c = red if r2 > 0.72 else (0.02, 0.02, 0.02) if glyph else white
    elif kind == 1:
        c = white if glyph or r2 > 0.95 else blue
    elif kind == 2:
        inner = v > -0.28 and abs(u) * 1.732 + v < 0.55
        c = (0.02, 0.02, 0.02) if inner and abs(u) < 0.09 and v < 0.4 else white if inner else red
    elif kind == 3:
        c = (0.62, 0.4, 0.02) if abs(u) + abs(v) < 0.72 else white
    elif kind == 4:
        c = white if glyph or max(abs(u), abs(v)) > 0.66 else blue
    else:
        border = abs(v) > 0.3 or abs(u) > 0.88
        c = white if border or glyph else (0.01, 0.2, 0.12) if m[4] > 500 else blue
    return c[0], c[1], c[2], 0.03


@compiled_within
def surface(m: Row, u: float, v: float, w: float, foot: float) -> RGBG:
    """Linear r, g, b and gloss of material row `m` at texture coordinates (m), seen by pixels of `foot` metres."""
    kind, seed, shade = int(m[3]), m[4], 1.0
    if kind == 1:
        return _asphalt(m, u, v, foot)
    if kind == 2:
        return _paving(m, u, v, w, foot)
    if kind == 3:
        return _facade(m, u, v, w, foot)
    if kind == 4:  # foliage
        shade = 1.0 + m[7] * (
            noise(3.1 * u + seed, 3.1 * v, 3.1 * w) + 0.9 * _fade(9.0, foot) * noise(9.0 * u + seed, 9.0 * v, 9.0 * w)
        )
    elif kind == 8:  # bark
        shade = 1.0 + m[7] * (
            noise(14.0 * u + seed, 14.0 * v, 2.0 * w) * _fade(14.0, foot) + 0.4 * noise(2 * u, 2 * v, 2 * w)
        )
    elif kind == 9:  # roof tiles
        shade = (1.0 + m[7] * _grain(u, v, w, seed, foot)) * (1.0 - 0.3 * ((v * 3.0) % 1.0 > 0.8) * _fade(3.0, foot))
    elif kind == 10:  # grass
        tuft = _fade(20.0, foot) * noise(20.0 * u + seed, 20.0 * v, 0.0)
        broad = noise(0.25 * u + seed, 0.25 * v, 2.0)
        shade = 1.0 + 0.35 * tuft + 0.3 * _grain(u, v, w, seed, foot)
        return m[0] * shade * (1 + 0.25 * broad), m[1] * shade, m[2] * shade, 0.0
    elif kind == 7:
        return _sign_face(m, u, v)
    elif m[7] > 0.0:
        shade = 1.0 + m[7] * _grain(2.0 * u, 2.0 * v, 2.0 * w, seed, foot)
    return m[0] * shade, m[1] * shade, m[2] * shade, m[5]
