"""One object that was not found, to look at: in truth, as proposals, in an image and from above."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.image_codecs import decode
from dseg_core.moved_points import moved_points
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND, Frame
from dseg_core.reporting.pictures import Rgb, cloud_from_above

OBJECT, LOST, OTHER, GROUND = (255, 190, 40), (240, 60, 60), (74, 92, 122), (78, 80, 88)
"""The object in truth; its points that are in no proposal; other objects; ground."""
HOLDERS = ((70, 200, 255), (255, 120, 200), (130, 225, 90), (190, 150, 255), (255, 160, 90), (120, 235, 215))
"""Proposals that hold points of the object, those of most first; in truth, other objects in them."""

_SIZE = (560, 300)  # pixels of one panel
_GAP = 8
_WIDEST, _MARGIN = np.deg2rad(60), 1.2  # a panel's field; room around the object, of its size
_BACKDROP, _EDGE = (16, 19, 24), (255, 255, 255)
_NONE = (44, 48, 56)
_RING, _LEAST = 4, 18  # pixels between the object and the white around it; half of the least box or circle around it
_SHARE = 0.4  # least part of an image's height that is shown


def case_picture(frame: Frame, instance: NDArray[np.integer], mine: int) -> Rgb:
    """Four panels: truth and proposals as the LiDAR sees them, below them the image, and everything from above.

    Args:
        frame: As recorded, its sweep in the LiDAR's frame.
        instance: (N,): 0 no object, 1.. true objects.
        mine: The object; it has at least one point.

    Returns:
        uint8 (608, 1128, 3).
    """
    ids, own = frame.proposals, instance == mine
    held = [identity for identity in holders(ids, own) if identity >= REGION_FIRST_OBJECT]
    truth, found = _truth_colors(ids, instance, mine, held), _found_colors(ids, own, held)
    seen = seen_from_lidar(frame.sweep.xyz, own, (truth, found))
    rows = [_beside(*(_titled(panel, name) for panel, name in zip(seen, ("truth", "proposals"), strict=True)))]
    image = _in_image(frame, own, found)
    if image is None:
        size = 2 * _SIZE[0] + _GAP, _SIZE[1]
        rows.append(_titled(_from_above(frame.sweep.xyz, own, ids, size), "from above; in no image"))
    else:
        rows.append(_beside(image, _titled(_from_above(frame.sweep.xyz, own, ids, _SIZE), "from above")))
    level = np.full((_GAP, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([rows[0], level, rows[1]])


def _beside(left: Rgb, right: Rgb) -> Rgb:
    return np.concatenate([left, np.full((_SIZE[1], _GAP, 3), 255, np.uint8), right], axis=1)


def holders(ids: NDArray[np.uint16], own: NDArray[np.bool_]) -> list[int]:
    """What an object's points are called, ids (0 none, 1 ground, 2.. proposals), those of most of its points first."""
    found, counts = np.unique(ids[own], return_counts=True)
    return [int(identity) for identity in found[np.argsort(-counts, kind="stable")]]


def seen_from_lidar(
    xyz: NDArray[np.float32], own: NDArray[np.bool_], colorings: Sequence[NDArray[np.uint8]]
) -> list[Rgb]:
    """An object and what is around it, as the LiDAR sees them, once for each way to colour the points.

    Args:
        xyz: float32 (N, 3), metres, LiDAR frame.
        own: bool (N,), the object's points, at least one.
        colorings: uint8 (N, 3) each.

    Returns:
        uint8 (300, 560, 3) each. One white line goes around the whole object, without covering any point of it: one
        around each beam's points would be wider than they are.
    """
    azimuth, planar = np.arctan2(xyz[:, 1], xyz[:, 0]), np.hypot(xyz[:, 0], xyz[:, 1])
    middle = np.arctan2(np.sin(azimuth[own]).mean(), np.cos(azimuth[own]).mean())
    aside = (azimuth - middle + np.pi) % (2 * np.pi) - np.pi
    up = np.arctan2(xyz[:, 2], planar)
    center = (up[own].min() + up[own].max()) / 2
    width, height = _SIZE
    half = max(np.abs(aside[own]).max(), (up[own].max() - center) * width / height, np.deg2rad(2))
    scale = width / 2 / min((1 + _MARGIN) * half, _WIDEST / 2)
    column, row = np.rint(width / 2 - aside * scale), np.rint(height / 2 - (up - center) * scale)
    inside = np.flatnonzero((column >= 0) & (column < width) & (row >= 0) & (row < height) & (planar > 0))
    inside = inside[np.lexsort((-planar[inside], own[inside]))]  # the nearest on top, and the object above all
    radius, larger = (int(np.clip(scale * np.deg2rad(wide), least, 5)) for wide, least in ((0.12, 1), (0.24, 2)))
    places = [(int(column[k]), int(row[k])) for k in inside]
    turn = np.deg2rad(np.arange(0, 360, 15))
    ring = (larger + _RING) * np.stack([np.cos(turn), np.sin(turn)], axis=1)  # (24, 2) pixels
    shape = np.array([at for at, k in zip(places, inside, strict=True) if own[k]])  # (K, 2)
    around = cv2.convexHull(np.rint(shape[:, None] + ring).astype(np.int32).reshape(-1, 2))
    panels = []
    for colors in colorings:
        canvas = np.full((height, width, 3), _BACKDROP, np.uint8)
        for on_top in (False, True):
            for at, k in zip(places, inside, strict=True):
                if own[k] == on_top:
                    cv2.circle(canvas, at, larger if on_top else radius, colors[k].tolist(), -1)
            if not on_top:
                cv2.polylines(canvas, [around], True, _EDGE, 1)
        panels.append(canvas)
    return panels


