"""From hits to colours: sun, sky light, shadows, mirrored sky, haze. Compiled, on all cores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.simulation.materials import FOLIAGE, Color
from dseg_core.simulation.scene import Floats32
from dseg_core.simulation.textures import noise, surface


def _mixed(color: Color, grey: float, share: float) -> Color:
    r, g, b = ((1 - share) * c + share * grey for c in color)
    return r, g, b


@dataclass(frozen=True)
class Light:
    """Weather and sun of one world. `to_sun`: unit vector. Colours are linear RGB; `haze`: metres to 63 % haze."""

    to_sun: tuple[float, float, float]
    sun: tuple[float, float, float]
    sky: tuple[float, float, float]
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    clouds: float
    haze: float
    seed: float

    @classmethod
    def of_seed(cls, rng: np.random.Generator) -> Light:
        """Clear, hazy or overcast, with the sun at 18 to 62 degrees."""
        azimuth, height = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(18, 62))
        flat = math.cos(height)
        to_sun = (flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(height))
        overcast = float(rng.choice((0.0, 0.35, 0.85), p=(0.5, 0.25, 0.25)))
        warm = 1.0 - math.sin(height)
        power = 2.3 * (1.0 - overcast)
        sun = (power, power * (1 - 0.16 * warm), power * (1 - 0.38 * warm))
        grey = 0.62 + 0.12 * overcast
        sky = _mixed((0.36, 0.47, 0.68), grey, overcast)
        zenith = _mixed((0.13, 0.28, 0.62), 0.72, overcast)
        horizon = _mixed((0.58, 0.70, 0.85), 0.80, overcast)
        clouds = float(rng.uniform(0.0, 0.6)) if overcast < 0.8 else 0.9
        return cls(
            to_sun,
            sun,
            sky,
            zenith,
            horizon,
            clouds,
            float(np.exp(rng.uniform(np.log(350), np.log(1800)))),
            rng.uniform(0, 100),
        )

    def row(self) -> NDArray[np.float64]:
        """All numbers in one row, for compiled code."""
        parts = [self.to_sun, self.sun, self.sky, self.zenith, self.horizon, (self.clouds, self.haze, self.seed)]
        return np.concatenate([np.asarray(p, dtype=np.float64) for p in parts])


@compiled_within
def _sky(light: NDArray[np.float64], x: float, y: float, z: float, sharp: bool) -> tuple[float, float, float]:
    """Sky colour in direction (x, y, z); without its clouds' detail unless `sharp`."""
    rise = max(z, 0.0)
    k = 1.0 - (1.0 - rise) ** 3
    r = light[12] * (1 - k) + light[9] * k
    g = light[13] * (1 - k) + light[10] * k
    b = light[14] * (1 - k) + light[11] * k
    if sharp and light[15] > 0.0 and rise > 0.01:
        u, v, s = x / (rise + 0.12), y / (rise + 0.12), light[17]
        n = (
            0.6 * noise(0.9 * u + s, 0.9 * v, 0.0)
            + 0.3 * noise(2.3 * u, 2.3 * v + s, 1.0)
            + 0.15 * noise(6.0 * u, 6.0 * v, s)
        )
        cover = min(max((n + 1.3 * light[15] - 0.65) * 2.2, 0.0), 1.0) * min(rise * 8.0, 1.0)
        white = 0.8 + 0.14 * n
        r, g, b = r + cover * (white - r), g + cover * (white - g), b + cover * (1.02 * white - b)
    toward = x * light[0] + y * light[1] + z * light[2]
    if toward > 0.0:
        glow = 0.35 * toward**24 + 3.0 * toward**900
        r, g, b = r + glow * light[3], g + glow * light[4], b + glow * light[5]
    return r, g, b


@compiled_within
def _mirrored(light: NDArray[np.float64], x: float, y: float, z: float, spark: float) -> tuple[float, float, float]:
    """What a smooth surface mirrors from direction (x, y, z): sky, the houses opposite, the sun `spark` strong."""
    if z > 0.12:
        r, g, b = _sky(light, x, y, z, True)
    else:
        dim = 0.25 + 0.25 * noise(4.0 * x, 4.0 * y, 9.0 * z)
        r, g, b = dim * light[6], dim * light[7], dim * 0.9 * light[8]
    toward = x * light[0] + y * light[1] + z * light[2]
    if toward > 0.9 and spark > 0.0:
        spark *= ((toward - 0.9) * 10.0) ** 12
        r, g, b = r + spark * light[3], g + spark * light[4], b + spark * light[5]
    return r, g, b


