"""The method for LiDARs with beams: range image, ground as a height field, components by the angle criterion."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.errors import DsegError
from dseg_core.lidar.clustering import components
from dseg_core.lidar.distinct import distinct
from dseg_core.lidar.euclidean import components_by_distance
from dseg_core.lidar.feet import give_feet
from dseg_core.lidar.ground import GROUND, NONE, OBJECT, ground_of
from dseg_core.lidar.patchwork import ground_by_patchwork
from dseg_core.lidar.points import Points, points_of
from dseg_core.lidar.range_image import RangeImage, range_image
from dseg_core.lidar.rows import rows_of
from dseg_core.lidar.scratch import Scratch
from dseg_core.lidar.split import Split
from dseg_core.records import REGION_FIRST_OBJECT, REGION_NONE, Sweep
from dseg_core.stage_options import ProposalOptions

_scratch = Scratch()
_NEAR_SQUARE = np.float32(0.25)  # of the distance of points that share a cell, square metres
_BESIDE, _ABOVE, _TOUCH = 2, 1, np.float32(0.5)  # cells and metres in which further returns look for their object


def no_beams(sweep: Sweep) -> DsegError:
    """Why a sweep cannot be split so."""
    what = f"points of {sweep.frame_id} have no ring, no rows and no order of beams"
    return DsegError(what, fix="Use --proposals.method euclidean")


def by_range_image(
    sweep: Sweep, points: Points, options: ProposalOptions, R_level: NDArray[np.float64] | None = None
) -> Split:
    """Split a sweep by its beams. `R_level`: (3, 3), see `proposals_from_sweep`.

    Raises:
        DsegError: The points have none.
    """
    rows = rows_of(sweep, points)
    if rows is None:
        raise no_beams(sweep)
    if R_level is not None and R_level[2, 2] < 0:  # it hangs upside down: ground is sought from the last row up
        rows = rows.mirrored()
    image = range_image(points, rows, options.columns)
    if R_level is not None:  # cells stay where the beams are; heights are those over the level
        points = points_of((sweep.xyz @ R_level.T).astype(np.float32))
        with np.errstate(all="ignore"):  # empty cells hold anything
            axes = np.tensordot(R_level.astype(np.float32), image.axes, 1)
        image = replace(image, axes=axes, points=points)
    slope = math.radians(options.ground_slope)
    own = options.ground == "own"
    kind = (
        ground_of(image, slope, options.kerb)
        if own
        else np.append(ground_by_patchwork(points, slope, options.sensor_height), np.uint8(NONE))
    )
    kinds = _scratch.take("kinds", image.index.shape, np.uint8)
    _of_cells(kind, image.index.reshape(-1), kinds.reshape(-1))
    give_feet(image.axes, image.index, kinds, kind)
    angles = math.radians(options.angle), math.radians(options.angle_between)
    labels, sizes = components(
        image.axes, image.distance, kinds, angles, options.near, options.gap, options.hole + 1,
        options.fragment, options.fragment_gap, rows.apart(), options.min_points, image.columns,
    )  # fmt: skip
    label, rest = (_scratch.take(name, len(points) + 1, np.int32) for name in ("label", "rest"))
    label = label[:-1]
    behind = _spread(points.axes, image.index.reshape(-1), image.cell, kind, labels.reshape(-1), label, rest)
    further = _further_returns(image, rest[:behind], label, len(sizes), options)
    return Split(label, np.concatenate([sizes, further]))


def _further_returns(
    image: RangeImage, rest: NDArray[np.int32], label: NDArray[np.int32], count: int, options: ProposalOptions
) -> NDArray[np.int64]:
    """Label points of objects that lie behind their cell's nearest, as second returns do behind a fence.

    Those near to each other stay together. They are part of the object that a cell beside them has there, else objects
    of their own.

    Args:
        image: The cells.
        rest: int32 (M,), the points.
        label: int32 (N,), of every point, is changed for these.
        count: How many objects there are.
        options: How near.

    Returns:
        int64, sizes of further objects.
    """
    if not len(rest):
        return np.zeros(0, dtype=np.int64)
    axes = image.points.axes
    xyz = np.ascontiguousarray(axes.take(rest, axis=1).T)
    first, copy_of = distinct(xyz)
    groups = components_by_distance(xyz[first], options.distance, options.distance_rise)
    return _beside(axes, image.index, image.columns, image.cell, rest, first, copy_of, groups, count, label)


@compiled
def _beside(
    axes: NDArray[np.float32],
    index: NDArray[np.int32],
    turn: int,
    cell: NDArray[np.int32],
    rest: NDArray[np.int32],
    first: NDArray[np.int64],
    copy_of: NDArray[np.int32],
    groups: NDArray[np.int64],
    count: int,
    label: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Label groups of points as the nearest point's object in a cell beside one of theirs; others are objects, too.

    Args:
        axes: float32 (3, N), of all points, metres.
        index: int32 (R, C), the points of cells.
        turn: Their columns of a turn.
        cell: int32 (N,), of each point.
        rest: int32 (M,), the points to label.
        first: int64 (D,), those of `rest` that are different.
        copy_of: int32 (M,), which of these each is.
        groups: int64 (D,), from 0.
        count: How many objects there are.
        label: int32 (N,), is changed for `rest`.

    Returns:
        int64, the points of those groups that are objects.
    """
    rows, columns = index.shape
    points, sizes = np.empty(len(first), np.int64), np.empty(len(first), np.int64)
    nearest, found = np.empty(len(first), np.float32), np.empty(len(first), np.int32)
    points[:], nearest[:], found[:] = 0, _TOUCH * _TOUCH, REGION_NONE
    for n in range(len(groups)):
        i, g = rest[first[n]], groups[n]
        points[g] += 1
        r, c = cell[i] // columns, cell[i] % columns
        for s in range(max(r - _ABOVE, 0), min(r + _ABOVE + 1, rows)):
            for step in range(-_BESIDE, _BESIDE + 1):
                j = index[s, (c + step) % turn]
                if j < 0 or label[j] < REGION_FIRST_OBJECT:
                    continue
                far = _square(axes, i, j)
                if far < nearest[g] or (far == nearest[g] and label[j] < found[g]):
                    nearest[g], found[g] = far, label[j]
    objects = 0
    for g in range(len(groups)):
        if points[g] and found[g] == REGION_NONE:
            found[g] = REGION_FIRST_OBJECT + count + objects
            sizes[objects] = points[g]
            objects += 1
    for m in range(len(rest)):
        label[rest[m]] = found[groups[copy_of[m]]]
    return sizes[:objects]


