"""Numbers that describe a region without a network: the 3D shape of its proposal, and its colour and texture.

Both work on whole frames at once (grouped sums, no loop over regions). Range and intensity are left out on purpose:
they split one class by distance and material.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dseg_core.records import REGION_GROUND

SHAPE_COLUMNS = (
    "bottom",
    "top",
    "length",
    "width",
    "height",
    "linearity",
    "planarity",
    "scattering",
    "wallness",
    "uprightness",
    "area",
    "fill",
    "local_planarity",
    "local_linearity",
    "local_wallness",
    "top_heaviness",
)
ORIENTATIONS = 6
COLOR_COLUMNS = (
    *("lightness", "a", "b", "lightness_deviation", "a_deviation", "b_deviation"),
    *("gradient", "laplacian"),
    *(f"orientation_{i}" for i in range(ORIENTATIONS)),
)

_CELL = 4.0  # side of the ground-height cells [m]: wider than a car, so that its shadow in the ground is bridged
_NEAR_GROUND = 12.0  # farther from any ground point than this the plane alone is the ground [m]
_SMALL = 0.1  # added to extents before the logarithm [m]: differences below the sensor's noise do not count


def heights_over_ground(
    xyz: NDArray[np.float32], proposals: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Heights over the local ground, and the points turned so that the ground is level.

    A plane is fitted robustly to the ground proposal's points (the sensor may be tilted); its residuals, averaged in
    cells and carried to the nearest cells without ground, follow slopes and kerbs.

    Args:
        xyz: float32 (N, 3), metres, any frame with z roughly up.
        proposals: (N,), 1 is ground.

    Returns:
        heights float64 (N,), metres over the ground; levelled float64 (N, 3), metres, sensor at the origin, z normal to
        the ground plane. A sweep with fewer than three ground points is taken as level, its lowest percent as ground.
    """
    ground = xyz[proposals == REGION_GROUND].astype(np.float64)
    points = xyz.astype(np.float64)
    if len(ground) < 3:
        return points[:, 2] - (np.percentile(points[:, 2], 1.0) if len(points) else 0.0), points
    a, b, c = _fit_plane(ground)
    levelled = points @ _rotation_to_up(np.array([-a, -b, 1.0])).T  # (N, 3)
    scale = np.sqrt(1.0 + a * a + b * b)
    heights = (points[:, 2] - points[:, :2] @ (a, b) - c) / scale
    is_ground = proposals == REGION_GROUND
    return heights - _residual_ground(levelled[:, :2], heights, is_ground), levelled


