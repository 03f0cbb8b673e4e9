"""Simulated sweeps with truth for `proposal_quality.py`: streets, hills, hard cases, weather, and other LiDARs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from dseg_core.class_table import ClassTable
from dseg_core.evaluation.proposal_truth import Truth
from dseg_core.records import Sweep
from dseg_core.simulation.materials import TRUTH_CLASSES
from dseg_core.simulation.sensors import VERTICAL_FIELDS, LidarSpec, Measured, Vehicle, scan, sweep
from dseg_core.simulation.world import World, build

SPEED, DURATION = 8.0, 2.0
NOISE, EGO = len(TRUTH_CLASSES), len(TRUTH_CLASSES) + 1
CLASSES = ClassTable.of_names(
    (*TRUTH_CLASSES.names, "noise", "ego"), (*(e.color for e in TRUTH_CLASSES.entries), (255, 255, 255), (90, 90, 90))
)
_UNEVEN = (
    *(-25, -15.639, -11.31, -8.843, -7.254, -6.148, -5.333, -4.667, -4, -3.667, -3.333, -3, -2.667, -2.333, -2, -1.667),
    *(-1.333, -1, -0.667, -0.333, 0, 0.333, 0.667, 1, 1.333, 1.667, 2.333, 3.333, 4.667, 7, 10.333, 15),
)  # a VLP-32C's beams, degrees


@dataclass(frozen=True)
class Setting:
    """A kind of sweeps: the world's `hills` (rise per metre) and `hard` cases, the LiDAR, what spoils its points.

    `pattern`: of a LiDAR that does not spin, one of PATTERNS.
    """

    name: str
    hills: float = 0.0
    hard: bool = False
    beams: int = 64
    uneven: bool = False
    spoilt: str = ""
    pattern: str = ""

    def lidar(self) -> LidarSpec:
        """The LiDAR, on the roof, 1.91 m up."""
        spec = LidarSpec.mounted(64 if self.pattern else self.beams, 1800, 0.1, 0.02, 0.005, 100.0, 0.6)
        return replace(spec, elevation=np.deg2rad(_UNEVEN)) if self.uneven else spec

    def field(self) -> tuple[float, float]:
        """Lowest and highest beam, degrees."""
        if self.pattern:
            return (-43.7, 27.7) if self.pattern == "rosette" else (-21.5, 5.0)
        return (_UNEVEN[0], _UNEVEN[-1]) if self.uneven else VERTICAL_FIELDS[self.beams]


SETTINGS = (
    Setting("streets"),
    Setting("hills of 12 %", hills=0.12),
    Setting("hard cases", hard=True),
    Setting("rain", spoilt="rain"),
    Setting("reflections under the road", spoilt="reflections"),
    Setting("points on the vehicle", spoilt="ego"),
    Setting("16 beams", hard=True, beams=16),
    Setting("32 beams", hard=True, beams=32),
    Setting("32 uneven beams", hard=True, beams=32, uneven=True),
    Setting("128 beams", hard=True, beams=128),
    Setting("livox-like", hard=True, pattern="rosette"),
    Setting("mems", hard=True, beams=126, pattern="raster"),
)


def _directions(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Unit vectors (..., 3)."""
    level = np.cos(elevation)
    return np.stack([np.cos(azimuth) * level, np.sin(azimuth) * level, np.sin(elevation)], axis=-1)


