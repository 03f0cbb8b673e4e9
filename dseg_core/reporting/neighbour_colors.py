"""Colours of an image's regions, so that those that lie side by side differ well."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.class_colors import WELL_APART, object_colors
from dseg_core.records import REGION_FIRST_OBJECT

_STEPS = (1, 2, 3, 5, 8, 12, 18, 27, 40)  # pixels of an image of _WIDTH, over which regions are near to each other
_WIDTH = 1242
_WANTED = 60.0  # Delta E between neighbours, where a colour is left that has it


def neighbour_colors(regions: NDArray[np.uint16], count: int = 0) -> NDArray[np.uint8]:
    """A colour per id, of which regions that touch or are near in the image have no two alike.

    Greedily, large regions first; a region takes its id's colour where no neighbour has one like it. Where more regions
    are near one another than there are colours (20), the nearest differ most.

    Args:
        regions: uint16 (H, W).
        count: Ids that a colour is wanted for at least; those in no region have their id's own (`object_colors`).

    Returns:
        uint8 (max(count, largest id + 1, 2), 3); 0 is black, 1 `GROUND`.
    """
    colors = object_colors(max(count, int(regions.max(initial=0)) + 1, 2))
    palette = object_colors(REGION_FIRST_OBJECT + WELL_APART)[REGION_FIRST_OBJECT:]  # (20, 3)
    lab = cv2.cvtColor(palette[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    differ = np.linalg.norm(lab[:, None] - lab[None], axis=-1)  # (20, 20), Delta E
    near = _near(regions)
    sizes = np.bincount(regions.ravel(), minlength=len(colors))
    sizes[:REGION_FIRST_OBJECT] = 0
    taken: dict[int, int] = {}
    for identity in np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)].tolist():
        around = [(taken[other], pixels) for other, pixels in near.get(identity, {}).items() if other in taken]
        own = (identity - REGION_FIRST_OBJECT) % WELL_APART
        taken[identity] = _chosen(own, around, differ)
        colors[identity] = palette[taken[identity]]
    return colors


def _chosen(own: int, around: list[tuple[int, int]], differ: NDArray[np.floating]) -> int:
    """A colour, from `own` on, that differs from those of the regions around, given with their pixels' distance."""
    order = np.roll(np.arange(len(differ)), -own)
    if not around:
        return own
    colors, pixels = np.array(around).T
    least = differ[order][:, colors].min(axis=1)
    for wanted in (_WANTED, 1.0):  # 1: any other colour
        if (least >= wanted).any():
            return int(order[int((least >= wanted).argmax())])
    like = np.where(order[:, None] == colors, pixels, np.inf).min(axis=1)  # how far the nearest region of each is
    return int(order[int(like.argmax())])


def _near(regions: NDArray[np.uint16]) -> dict[int, dict[int, int]]:
    """Of each object the objects near to it and the least of `_STEPS` between them, along rows, columns, diagonals."""
    found: dict[int, dict[int, int]] = {}
    height, width = regions.shape
    for step in sorted({max(1, round(s * width / _WIDTH)) for s in _STEPS}):
        if step >= min(height, width):
            break
        for down, right in ((0, step), (step, 0), (step, step), (step, -step)):
            one = regions[: height - down, max(0, -right) : width - max(0, right)]
            other = regions[down:, max(0, right) : width + min(0, right)]
            both = (one != other) & (one >= REGION_FIRST_OBJECT) & (other >= REGION_FIRST_OBJECT)
            for pair in np.unique(one[both].astype(np.uint32) << 16 | other[both]).tolist():
                a, b = pair >> 16, pair & 0xFFFF
                found.setdefault(a, {}).setdefault(b, step)
                found.setdefault(b, {}).setdefault(a, step)
    return found