def _truth_colors(
    ids: NDArray[np.uint16], instance: NDArray[np.integer], mine: int, held: Sequence[int]
) -> NDArray[np.uint8]:
    """(N, 3): the object, other objects that share a proposal with it, all other objects, and what is none."""
    colors = np.full((len(ids), 3), GROUND, np.uint8)
    colors[instance > 0] = OTHER
    shared = np.unique(instance[np.isin(ids, held) & (instance > 0)])
    for number, other in enumerate(other for other in shared if other != mine):
        colors[instance == other] = HOLDERS[number % len(HOLDERS)]
    colors[instance == mine] = OBJECT
    return colors


def _found_colors(ids: NDArray[np.uint16], own: NDArray[np.bool_], held: Sequence[int]) -> NDArray[np.uint8]:
    """(N, 3): the proposals that hold points of the object, its other points, other proposals, ground and the rest."""
    colors = np.full((len(ids), 3), OTHER, np.uint8)
    colors[ids < REGION_FIRST_OBJECT] = _NONE
    colors[ids == REGION_GROUND] = GROUND
    for number, identity in enumerate(held):
        colors[ids == identity] = HOLDERS[number % len(HOLDERS)]
    colors[own & (ids < REGION_FIRST_OBJECT)] = LOST
    return colors


def _in_image(frame: Frame, own: NDArray[np.bool_], colors: NDArray[np.uint8]) -> Rgb | None:
    """The part of an image that most of the object is in, its points in `colors`; None where it is in none."""
    keep = np.flatnonzero(own)
    if not frame.views:
        return None
    seen = []
    for view in frame.views:
        # Without the vehicle's motion within the sweep, which frames do not keep.
        uv, visible = view.calibration.project(moved_points(frame.sweep, keep, view.T_image_sweep, None))
        seen.append((int(np.count_nonzero(visible)), view, uv, visible))
    count, view, uv, visible = max(seen, key=lambda found: found[0])
    if not count:
        return None
    keep, uv, number = keep[visible], uv[visible], len(keep)
    rgb = decode(view.image)
    (left, top), (right, bottom) = uv.min(axis=0), uv.max(axis=0)
    (width, height), shape = _SIZE, rgb.shape[:2]
    tall = np.clip(4 * max(bottom - top, (right - left) * height / width), _SHARE * shape[0], shape[0])
    tall = min(tall, shape[1] * height / width)
    wide = tall * width / height
    x0 = float(np.clip((left + right - wide) / 2, 0, max(shape[1] - wide, 0)))
    y0 = float(np.clip((top + bottom - tall) / 2, 0, max(shape[0] - tall, 0)))
    scale = width / wide
    shift = np.array([[scale, 0, -x0 * scale], [0, scale, -y0 * scale]])
    panel = np.asarray(cv2.warpAffine(rgb, shift, (width, height), flags=cv2.INTER_LINEAR), np.uint8)
    places = (uv - (x0, y0)) * scale
    for (x, y), color in zip(places, colors[keep].tolist(), strict=True):
        cv2.circle(panel, (round(x), round(y)), 1, color, -1)
    low, high = places.min(axis=0), places.max(axis=0)
    middle, reach = (low + high) / 2, np.maximum((high - low) / 2 + 6, _LEAST)
    corners = [tuple(int(v) for v in middle + side * reach) for side in (-1, 1)]
    cv2.rectangle(panel, corners[0], corners[1], _EDGE, 1, cv2.LINE_AA)
    return _titled(panel, view.camera if count == number else f"{view.camera}: {count} of its {number} points")


def _from_above(
    xyz: NDArray[np.float32], own: NDArray[np.bool_], ids: NDArray[np.uint16], size: tuple[int, int]
) -> Rgb:
    """All points around the LiDAR, x forward up, and a circle around the object."""
    middle = xyz[own, :2].mean(axis=0)
    spread = float(np.abs(xyz[own, :2] - middle).max())
    reach = float(max(10.0, 1.2 * (np.abs(middle).max() + spread)))
    colors = np.array([_NONE, GROUND, OTHER], np.uint8)
    panel = cloud_from_above(xyz, np.minimum(ids, REGION_FIRST_OBJECT), reach, size, ahead=0.5, colors=colors)
    scale = 0.5 * size[1] / reach
    places = np.array(size) // 2 - np.vstack([xyz[own, 1::-1], middle[::-1]]) * scale
    for x, y in places[:-1]:
        cv2.circle(panel, (int(x), int(y)), 1, OBJECT, -1)
    x, y = places[-1]
    cv2.circle(panel, (int(x), int(y)), int(max(spread * scale + 6, _LEAST / 2)), _EDGE, 1, cv2.LINE_AA)
    return panel


def _titled(panel: Rgb, name: str) -> Rgb:
    """A panel with its name in a corner; changes the panel."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    (width, height), _ = cv2.getTextSize(name, font, scale, 1)
    panel[: height + 12, : width + 14] = _BACKDROP
    cv2.putText(panel, name, (7, height + 6), font, scale, (235, 235, 235), 1, cv2.LINE_AA)
    return panel