def shape_descriptors(
    xyz: NDArray[np.float32], proposals: NDArray[np.integer], ids: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Describe proposals in 3D, independent of yaw, of the sensor's tilt and, roughly, of range.

    Extents and heights are logarithmic (they compare by ratio). Linearity, planarity and scattering are those of
    Demantke et al. 2011, section 3 (from the square roots of the covariance's eigenvalues), for the whole proposal and,
    averaged over cells that grow with range, locally. `wallness`: 1 where the surface's normal is horizontal;
    `uprightness`: 1 where the longest axis is vertical; `area`: points times squared range, the visible surface up to
    the sensor's constant; `fill`: that over length times height; `top_heaviness`: how much wider it is at the top.

    Args:
        xyz: float32 (N, 3), metres.
        proposals: (N,) id per point.
        ids: (M,) the proposals wanted; each must have a point.

    Returns:
        float32 (M, len(SHAPE_COLUMNS)).
    """
    if not len(ids):
        return np.zeros((0, len(SHAPE_COLUMNS)), dtype=np.float32)
    heights, levelled = heights_over_ground(xyz, proposals)
    row_of = np.full(int(max(proposals.max(), ids.max())) + 1, -1, dtype=np.int64)
    row_of[ids] = np.arange(len(ids))
    rows = row_of[proposals]
    keep = rows >= 0
    rows, heights, points = rows[keep], heights[keep], levelled[keep]
    points[:, 2] = heights
    count = np.bincount(rows, minlength=len(ids)).astype(np.float64)
    mean = _grouped_mean(rows, points, count)  # (M, 3)
    centred = points - mean[rows]
    covariance = _grouped_covariance(rows, centred, count)  # (M, 3, 3)

    bottom, top = _grouped_quantiles(rows, heights, count, (0.02, 0.98)).T
    along, across = _footprint(rows, centred, covariance, count)
    tall = top - bottom
    area = count * (_grouped_mean(rows, levelled[keep], count) ** 2).sum(axis=1) * 1e-5
    columns = [
        np.sign(bottom) * np.log1p(np.abs(bottom)),
        np.sign(top) * np.log1p(np.abs(top)),
        np.log(along + _SMALL),
        np.log(across + _SMALL),
        np.log(tall + _SMALL),
        *_dimensionality(covariance).T,
        np.log(area + 1e-3),
        np.log((area + 1e-3) / ((along + 2 * _SMALL) * (tall + 2 * _SMALL))),
        *_local_dimensionality(rows, points, levelled[keep], count).T,
        _top_heaviness(rows, centred, (bottom + top) / 2, heights, len(ids)),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def color_descriptors(
    rgb: NDArray[np.uint8], regions: NDArray[np.integer], ids: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Describe regions by CIE Lab colour (mean, deviation) and texture.

    Texture is the logarithmic mean gradient, the logarithmic Laplacian energy and the histogram of undirected gradient
    orientations weighted by magnitude (sums to 1; bin 0 is centred on vertical edges).

    Args:
        rgb: uint8 (H, W, 3).
        regions: (H, W) region ids.
        ids: (M,) the regions wanted; each must have a pixel.

    Returns:
        float32 (M, len(COLOR_COLUMNS)).
    """
    row_of = np.full(int(max(regions.max(), ids.max(initial=0))) + 1, -1, dtype=np.int64)
    row_of[ids] = np.arange(len(ids))
    rows = row_of[regions].ravel()
    inside = np.flatnonzero(rows >= 0)
    rows = rows[inside]
    count = np.bincount(rows, minlength=len(ids)).astype(np.float64)
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255.0, cv2.COLOR_RGB2Lab)
    values = lab.reshape(-1, 3)[inside].astype(np.float64)  # (P, 3)
    mean = _grouped_mean(rows, values, count)
    deviation = np.sqrt(_grouped_mean(rows, (values - mean[rows]) ** 2, count))

    lightness = np.ascontiguousarray(lab[..., 0])
    dx = cv2.Sobel(lightness, cv2.CV_32F, 1, 0, scale=0.125).ravel()[inside]
    dy = cv2.Sobel(lightness, cv2.CV_32F, 0, 1, scale=0.125).ravel()[inside]
    laplacian = cv2.Laplacian(lightness, cv2.CV_32F).ravel()[inside].astype(np.float64)
    magnitude = np.hypot(dx, dy).astype(np.float64)
    turn = np.arctan2(dy, dx) / np.pi + 0.5 / ORIENTATIONS  # in half turns, bin 0 centred on a horizontal gradient
    bins = np.minimum((np.mod(turn, 1.0) * ORIENTATIONS).astype(np.int64), ORIENTATIONS - 1)
    histogram = np.bincount(rows * ORIENTATIONS + bins, magnitude + 1e-3, minlength=len(ids) * ORIENTATIONS)
    histogram = histogram.reshape(len(ids), ORIENTATIONS)
    texture = [
        np.log1p(_grouped_mean(rows, magnitude[:, None], count)),
        0.5 * np.log1p(_grouped_mean(rows, laplacian[:, None] ** 2, count)),
        histogram / np.maximum(histogram.sum(axis=1, keepdims=True), 1e-9),
    ]
    return np.concatenate([mean, deviation, *texture], axis=1).astype(np.float32)


def _fit_plane(ground: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit z = a x + b y + c by iteratively reweighted least squares (Cauchy, 0.1 m); float64 (3,)."""
    ground = ground[:: max(1, len(ground) // 4000)]
    system = np.column_stack([ground[:, :2], np.ones(len(ground))])
    weight = np.ones(len(ground))
    plane: NDArray[np.float64] = np.zeros(3)
    for _ in range(6):
        plane = np.asarray(np.linalg.lstsq(system * weight[:, None], ground[:, 2] * weight, rcond=None)[0], np.float64)
        weight = 1.0 / np.sqrt(1.0 + ((system @ plane - ground[:, 2]) / 0.1) ** 2)
    return plane


def _rotation_to_up(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest rotation that turns `normal` to +z; float64 (3, 3)."""
    x, y, z = normal / np.linalg.norm(normal)
    k = 1.0 / (1.0 + z)
    return np.array([[1 - k * x * x, -k * x * y, -x], [-k * x * y, 1 - k * y * y, -y], [x, y, z]])


def _residual_ground(
    xy: NDArray[np.float64], heights: NDArray[np.float64], is_ground: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Mean height of the ground points in each point's cell, or in the nearest cell that has some; float64 (N,)."""
    low = xy.min(axis=0)
    cells = ((xy - low) / _CELL).astype(np.int64)
    shape = cells.max(axis=0) + 1
    index = np.ravel_multi_index((cells[:, 0], cells[:, 1]), tuple(shape))
    count = np.bincount(index[is_ground], minlength=int(shape.prod()))
    total = np.bincount(index[is_ground], heights[is_ground], minlength=int(shape.prod()))
    empty = (count < 3).reshape(shape)
    if empty.all():
        return np.zeros(len(xy))
    mean = (total / np.maximum(count, 1)).reshape(shape)
    distance, (i, j) = ndimage.distance_transform_edt(empty, return_indices=True)
    filled = np.where(distance * _CELL <= _NEAR_GROUND, mean[i, j], 0.0)
    return np.asarray(filled.ravel()[index])


def _grouped_mean(
    rows: NDArray[np.int64], values: NDArray[np.float64], count: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean of `values` (P, C) in each group; float64 (M, C)."""
    sums = [np.bincount(rows, column, minlength=len(count)) for column in values.T]
    return np.stack(sums, axis=1) / np.maximum(count, 1)[:, None]


def _grouped_covariance(
    rows: NDArray[np.int64], centred: NDArray[np.float64], count: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Covariances of points centred on their group's mean; float64 (M, 3, 3)."""
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    products = np.stack([centred[:, i] * centred[:, j] for i, j in pairs], axis=1)
    upper = _grouped_mean(rows, products, count)
    return upper[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)


def _grouped_quantiles(
    rows: NDArray[np.int64], values: NDArray[np.float64], count: NDArray[np.float64], quantiles: tuple[float, ...]
) -> NDArray[np.float64]:
    """Nearest-rank quantiles in each group; float64 (M, len(quantiles)). Every group needs a value."""
    ordered = values[np.lexsort((values, rows))]
    starts = np.concatenate([[0], np.cumsum(count)[:-1]])
    places = starts[:, None] + np.rint(np.asarray(quantiles) * (count[:, None] - 1))
    return np.asarray(ordered[places.astype(np.int64)])


def _footprint(
    rows: NDArray[np.int64],
    centred: NDArray[np.float64],
    covariance: NDArray[np.float64],
    count: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Length and width along the principal axes of the horizontal footprint; float64 (M,), metres."""
    _, axes = np.linalg.eigh(covariance[:, :2, :2])  # columns, smallest first
    extents = []
    for axis in (1, 0):
        offset = np.einsum("pi,pi->p", centred[:, :2], axes[rows, :, axis])
        low, high = _grouped_quantiles(rows, offset, count, (0.02, 0.98)).T
        extents.append(high - low)
    length, width = np.maximum(*extents), np.minimum(*extents)
    return length, width


def _dimensionality(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linearity, planarity, scattering, wallness, uprightness of covariances; float64 (M, 5), each 0..1."""
    values, axes = np.linalg.eigh(covariance)
    small, middle, large = np.sqrt(np.maximum(values, 0.0)).T
    large = np.maximum(large, 1e-6)
    wallness = np.sqrt(np.clip(1.0 - axes[:, 2, 0] ** 2, 0.0, 1.0))
    uprightness = np.abs(axes[:, 2, 2])
    return np.stack([(large - middle) / large, (middle - small) / large, small / large, wallness, uprightness], axis=1)


def _local_dimensionality(
    rows: NDArray[np.int64],
    points: NDArray[np.float64],
    levelled: NDArray[np.float64],
    count: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Planarity, linearity and wallness inside cubes, averaged over a proposal's points; float64 (M, 3).

    Cubes grow with the proposal's range (3 %, 0.5 to 2 m), so that they hold about as many points near as far. Points
    of cubes with fewer than five points do not count; a proposal without fuller cubes gets what its whole covariance
    would say of a thin thing: zeros.
    """
    distance = np.sqrt((_grouped_mean(rows, levelled, count) ** 2).sum(axis=1))
    cells = np.floor(points / np.clip(0.03 * distance, 0.5, 2.0)[rows, None]).astype(np.int64)
    cells -= cells.min(axis=0)
    span = cells.max(axis=0) + 1
    key = ((rows * span[0] + cells[:, 0]) * span[1] + cells[:, 1]) * span[2] + cells[:, 2]
    _, first, cube, size = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    centred = points - _grouped_mean(cube, points, size.astype(np.float64))[cube]
    found = _dimensionality(_grouped_covariance(cube, centred, size.astype(np.float64)))  # (cubes, 5)
    weight = np.where(size >= 5, size, 0).astype(np.float64)
    owner = rows[first]
    total = np.maximum(np.bincount(owner, weight, minlength=len(count)), 1.0)
    sums = [np.bincount(owner, weight * found[:, c], minlength=len(count)) for c in (1, 0, 3)]
    return np.stack(sums, axis=1) / total[:, None]


def _top_heaviness(
    rows: NDArray[np.int64],
    centred: NDArray[np.float64],
    middle: NDArray[np.float64],
    heights: NDArray[np.float64],
    groups: int,
) -> NDArray[np.float64]:
    """Logarithm of the horizontal spread above the middle height over that below it; float64 (M,)."""
    spread = (centred[:, :2] ** 2).sum(axis=1)
    upper = heights > middle[rows]
    width = []
    for part in (upper, ~upper):
        size = np.bincount(rows[part], minlength=groups)
        total = np.bincount(rows[part], spread[part], minlength=groups)
        width.append(np.sqrt(total / np.maximum(size, 1)) + _SMALL)
    return np.asarray(np.log(width[0] / width[1]))
