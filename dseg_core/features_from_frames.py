"""Measure every region of every view: image, shape and colour features.

`features_from_frame` is the pure function; `features_from_frames` runs a folder of frames and keeps what it measured.
An object seen by several cameras is several items, one a region.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dseg_core.descriptors import COLOR_COLUMNS, SHAPE_COLUMNS, color_descriptors, shape_descriptors
from dseg_core.errors import DsegError
from dseg_core.image_codecs import decode
from dseg_core.progress import progress, write_whole
from dseg_core.records import REGION_FIRST_OBJECT, Frame, ViewKey
from dseg_core.stage_options import FeatureOptions
from dseg_core.store import FrameStore

if TYPE_CHECKING:
    from dseg_core.region_backbone import RegionBackbone

_PART = 200  # frames a part: what a kill can cost


@dataclass(frozen=True, eq=False)
class RegionFeatures:
    """The measured regions, one a row.

    `keys`: the views that have regions; `view`: int64 (N,) index into them; `region`: int64 (N,) id in the view's
    regions; `pixels`: int64 (N,); `boxes`: int64 (N, 4), x0 y0 x1 y1 in pixels, ends exclusive; `height`: float32 (N,),
    metres over ground of the top, NaN without the shape block; `blocks`: name -> float32 (N, C), not standardised.
    """

    keys: tuple[ViewKey, ...]
    view: NDArray[np.int64]
    region: NDArray[np.int64]
    pixels: NDArray[np.int64]
    boxes: NDArray[np.int64]
    height: NDArray[np.float32]
    blocks: dict[str, NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.view)


def features_from_frame(frame: Frame, options: FeatureOptions, backbone: RegionBackbone | None) -> RegionFeatures:
    """Measure the object regions of at least `min_pixels` in every view of a frame.

    Raises:
        DsegError: An image is broken, or its size is not its regions', or a region's proposal has no point.
    """
    found = [_regions_of(view.regions, options.min_pixels) for view in frame.views]
    wanted = np.unique(np.concatenate([ids for ids, _, _ in found] or [np.zeros(0, np.int64)]))
    missing = np.setdiff1d(wanted, frame.proposals)
    if len(missing):
        raise DsegError(
            f"region {missing[0]} has no points", where=f"{frame.drive}/{frame.stamp_ns}", fix="Record the drive again"
        )
    shape = shape_descriptors(frame.sweep.xyz, frame.proposals, wanted) if "shape" in options.blocks else None
    columns: dict[str, list[NDArray[np.float32]]] = {block: [] for block in sorted(set(options.blocks))}
    for view, (ids, _, boxes) in zip(frame.views, found, strict=True):
        if shape is not None:
            columns["shape"].append(shape[np.searchsorted(wanted, ids)])
        if not {"color", "image"} & columns.keys():
            continue
        rgb = decode(view.image)
        if rgb.shape[:2] != view.regions.shape:
            where = f"{frame.drive}/{frame.stamp_ns}/{view.camera}"
            raise DsegError(f"image is {rgb.shape[:2]}, regions are {view.regions.shape} (rows, columns)", where=where)
        if "color" in columns:
            columns["color"].append(color_descriptors(rgb, view.regions, ids))
        if backbone is not None:
            columns["image"].append(backbone(rgb, view.regions, ids, boxes))
    counts = [len(ids) for ids, _, _ in found]
    total = sum(counts)
    blocks = {name: np.concatenate(rows) for name, rows in columns.items()} if found else {}
    tops = blocks["shape"][:, SHAPE_COLUMNS.index("top")] if "shape" in blocks else np.full(total, np.nan, np.float32)
    return RegionFeatures(
        keys=tuple(ViewKey(frame.drive, frame.stamp_ns, view.camera) for view in frame.views),
        view=np.repeat(np.arange(len(counts)), counts),
        region=np.concatenate([ids for ids, _, _ in found] or [np.zeros(0, np.int64)]),
        pixels=np.concatenate([pixels for _, pixels, _ in found] or [np.zeros(0, np.int64)]),
        boxes=np.concatenate([boxes for _, _, boxes in found] or [np.zeros((0, 4), np.int64)]),
        height=(np.sign(tops) * np.expm1(np.abs(tops))).astype(np.float32),
        blocks=blocks,
    )


def features_from_frames(store: FrameStore, folder: Path, options: FeatureOptions) -> tuple[RegionFeatures, bool]:
    """Measure a folder of frames, or read what was measured before with the same options.

    Args:
        store: The frames.
        folder: Where `features.npz` and, meanwhile, its parts are.
        options: What to measure.

    Returns:
        The features, and whether they were there already.
    """
    signature = _signature(store, options)
    whole = folder / "features.npz"
    kept = _read(whole, signature)
    if kept is not None:
        return kept, True
    backbone = None
    if "image" in options.blocks:
        from dseg_core.region_backbone import load_backbone  # torch and timm are needed only here

        backbone = load_backbone(options)
    parts = [folder / "features.parts" / f"{i:06d}.npz" for i in range(0, len(store), _PART)]
    keys = iter(progress(store.frame_keys, "features", total=len(store), unit="frame"))
    measured = []
    for part in parts:
        features = _read(part, signature)
        chunk = islice(keys, _PART)
        if features is None:
            features = _join(list(_in_threads((store.frame(*key) for key in chunk), options, backbone)))
            write_whole(part, _packed(features, signature))
        else:
            deque(chunk, maxlen=0)  # moves the bar on
        measured.append(features)
    next(keys, None)  # ends the bar
    features = _join(measured)
    write_whole(whole, _packed(features, signature))
    for part in parts:
        part.unlink()
    (folder / "features.parts").rmdir()
    return features, False


def _regions_of(
    regions: NDArray[np.uint16], min_pixels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Ids (M,), pixel counts (M,) and boxes (M, 4) of the object regions that are large enough."""
    counts = np.bincount(regions.ravel())
    counts[:REGION_FIRST_OBJECT] = 0
    ids = np.flatnonzero(counts >= min_pixels).astype(np.int64)
    slices = ndimage.find_objects(regions.astype(np.int32))
    boxes = [(s[1].start, s[0].start, s[1].stop, s[0].stop) for s in (slices[i - 1] for i in ids)]
    return ids, counts[ids].astype(np.int64), np.array(boxes, dtype=np.int64).reshape(-1, 4)