@compiled_within
def _square(axes: NDArray[np.float32], i: int, j: int) -> np.float32:
    """Of the distance of two points, square metres."""
    x, y, z = axes[0, i] - axes[0, j], axes[1, i] - axes[1, j], axes[2, i] - axes[2, j]
    return np.float32(x * x + y * y + z * z)


@compiled
def _of_cells(kind: NDArray[np.uint8], index: NDArray[np.int32], kinds: NDArray[np.uint8]) -> None:
    """Of each cell, that of its nearest point; of empty ones, the last: -1 is the largest of unsigned numbers."""
    last = np.uint32(len(kind) - 1)
    for k in range(len(index)):
        kinds[k] = kind[min(np.uint32(index[k]), last)]


@compiled
def _spread(
    axes: NDArray[np.float32],
    index: NDArray[np.int32],
    cell: NDArray[np.int32],
    kind: NDArray[np.uint8],
    labels: NDArray[np.int32],
    label: NDArray[np.int32],
    rest: NDArray[np.int32],
) -> int:
    """From cells to points: those that share a cell go with its nearest when they are near it.

    `rest`: int32 (N + 1,), is filled with the objects' other points; how many is returned.
    """
    count, others = 0, 0
    for i in range(len(cell)):
        k = np.uint32(max(cell[i], np.int32(0)))
        own, is_thing = labels[k] + np.int32(REGION_FIRST_OBJECT), kind[i] >= np.uint8(OBJECT)
        label[i] = own if is_thing else np.int32(kind[i] == np.uint8(GROUND))
        rest[np.uint64(count)] = i  # kept where it is counted: no branch, which would often be guessed wrong
        count += int(is_thing & (index[k] != i))
    for n in range(count):
        j = rest[n]
        at = cell[j]
        if at < 0:
            label[j] = REGION_NONE
            continue
        is_other = labels[at] < 0 or _square(axes, j, index[at]) > _NEAR_SQUARE  # the nearest point may be no object
        label[j] = REGION_NONE if is_other else labels[at] + np.int32(REGION_FIRST_OBJECT)
        rest[np.uint64(others)] = j
        others += int(is_other)
    return others
