"""LiDARs of many kinds before a plane with boxes: what each point is, is known."""

from __future__ import annotations

import numpy as np

HEIGHT = 1.8
Box = tuple[float, ...]  # x, y ranges and top over ground, and where it has one, bottom


def directions(elevation: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """Unit vectors of angles in degrees, (..., 3)."""
    e, a = np.deg2rad(elevation), np.deg2rad(azimuth)
    return np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e) + 0 * a], axis=-1)


def spinning(elevation: np.ndarray, columns: int = 720) -> tuple[np.ndarray, np.ndarray]:
    """Rays and rings of a turn, beam by beam."""
    e, a = np.meshgrid(elevation, np.arange(columns) * 360 / columns, indexing="ij")
    return directions(e, a).reshape(-1, 3), np.repeat(np.arange(len(elevation), dtype=np.uint16), columns)


def rosette(points: int = 30_000, width: float = 80.0) -> np.ndarray:
    """Rays of two prisms that turn against each other: no rows, and never the same again."""
    time = np.arange(points) * 4e-6
    at = width / 4 * (np.exp(2j * np.pi * 121.4 * time) + np.exp(-2j * np.pi * 77.8 * time))
    return directions(at.imag - 8, at.real)


def raster(width: float = 120.0) -> tuple[np.ndarray, np.ndarray]:
    """Rays and rings of a swinging mirror, row by row, each other row backwards; rows are bent."""
    e, a = np.meshgrid(np.linspace(5, -22, 100), np.linspace(width / 2, -width / 2, 500), indexing="ij")
    a[1::2] = a[1::2, ::-1]
    return directions(e - 1.5 * (2 * a / width) ** 2, a).reshape(-1, 3), np.repeat(np.arange(100, dtype=np.uint16), 500)


def flash(width: float = 140.0, rows: int = 90, columns: int = 230) -> np.ndarray:
    """Rays of an array of pixels, row by row, all in one direction; towards the sides rows come near to each other."""
    e, a = np.meshgrid(np.linspace(12, -33, rows), np.linspace(width / 2, -width / 2, columns), indexing="ij")
    return directions(np.rad2deg(np.arctan(np.tan(np.deg2rad(e)) * np.cos(np.deg2rad(0.6 * a)))), a).reshape(-1, 3)


def cast(
    ray: np.ndarray, boxes: tuple[Box, ...], slope: float = 0.0, kerb: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) of rays (N, 3), and truth (N,): 0 nothing, 1 ground, 2.. the boxes.

    The plane lies HEIGHT below, rises with x, and by a kerb at y > 4.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = -HEIGHT / (ray[:, 2] - np.tan(slope) * ray[:, 0])
        reach[reach <= 0] = np.inf
        raised = -(HEIGHT - kerb) / ray[:, 2]
        reach = np.where((reach * ray[:, 1] > 4) & (raised > 0), raised, reach) if kerb else reach
        truth = np.where(reach < 60, 1, 0)
        for number, (x0, x1, y0, y1, top, *bottom) in enumerate(boxes, start=2):
            low, high = np.array([x0, y0, (bottom or [-5])[0] - HEIGHT]), np.array([x1, y1, top - HEIGHT])
            near, far = np.minimum(low / ray, high / ray).max(axis=1), np.maximum(low / ray, high / ray).min(axis=1)
            hit = (near < far) & (near > 0) & (near < reach)
            reach, truth = np.where(hit, near, reach), np.where(hit, number, truth)
    noisy = np.where(truth > 0, reach, 0) + np.random.default_rng(seed).normal(0, 0.01, len(ray)) * (truth > 0)
    return (ray * noisy[:, None]).astype(np.float32), truth
