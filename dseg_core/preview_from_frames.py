"""One picture of recorded frames: is the calibration right, and are image and sweep of the same moment?

Every camera is in it, in frames of several drives and times: the sweep's points over the image, coloured by distance,
beside the regions over the image.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.class_colors import GROUND
from dseg_core.image_codecs import decode
from dseg_core.progress import write_whole
from dseg_core.records import REGION_FIRST_OBJECT, Sweep, View, ViewKey
from dseg_core.reporting.pictures import Rgb, regions_over_image
from dseg_core.store import FrameStore

_VIEWS, _GOLDEN = 4, 0.618034
_NEAR, _FAR = 3.0, 60.0  # metres, first and last colour
_GAP, _TEXT = 10, 30
_PAPER, _INK, _FAINT, _WARN = (20, 23, 28), (232, 235, 238), (150, 158, 168), (240, 170, 80)


def preview(store: FrameStore, path: Path) -> None:
    """Write a PNG of a few views: points over the image by distance, and regions over the image.

    Args:
        store: The frames. Without a view nothing is written.
        path: The .png file; appears whole.

    Raises:
        DsegError: An image is broken.
    """
    keys = chosen_views(store.view_keys)
    if not keys:
        return
    columns = 1 if len(keys) <= _VIEWS else 2
    width = 760 if columns == 1 else 540
    tiles = [_tile(store, key, width) for key in keys]
    lines = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    page = np.vstack([_line(line, columns * (2 * width + 2 * _GAP)) for line in lines])
    page = np.vstack([_scale_bar(page.shape[1]), page])
    # A little larger than need be, in a third of the time.
    write_whole(path, cv2.imencode(".png", page[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())


def chosen_views(keys: tuple[ViewKey, ...], at_least: int = _VIEWS) -> list[ViewKey]:
    """As many views of every camera, `at_least` in all where there are, spread over drives and times."""
    cameras = sorted({key.camera for key in keys})
    each = -(-at_least // max(len(cameras), 1))
    chosen: list[ViewKey] = []
    for number, camera in enumerate(cameras):
        own = [key for key in keys if key.camera == camera]
        count = min(each, len(own))
        # Even steps meet every drive at the same moment and cameras in the same frames; the golden ratio does not.
        shifts = (((number + turn) * _GOLDEN + 0.5) % 1.0 for turn in range(count))
        chosen += [own[int((turn + shift) * len(own) / count)] for turn, shift in enumerate(shifts)]
    return sorted(chosen, key=lambda key: (key.drive, key.stamp_ns, key.camera))


def points_over_image(rgb: Rgb, sweep: Sweep, view: View, width: int) -> Rgb:
    """The sweep's points where the calibration puts them, coloured by distance, over the darkened image.

    Args:
        rgb: uint8 (H, W, 3), the view's image.
        sweep: As recorded, in its own frame.
        view: Gives calibration and transform. The points are moved as a whole, to the image's stamp.
        width: Pixels of the picture.

    Returns:
        uint8 (h, w, 3), the image's proportions.
    """
    T = view.T_image_sweep
    optical = sweep.xyz.astype(np.float64) @ T[:3, :3].T + T[:3, 3]
    uv, visible = view.calibration.project(optical)
    height = max(1, round(width * rgb.shape[0] / rgb.shape[1]))
    way = cv2.INTER_AREA if width < rgb.shape[1] else cv2.INTER_LINEAR
    picture = (0.6 * np.asarray(cv2.resize(rgb, (width, height), interpolation=way))).astype(np.uint8)
    scale = np.array([width / view.calibration.width, height / view.calibration.height])
    at = np.floor((uv[visible] + 0.5) * scale).astype(np.int64)
    far = np.linalg.norm(optical[visible], axis=1)
    order = np.argsort(-far)  # the near ones are drawn last
    at, colors = at[order], _by_distance(far[order])
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        picture[np.clip(at[:, 1] + down, 0, height - 1), np.clip(at[:, 0] + right, 0, width - 1)] = colors
    return picture


def _by_distance(metres: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Red near, blue far, by the logarithm; uint8 (N, 3)."""
    share = np.log(np.clip(metres, _NEAR, _FAR) / _NEAR) / np.log(_FAR / _NEAR)
    # Both ends of the map are nearly black.
    levels = np.round(240 - 215 * share).astype(np.uint8).reshape(-1, 1)
    if not len(levels):
        return np.zeros((0, 3), dtype=np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), dtype=np.uint8).reshape(-1, 3)[:, ::-1]


