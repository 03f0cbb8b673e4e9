"""The line a street follows: along it everything is placed and everything drives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
_STEP = 0.5  # metres between the samples that are interpolated


@dataclass(frozen=True, eq=False)
class Centreline:
    """A smooth curve in the world frame (x east, y north, z up, metres), by its length `s` from -`before` on.

    Lateral offsets `d` are metres to the left of it.
    """

    s: Floats
    xyz: Floats  # (K, 3)
    heading: Floats  # (K,) rad, unwrapped
    slope: Floats  # (K,) rise per metre

    @classmethod
    def of_seed(cls, rng: np.random.Generator, before: float, after: float, hills: float = 0.0) -> Centreline:
        """A straight or bent, level or sloping line; radii stay above 80 m so that facades 60 m away do not fold.

        `hills`: steepest slope (rise per metre) of ups and downs beside the usual ones.
        """
        s = np.arange(-before, after + _STEP, _STEP)
        curvature = np.zeros_like(s)
        if rng.random() < 0.65:
            for _ in range(rng.integers(1, 3)):
                center, width = rng.uniform(5, after - 20), rng.uniform(15, 35)
                curvature += rng.choice((-1, 1)) * rng.uniform(0.3, 0.55) / 80 * np.exp(-(((s - center) / width) ** 2))
        zero = int(np.searchsorted(s, 0.0))
        heading = np.cumsum(curvature) * _STEP
        heading -= heading[zero]
        slope = rng.uniform(-0.02, 0.02) + rng.uniform(0, 0.012) * np.sin(s / rng.uniform(25, 50))
        if hills:
            slope += hills * np.sin(2 * np.pi * (s / rng.uniform(60, 110) + rng.random()))
        steps = np.stack([np.cos(heading), np.sin(heading), slope], axis=1) * _STEP
        xyz = np.cumsum(steps, axis=0)
        return cls(s, xyz - xyz[zero], heading, slope)

    def at(self, s: ArrayLike, d: ArrayLike = 0.0, z: ArrayLike = 0.0) -> Floats:
        """Points (..., 3) at length `s`, `d` to the left, `z` above; broadcast against each other."""
        along, left, up = np.broadcast_arrays(
            np.asarray(s, dtype=float), np.asarray(d, dtype=float), np.asarray(z, dtype=float)
        )
        heading = np.interp(along, self.s, self.heading)
        x = np.interp(along, self.s, self.xyz[:, 0]) - left * np.sin(heading)
        y = np.interp(along, self.s, self.xyz[:, 1]) + left * np.cos(heading)
        return np.stack([x, y, np.interp(along, self.s, self.xyz[:, 2]) + up], axis=-1)

    def rotations(self, s: ArrayLike) -> Floats:
        """(..., 3, 3): x along the line (with its slope), y left and level, z up."""
        s = np.asarray(s, dtype=np.float64)
        heading, slope = np.interp(s, self.s, self.heading), np.arctan(np.interp(s, self.s, self.slope))
        ch, sh, cp, sp = np.cos(heading), np.sin(heading), np.cos(slope), np.sin(slope)
        x = np.stack([cp * ch, cp * sh, sp], axis=-1)
        y = np.stack([-sh, ch, np.zeros_like(ch)], axis=-1)
        return np.stack([x, y, np.cross(x, y)], axis=-1)

    def pose(self, s: float, d: float = 0.0, z: float = 0.0, yaw: float = 0.0, level: bool = False) -> Floats:
        """(4, 4) from an object's coordinates to the world's. `level`: upright in spite of the slope."""
        T = np.eye(4)
        R = self.rotations(s)
        if level:
            heading = float(np.interp(s, self.s, self.heading))
            R = np.array([[np.cos(heading), -np.sin(heading), 0], [np.sin(heading), np.cos(heading), 0], [0, 0, 1.0]])
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1.0]])
        T[:3, :3] = R @ turn
        T[:3, 3] = self.at(s, d, z)
        return T