def _in_threads(
    frames: Iterator[Frame], options: FeatureOptions, backbone: RegionBackbone | None
) -> Iterator[RegionFeatures]:
    """Measure frames in order, on all cores but a few frames ahead only (frames are large)."""
    workers = os.cpu_count() or 1 if backbone is None else 1  # torch has threads of its own
    with ThreadPoolExecutor(workers) as pool:
        while batch := list(islice(frames, 2 * workers)):
            yield from pool.map(lambda frame: features_from_frame(frame, options, backbone), batch)


def _join(parts: list[RegionFeatures]) -> RegionFeatures:
    starts = np.cumsum([0] + [len(part.keys) for part in parts])
    names = sorted({name for part in parts for name in part.blocks})
    return RegionFeatures(
        keys=tuple(key for part in parts for key in part.keys),
        view=np.concatenate([part.view + start for part, start in zip(parts, starts, strict=False)]),
        region=np.concatenate([part.region for part in parts]),
        pixels=np.concatenate([part.pixels for part in parts]),
        boxes=np.concatenate([part.boxes for part in parts]),
        height=np.concatenate([part.height for part in parts]),
        blocks={name: np.concatenate([p.blocks[name] for p in parts if p.blocks]) for name in names},
    )


def _signature(store: FrameStore, options: FeatureOptions) -> str:
    """Changes with the frames and with the options that the features depend on."""
    used = options.to_dict()
    for name in ("batch", "device"):
        del used[name]
    if "image" not in options.blocks:
        used = {name: used[name] for name in ("blocks", "min_pixels")}
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(store.folder.glob("*_0.mcap"))]
    content = json.dumps([used, files, SHAPE_COLUMNS, COLOR_COLUMNS], default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def _packed(features: RegionFeatures, signature: str) -> bytes:
    keys = np.array([(k.drive, str(k.stamp_ns), k.camera) for k in features.keys], dtype=np.str_).reshape(-1, 3)
    arrays: dict[str, Any] = {name: getattr(features, name) for name in ("view", "region", "pixels", "boxes", "height")}
    arrays |= {f"block_{name}": values for name, values in features.blocks.items()}
    file = BytesIO()
    np.savez(file, signature=np.array(signature), keys=keys, **arrays)
    return file.getvalue()


def _read(path: Path, signature: str) -> RegionFeatures | None:
    """Features that were kept, when they are of these frames and options."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as kept:
        if str(kept["signature"]) != signature:
            return None
        return RegionFeatures(
            keys=tuple(ViewKey(drive, int(stamp), camera) for drive, stamp, camera in kept["keys"].tolist()),
            **{name: kept[name] for name in ("view", "region", "pixels", "boxes", "height")},
            blocks={name.removeprefix("block_"): kept[name] for name in kept.files if name.startswith("block_")},
        )
