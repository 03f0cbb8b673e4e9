"""Contact sheets: what a person looks at to name a cluster.

One sheet a cluster, and an overview of all. Samples are half typical ones, half any, from drives and times far apart:
neighbouring frames show the same thing again.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dseg_core.class_table import ClassTable
from dseg_core.features_from_frames import RegionFeatures
from dseg_core.image_codecs import decode
from dseg_core.progress import progress, write_whole
from dseg_core.store import FrameStore
from dseg_core.words import count

_TILE, _GAP, _MARGIN = 168, 6, 18
_OVERVIEW_TILE, _OVERVIEW_SAMPLES, _OVERVIEW_TEXT = 124, 6, 160
_CONTEXT, _AROUND = 1.8, 0.25  # side of a crop: times the region's longest side, or plus a share of the image's
_DARK = 0.42  # median of a crop, 0..1, below which it is brightened
_INK, _FAINT, _PAPER = (28, 30, 34), (110, 114, 122), (250, 250, 248)


@dataclass(frozen=True, eq=False)
class _Sheet:
    """A cluster with its samples' rows in the features."""

    id: int
    rows: NDArray[np.int64]
    regions: int
    share: float
    height: float
    pixels: float

    def facts(self) -> list[str]:
        """Hints for naming, a line each."""
        lines = [f"{count(self.regions, 'region')}, {100 * self.share:.1f} % of pixels"]
        if self.regions:
            tall = "" if np.isnan(self.height) else f"top at {self.height:.1f} m, "
            lines.append(f"{tall}{self.pixels:.0f} px (medians)")
        return lines


def write_sheets(
    store: FrameStore,
    folder: Path,
    classes: ClassTable,
    features: RegionFeatures,
    cluster: NDArray[np.int64],
    distance: NDArray[np.float32],
    samples: int,
) -> None:
    """Write `contact_sheet.png` (all clusters) and `contact_sheets/cluster_XX.png` under `folder`.

    Args:
        store: The frames.
        folder: The labels folder.
        classes: Names and colours; cluster i is class i + 1.
        features: The regions.
        cluster: int64 (N,), from 0.
        distance: float32 (N,), to the centroid.
        samples: Crops on a cluster's sheet.
    """
    sheets = [_sheet(i, features, cluster, distance, samples) for i in range(len(classes) - 1)]
    tiles = _tiles(store, features, np.unique(np.concatenate([s.rows for s in sheets])), classes, cluster)
    for sheet in sheets:
        _save(_draw_sheet(sheet, classes, tiles), folder / "contact_sheets" / f"cluster_{sheet.id:02d}.png")
    _save(_draw_overview(sheets, classes, tiles), folder / "contact_sheet.png")