@compiled_within
def _received(
    light: NDArray[np.float64], nx: float, ny: float, nz: float, leaf: bool, lit: float, free: float
) -> tuple[float, float, float]:
    """Light on a surface of normal n: sun where `lit`, sky and the ground's reflection as far as `free`."""
    cosine = nx * light[0] + ny * light[1] + nz * light[2]
    if leaf:  # light shines through leaves
        cosine = 0.25 + 0.75 * cosine
    sun, up = max(cosine, 0.0) * lit, 0.5 + 0.5 * nz
    sky, bounce = (0.35 + 0.65 * up) * free, 0.16 * (1.0 - up) * (light[3] + light[6]) * free
    r = light[3] * sun + light[6] * sky + bounce
    g = light[4] * sun + light[7] * sky + 0.96 * bounce
    b = light[5] * sun + light[8] * sky + 0.9 * bounce
    return r, g, b


@compiled
def shade_rows(
    first: int,
    last: int,
    directions: Floats32,
    distance: Floats32,
    triangle: NDArray[np.int64],
    normals: Floats32,
    texture: Floats32,
    material: NDArray[np.int64],
    table: Floats32,
    lit: Floats32,
    open_sky: Floats32,
    light: NDArray[np.float64],
    spread: float,
    out: Floats32,
) -> None:
    """Linear RGB of rays `first` to `last` of N, into `out` float32 (N, 3).

    Unit world `directions`, `normals` (N, 3) and texture coordinates (N, 3) in m, `distance` (N,) m, `triangle` (N,)
    with -1 for the sky; `material` (T,): per triangle a row of `table` (`Materials.table()`); `lit` (N,): 1 in the sun;
    `open_sky` (N,): share of sky light that arrives; `light`: `Light.row()`; `spread`: radians a ray stands for.
    """
    for i in range(first, last):
        dx, dy, dz = directions[i, 0], directions[i, 1], directions[i, 2]
        if triangle[i] < 0:
            out[i, 0], out[i, 1], out[i, 2] = _sky(light, dx, dy, dz, True)
            continue
        m = table[material[triangle[i]]]
        nx, ny, nz = normals[i, 0], normals[i, 1], normals[i, 2]
        facing = nx * dx + ny * dy + nz * dz
        leaf = m[3] == FOLIAGE
        if facing > 0.0 and not leaf:
            nx, ny, nz, facing = -nx, -ny, -nz, -facing
        foot = distance[i] * spread / max(math.sqrt(abs(facing)), 0.25)
        r, g, b, gloss = surface(m, texture[i, 0], texture[i, 1], texture[i, 2], foot)
        r, g, b = min(max(r, 0.0), 1.0), min(max(g, 0.0), 1.0), min(max(b, 0.0), 1.0)
        free = open_sky[i]
        er, eg, eb = _received(light, nx, ny, nz, leaf, lit[i], free)
        r, g, b = r * er, g * eg, b * eb
        if gloss > 0.0:
            rx, ry, rz = dx - 2 * facing * nx, dy - 2 * facing * ny, dz - 2 * facing * nz
            share = gloss * (0.12 + 0.88 * (1.0 + facing) ** 5) * (0.4 + 0.6 * free)
            mr, mg, mb = _mirrored(light, rx, ry, rz, 2.0 * gloss * (lit[i] > 0.5) / share)
            r, g, b = r + share * mr, g + share * mg, b + share * mb
        clear = math.exp(-distance[i] / light[16])
        out[i, 0] = r * clear + light[12] * (1 - clear)
        out[i, 1] = g * clear + light[13] * (1 - clear)
        out[i, 2] = b * clear + light[14] * (1 - clear)


@compiled
def reflectance(material: NDArray[np.int64], table: Floats32, texture: Floats32, foot: Floats32) -> Floats32:
    """What a LiDAR's beam gets back at right angles, float32 (N,), 0..1 and above for reflectors.

    `material`, `texture` (N, 3), `foot` (N,) m, per hit.
    """
    out = np.empty(len(material), dtype=np.float32)
    for i in range(len(material)):
        m = table[material[i]]
        r, g, b, gloss = surface(m, texture[i, 0], texture[i, 1], texture[i, 2], foot[i])
        out[i] = max(0.55 * r + 0.3 * g + 0.15 * b, 0.0) * m[6] * max(1.0 - 2.0 * gloss, 0.1)
    return out