def _tile(store: FrameStore, key: ViewKey, width: int) -> Rgb:
    """Title, points and regions of one view."""
    frame = store.frame(key.drive, key.stamp_ns)
    view = next(v for v in frame.views if v.camera == key.camera)
    rgb = decode(view.image)
    points = points_over_image(rgb, frame.sweep, view, width)
    regions = cv2.resize(regions_over_image(rgb, view.regions), points.shape[1::-1], interpolation=cv2.INTER_AREA)
    if missing := _missing(frame.proposals, view.regions):
        cv2.rectangle(regions, (0, 0), (14 + _width(missing), _TEXT), _PAPER, -1)
        _write(regions, missing, 6, _WARN)
    gap = np.full((points.shape[0], _GAP, 3), _PAPER, dtype=np.uint8)
    pictures = np.hstack([points, gap, np.asarray(regions, np.uint8), gap])
    head = np.full((_TEXT, pictures.shape[1], 3), _PAPER, dtype=np.uint8)
    offset_ms = (view.stamp_ns - key.stamp_ns) / 1e6
    seconds = (key.stamp_ns - next(stamp for drive, stamp in store.frame_keys if drive == key.drive)) / 1e9
    moved = view.motion_compensated
    left = 2
    for words, color in (
        (key.camera, _INK),
        (f"{key.drive} at {seconds:.1f} s, image {offset_ms:+.1f} ms from the sweep,", _FAINT),
        (f"motion {'taken out' if moved else 'NOT taken out'}", _FAINT if moved else _WARN),
    ):
        _write(head, words, left, color)
        left += 10 + _width(words)
    return np.vstack([head, pictures])


def _missing(proposals: NDArray[np.uint16], regions: NDArray[np.uint16]) -> str | None:
    """Words for a picture that shows no object."""
    if not proposals.any():
        return "this sweep has no proposals, nor ground"
    if proposals.max() < REGION_FIRST_OBJECT:
        return "this sweep has no proposals but ground"
    return None if (regions >= REGION_FIRST_OBJECT).any() else "none of the sweep's objects is in this image"


def _line(tiles: list[Rgb], width: int) -> Rgb:
    """Tiles side by side on paper of `width`."""
    height = max(tile.shape[0] for tile in tiles)
    paper = np.full((height, width, 3), _PAPER, dtype=np.uint8)
    left = 0
    for tile in tiles:
        paper[: tile.shape[0], left : left + tile.shape[1]] = tile[:, : width - left]
        left += tile.shape[1]
    return paper


def _scale_bar(width: int) -> Rgb:
    """What the colours mean, and what to look for."""
    strip = np.full((_TEXT + 8, width, 3), _PAPER, dtype=np.uint8)
    bar = _by_distance(np.geomspace(_NEAR, _FAR, 100))
    strip[12:24, 44:144] = bar
    _write(strip, f"{_NEAR:g} m", 2, _FAINT)
    _write(strip, f"{_FAR:g} m", 150, _FAINT)
    strip[12:24, 214:238] = GROUND
    left = 244
    for words, color in (
        ("ground; other colours: one object each; unpainted: no label.", _FAINT),
        ("Points and regions must lie on their things; if shifted, check calibration and stamps.", _INK),
    ):
        _write(strip, words, left, color)
        left += 10 + _width(words)
    return strip


def _width(words: str) -> int:
    """In pixels."""
    return int(cv2.getTextSize(words, cv2.FONT_HERSHEY_DUPLEX, 0.5, 1)[0][0])


def _write(paper: Rgb, words: str, left: int, color: tuple[int, int, int]) -> None:
    cv2.putText(paper, words, (left, 22), cv2.FONT_HERSHEY_DUPLEX, 0.5, color, 1, cv2.LINE_AA)