def rosette(start: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Directions (C, 6, 3) and times (C,) ns of two prisms that turn against each other before six lasers in a column.

    70 deg wide, 24 000 points in 0.1 s, never the same twice, as a Livox Avia's.
    """
    offset_ns = np.arange(4000, dtype=np.uint32) * 25_000
    time = start + offset_ns * 1e-9
    at = np.deg2rad(17.5) * (np.exp(2j * np.pi * 121.4 * time) + np.exp(-2j * np.pi * 77.8 * time))
    lasers = np.deg2rad(np.linspace(-0.7, 0.7, 6))
    return _directions(at.real[:, None] + 0 * lasers, at.imag[:, None] + lasers - np.deg2rad(8)), offset_ns


def raster(start: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Directions (600, 126, 3) and times (600,) ns of a mirror that swings over 120 deg, as a RoboSense M1's.

    Its rows are bent: 1.5 deg lower at their ends.
    """
    azimuth, elevation = np.deg2rad(np.linspace(60, -60, 600)), np.deg2rad(np.linspace(-20, 5, 126))
    bent = elevation[None] - np.deg2rad(1.5) * (azimuth[:, None] / np.deg2rad(60)) ** 2
    return _directions(azimuth[:, None] + 0 * elevation, bent), np.arange(600, dtype=np.uint32) * 160_000


PATTERNS = {"rosette": rosette, "raster": raster}


@lru_cache(maxsize=4)
def world_of(seed: int, hills: float, hard: bool) -> World:
    """A world, kept for the next LiDAR."""
    return build(seed, SPEED, DURATION, 1.0, hills, hard)


def sweeps(setting: Setting, seeds: range, each: int = 2) -> Iterator[tuple[Sweep, Truth]]:
    """Sweeps of each world, `each` of them, with the truth of their points."""
    for seed in seeds:
        vehicle = Vehicle(world_of(seed, setting.hills, setting.hard), SPEED)
        for k in range(each):
            rng = np.random.default_rng((seed, k))
            start = k * DURATION / each
            if setting.pattern:
                measured = scan(vehicle, setting.lidar(), *PATTERNS[setting.pattern](start), start, rng)
            else:
                measured = sweep(vehicle, setting.lidar(), start, rng)
            measured = _SPOIL[setting.spoilt](measured, rng) if setting.spoilt else measured
            truth = Truth(measured.semantic, measured.instance, CLASSES)
            ring = None if setting.pattern == "rosette" else measured.ring
            yield Sweep(seed * 1000 + k, "lidar", measured.xyz, ring=ring), truth


def _moved(found: Measured, rows: np.ndarray, reach: np.ndarray, semantic: int) -> Measured:
    """Some points at another range on their rays, as something else."""
    xyz, labels, instance = found.xyz.copy(), found.semantic.copy(), found.instance.copy()
    xyz[rows] *= (reach / np.linalg.norm(xyz[rows], axis=1))[:, None].astype(np.float32)
    labels[rows], instance[rows] = semantic, 0
    return replace(found, xyz=xyz, semantic=labels, instance=instance)


def _rain(found: Measured, rng: np.random.Generator) -> Measured:
    """A quarter of the returns is lost, every 100th is of a drop within 15 m."""
    kept = rng.random(len(found.xyz)) > 0.25
    fields = {k: v[kept] for k, v in vars(found).items()}
    found = Measured(**fields)
    near = np.linalg.norm(found.xyz, axis=1)
    rows = np.flatnonzero((rng.random(len(near)) < 0.01) & (near > 3))
    return _moved(found, rows, rng.uniform(1.5, np.minimum(near[rows], 15)), NOISE)


def _reflections(found: Measured, rng: np.random.Generator) -> Measured:
    """Puddles: eight patches of road whose points lie 1.2 to 2 times as far, under the road."""
    azimuth, near = np.arctan2(found.xyz[:, 1], found.xyz[:, 0]), np.hypot(found.xyz[:, 0], found.xyz[:, 1])
    road = (found.semantic == 0) & (near > 4)
    for _ in range(8):
        a, r = rng.uniform(-np.pi, np.pi), rng.uniform(6, 25)
        across = np.abs((azimuth - a + np.pi) % (2 * np.pi) - np.pi) * r
        rows = np.flatnonzero(road & (across < 1.0) & (np.abs(near - r) < 1.5) & (found.semantic == 0))
        reach = np.linalg.norm(found.xyz[rows], axis=1) * rng.uniform(1.2, 2.0) + rng.normal(0, 0.05, len(rows))
        found = _moved(found, rows, reach, NOISE)
    return found


def _ego(found: Measured, rng: np.random.Generator) -> Measured:
    """The roof behind the LiDAR, and the bonnet before it, where its lowest beams meet them."""
    tangent = -found.xyz[:, 2] / np.hypot(found.xyz[:, 0], found.xyz[:, 1])
    azimuth = np.abs(np.arctan2(found.xyz[:, 1], found.xyz[:, 0]))
    for below, steepest, where in ((0.35, 0.2, azimuth > 2.4), (0.95, 0.33, azimuth < 0.4)):
        rows = np.flatnonzero(where & (tangent > steepest))
        sine = tangent[rows] / np.sqrt(1 + tangent[rows] ** 2)
        found = _moved(found, rows, below / sine + rng.normal(0, 0.01, len(rows)), EGO)
    return found


_SPOIL = {"rain": _rain, "reflections": _reflections, "ego": _ego}
