"""Pictures of frames: label images over the camera's, and the cloud from above in the same colours."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.class_colors import object_colors
from dseg_core.errors import DsegError
from dseg_core.overlay import laid_over
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND, REGION_NONE
from dseg_core.reporting.neighbour_colors import neighbour_colors
from dseg_core.reporting.page import Html, picture

Rgb = NDArray[np.uint8]

_MASK = 640
_BACKDROP = (16, 19, 24)


def outlines(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels of a label image (H, W) beside a smaller label, left, right, above or below; bool (H, W)."""
    edges = np.zeros(labels.shape, dtype=bool)
    edges[:, :-1] |= labels[:, :-1] > labels[:, 1:]
    edges[:, 1:] |= labels[:, 1:] > labels[:, :-1]
    edges[:-1] |= labels[:-1] > labels[1:]
    edges[1:] |= labels[1:] > labels[:-1]
    return edges


def regions_over_image(rgb: Rgb, regions: NDArray[np.uint16], colors: Rgb | None = None) -> Rgb:
    """The camera's image with each region in a colour, outlined; small images come back enlarged.

    Args:
        rgb: uint8 (H, W, 3).
        regions: uint16 (H, W).
        colors: Of each id, uint8 (K, 3); `neighbour_colors` by default.
    """
    colors = neighbour_colors(regions) if colors is None else colors
    enlarge = max(1, round(800 / rgb.shape[1]))
    regions = regions.repeat(enlarge, 0).repeat(enlarge, 1)
    rgb = np.asarray(cv2.resize(rgb, regions.shape[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
    painted = colors[regions]
    ground = regions == REGION_GROUND
    over = laid_over(rgb, painted, regions >= REGION_FIRST_OBJECT, 0.62)
    over = laid_over(over, painted, ground, 0.45)
    over[outlines(regions) & (regions >= REGION_FIRST_OBJECT)] = 255
    return over


def cloud_from_above(
    xyz: NDArray[np.float32],
    proposals: NDArray[np.uint16],
    reach: float,
    size: tuple[int, int],
    ahead: float = 0.75,
    colors: Rgb | None = None,
) -> Rgb:
    """The sweep seen from above, x forward up, y left, in the proposals' colours.

    Args:
        xyz: Points in the LiDAR's frame, metres, (N, 3).
        proposals: Id per point, (N,).
        reach: Metres from the sensor to the upper edge.
        size: (width, height) of the picture in pixels.
        ahead: Share of the height that is above the sensor.
        colors: Of each id, uint8 (K, 3); `object_colors` by default.

    Returns:
        uint8 (height, width, 3).
    """
    width, height = size
    scale = ahead * height / reach
    canvas = np.full((height, width, 3), _BACKDROP, dtype=np.uint8)
    origin = (width // 2, round(ahead * height))
    for ring in range(10, int(reach) + 1, 10):
        cv2.circle(canvas, origin, round(ring * scale), (48, 54, 62), 1, cv2.LINE_AA)
        label_at = (origin[0] + 3, max(origin[1] - round(ring * scale) + 12, 12))
        cv2.putText(canvas, f"{ring} m", label_at, cv2.FONT_HERSHEY_SIMPLEX, 0.36, (150, 158, 168), 1, cv2.LINE_AA)
    columns = np.floor(origin[0] - xyz[:, 1] * scale).astype(np.int64)
    rows = np.floor(origin[1] - xyz[:, 0] * scale).astype(np.int64)
    inside = (columns >= 0) & (columns < width - 1) & (rows >= 0) & (rows < height - 1)
    colors = object_colors(max(int(proposals.max(initial=1)) + 1, 2)) if colors is None else colors.copy()
    colors[REGION_NONE] = (58, 62, 70)
    # Ground and leftovers first, so that objects stay visible on top; objects are two pixels wide.
    for objects in (False, True):
        chosen = inside & ((proposals >= REGION_FIRST_OBJECT) == objects)
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)) if objects else ((0, 0),):
            canvas[rows[chosen] + down, columns[chosen] + right] = colors[proposals[chosen]]
    cv2.drawMarker(canvas, origin, (255, 255, 255), cv2.MARKER_TRIANGLE_UP, 11, 2)
    return canvas


def mask_picture(labels: NDArray[np.uint8], palette: NDArray[np.uint8], width: int = _MASK) -> Rgb:
    """A label image in its palette (uint8 (256, 3)), at most `width` pixels wide; unlabelled is hatched.

    It shrinks before it is hatched: stripes that are made smaller blur to grey.
    """
    height_now, width_now = labels.shape
    if width_now > width:
        size = (width, max(1, round(height_now * width / width_now)))
        labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    rows, columns = np.indices(labels.shape)
    period = max(6, round(labels.shape[1] / 50))
    hatch = np.where((rows + columns) % period < period // 3, 120, 236).astype(np.uint8)[..., None]
    return np.where((labels == 255)[..., None], hatch, palette[labels]).astype(np.uint8)


def fit(rgb: Rgb, width: int, labels: bool = False) -> Rgb:
    """Shrink to at most `width` pixels; label pictures by nearest neighbour."""
    height_now, width_now = rgb.shape[:2]
    if width_now <= width:
        return rgb
    size = (width, max(1, round(height_now * width / width_now)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_NEAREST if labels else cv2.INTER_AREA), np.uint8)


def read_png(path: Path) -> Rgb:
    """A picture that a stage wrote, uint8 (H, W, 3). Raises DsegError when it cannot be read."""
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise DsegError("cannot be read as an image", where=path, fix="Run the stage that writes it again.")
    return np.asarray(bgr[..., ::-1], dtype=np.uint8)


def embedded(rgb: Rgb, alt: str, width: int = 800, quality: int = 82, labels: bool = False, wide: bool = False) -> Html:
    """An `img` with the picture inside the page, as WebP; labels kept exact, `wide` ones readable on phones."""
    shown = fit(rgb, width, labels)
    # OpenCV reads a quality above 100 as lossless.
    done, data = cv2.imencode(".webp", shown[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 101 if labels else quality])
    if not done:
        raise DsegError("OpenCV could not write WebP", fix="Install opencv-python-headless from its wheel.")
    return picture(data.tobytes(), alt, shown.shape[1], shown.shape[0], "wide" if wide else None)