def choose(
    stamp_ns: NDArray[np.int64],
    drive: NDArray[np.int64],
    distance: NDArray[np.float32],
    samples: int,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """Rows to show: by turns a typical one and any one, each from the drive and time farthest from those before.

    Args:
        stamp_ns: int64 (N,), the frame each region is from.
        drive: int64 (N,), its drive.
        distance: float32 (N,), to the centroid; the nearest third is typical.
        samples: How many.
        generator: Decides between regions that are equally far.

    Returns:
        int64 (samples,), or (N,) when there are fewer.
    """
    wanted = min(samples, len(distance))
    near = np.argsort(distance, kind="stable")[: max(wanted, -(-len(distance) // 3))]
    pools = (near, generator.permutation(len(distance)))
    # Seconds to the nearest row chosen so far; another drive is farther than any time. A chosen row is never again.
    apart = np.full(len(distance), np.inf)
    chosen: list[int] = []
    while len(chosen) < wanted:
        pool = pools[len(chosen) % 2]
        row = int(pool[apart[pool].argmax()])
        if apart[row] < 0:
            row = int(apart.argmax())
        chosen.append(row)
        gap = np.where(drive == drive[row], np.abs(stamp_ns - stamp_ns[row]) / 1e9, np.inf)
        apart = np.minimum(apart, gap)
        apart[chosen] = -1
    return np.array(chosen, dtype=np.int64)


def _sheet(
    index: int, features: RegionFeatures, cluster: NDArray[np.int64], distance: NDArray[np.float32], samples: int
) -> _Sheet:
    rows = np.flatnonzero(cluster == index)
    names = np.array([key.drive for key in features.keys], dtype=np.str_)
    stamps = np.array([key.stamp_ns for key in features.keys], dtype=np.int64)
    drive = np.unique(names, return_inverse=True)[1].reshape(-1).astype(np.int64)
    view = features.view[rows]
    chosen = rows[choose(stamps[view], drive[view], distance[rows], samples, np.random.default_rng(index))]
    share = features.pixels[rows].sum() / max(features.pixels.sum(), 1)
    height = float(np.median(features.height[rows])) if len(rows) else float("nan")
    pixels = float(np.median(features.pixels[rows])) if len(rows) else 0.0
    return _Sheet(index + 1, chosen, len(rows), float(share), height, pixels)


def _tiles(
    store: FrameStore,
    features: RegionFeatures,
    rows: NDArray[np.int64],
    classes: ClassTable,
    cluster: NDArray[np.int64],
) -> dict[int, Image.Image]:
    """The crops of rows; each view is decoded once."""
    tiles: dict[int, Image.Image] = {}
    order = rows[np.argsort(features.view[rows], kind="stable")]
    views, starts = np.unique(features.view[order], return_index=True)
    parts = np.split(order, starts[1:])
    for index, part in progress(list(zip(views, parts, strict=True)), "contact sheets", total=len(views), unit="view"):
        view = store.view(features.keys[index])
        rgb = decode(view.image)
        for row in part:
            color = classes.entries[int(cluster[row]) + 1].color
            tiles[int(row)] = _tile(rgb, view.regions == features.region[row], features.boxes[row], color)
    return tiles


def _tile(
    rgb: NDArray[np.uint8], mask: NDArray[np.bool_], box: NDArray[np.int64], color: tuple[int, int, int]
) -> Image.Image:
    """A square crop with what is around; dark ones are brightened, the region is outlined, the rest a little dimmed."""
    height, width = mask.shape
    x0, y0, x1, y1 = (int(v) for v in box)
    longest = max(x1 - x0, y1 - y0)
    # A small thing is only known by where it stands, a large one would become small itself.
    side = min(max(_CONTEXT * longest, longest + _AROUND * min(height, width)), max(longest, min(height, width)))
    side = int(min(side, max(height, width)))
    left = int(np.clip((x0 + x1 - side) // 2, 0, max(width - side, 0)))
    top = int(np.clip((y0 + y1 - side) // 2, 0, max(height - side, 0)))
    crop = _brightened(rgb[top : top + side, left : left + side])
    inside = mask[top : top + side, left : left + side]
    scale = _TILE / max(crop.shape[:2])
    size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
    crop = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    smooth = cv2.resize(inside.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    shown = (smooth >= 0.5).astype(np.uint8)
    dimmed = np.where(shown[..., None] > 0, crop, (0.75 * crop).astype(np.uint8))
    outlines, _ = cv2.findContours(shown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    picture = np.ascontiguousarray(dimmed, dtype=np.uint8)
    cv2.drawContours(picture, outlines, -1, (255, 255, 255), 3, cv2.LINE_AA)
    cv2.drawContours(picture, outlines, -1, color, 1, cv2.LINE_AA)
    tile = Image.new("RGB", (_TILE, _TILE), (228, 228, 224))
    tile.paste(Image.fromarray(picture), ((_TILE - size[0]) // 2, (_TILE - size[1]) // 2))
    return tile


def _brightened(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The crop as it is, or, where half of it is darker than `_DARK`, with its dark parts lifted (a gamma)."""
    middle = float(np.median(crop)) / 255
    if middle >= _DARK:
        return crop
    gamma = max(np.log(_DARK) / np.log(max(middle, 1e-3)), 0.4)
    table = np.round(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return np.asarray(table[crop])


def _draw_sheet(sheet: _Sheet, classes: ClassTable, tiles: dict[int, Image.Image]) -> Image.Image:
    columns, head = 8, 64
    lines = max(1, -(-len(sheet.rows) // columns))
    size = (2 * _MARGIN + columns * (_TILE + _GAP) - _GAP, head + _MARGIN + lines * (_TILE + _GAP))
    page = Image.new("RGB", size, _PAPER)
    _heading(page, (_MARGIN, _MARGIN - 4), sheet, classes, "   ".join(sheet.facts()))
    for place, row in enumerate(sheet.rows):
        y, x = divmod(place, columns)
        page.paste(tiles[int(row)], (_MARGIN + x * (_TILE + _GAP), head + y * (_TILE + _GAP)))
    return page


def _draw_overview(sheets: list[_Sheet], classes: ClassTable, tiles: dict[int, Image.Image]) -> Image.Image:
    """Two columns of clusters, each a row: name and facts, then crops."""
    step = _OVERVIEW_TILE + _GAP
    block = _OVERVIEW_TEXT + _OVERVIEW_SAMPLES * step
    lines = -(-len(sheets) // 2)
    page = Image.new("RGB", (3 * _MARGIN + 2 * block, 2 * _MARGIN + lines * (step + 4)), _PAPER)
    small = _font(12)
    for place, sheet in enumerate(sheets):
        column, line = divmod(place, lines)
        x, y = _MARGIN + column * (block + _MARGIN), _MARGIN + line * (step + 4)
        _heading(page, (x, y), sheet, classes, "")
        draw = ImageDraw.Draw(page)
        facts = [fact for text in sheet.facts() for fact in text.split(", ")]
        for i, fact in enumerate(facts):
            draw.text((x, y + 27 + 16 * i), fact, fill=_FAINT, font=small)
        for i, row in enumerate(sheet.rows[:_OVERVIEW_SAMPLES]):
            tile = tiles[int(row)].resize((_OVERVIEW_TILE, _OVERVIEW_TILE), Image.Resampling.LANCZOS)
            page.paste(tile, (x + _OVERVIEW_TEXT + i * step, y))
    return page


def _heading(page: Image.Image, place: tuple[int, int], sheet: _Sheet, classes: ClassTable, facts: str) -> None:
    """A colour swatch, the id and the name; facts after them."""
    draw = ImageDraw.Draw(page)
    entry = classes.entries[sheet.id]
    x, y = place
    draw.rectangle((x, y + 3, x + 14, y + 17), fill=entry.color)
    title = entry.name if entry.name == f"cluster_{sheet.id:02d}" else f"{sheet.id:02d} {entry.name}"
    draw.text((x + 22, y), title, fill=_INK, font=_font(16, bold=True))
    if facts:
        draw.text((x + 22, y + 22), facts, fill=_FAINT, font=_font(13))


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Matplotlib's own font: the same sheets everywhere."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def _save(page: Image.Image, path: Path) -> None:
    file = BytesIO()
    page.save(file, format="PNG", compress_level=2)  # a quarter of the time, a tenth larger
    write_whole(path, file.getvalue())
