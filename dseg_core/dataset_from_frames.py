"""`dseg export-frames`: recorded frames and their pseudo-labels as a data set for other people's trainers."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dseg_core.class_table import ClassTable
from dseg_core.dataset_formats import CityscapesWriter, Sample, WebdatasetWriter, Writer
from dseg_core.errors import DsegError
from dseg_core.folder_lock import locked
from dseg_core.label_store import LabelStore
from dseg_core.progress import Summary, check_writable, progress, sync_folder
from dseg_core.records import UNLABELLED, Frame, ViewKey
from dseg_core.stage_options import ExportFramesOptions
from dseg_core.store import FrameStore, read_json
from dseg_core.words import count

_COMMAND = "export-frames"
_NAMED = 5  # drives for validation, and changed names, that the summary names; summary.json has all
_INDEX_BYTES = 1 << 16  # of a part's end, which has the checksums of its last chunks


def export_frames(frames: Path, out: Path, options: ExportFramesOptions) -> Summary:
    """Write all views as a data set into `out`, which appears when it is whole.

    It is made beside `out` under a temporary name; what an interrupted run left there is made anew.

    Raises:
        DsegError: No frames, no such labels, or `out` holds something else.
    """
    store = FrameStore(frames)
    labels = LabelStore(frames, options.labels) if options.labels is not None else None
    classes = labels.classes if labels is not None else None
    masks = set(labels.keys()) if labels is not None else set()
    keys = [key for key in store.view_keys if labels is None or key in masks]
    if not keys:
        raise DsegError("no view has a pseudo-label", where=frames, fix="Run `dseg label` again")
    job = _identity(frames, labels)
    out = out.resolve()
    if frames.resolve() in (out, *out.parents):
        raise DsegError("lies in the frames", where=out, fix="Give an --out beside them")
    done = _finished(out, job, options)
    if done is not None:
        return done
    check_writable(out.parent)
    temporary = out.with_name(f".{out.name}.unfinished")
    with locked(temporary):
        for path in temporary.iterdir():  # of a run that was interrupted
            if path.name != ".lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        results = _write(store, labels, classes, keys, temporary, options)
        results |= {"left_out": len(store.view_keys) - len(keys), "job": job}
        summary = Summary(_told(results, out, options), results).write(temporary, _COMMAND, options)
        os.sync()  # one wait for all files, before their folder has its name
        (temporary / ".lock").unlink()
        temporary.rename(out)
    sync_folder(out.parent)
    return summary


def _write(
    store: FrameStore,
    labels: LabelStore | None,
    classes: ClassTable | None,
    keys: Sequence[ViewKey],
    out: Path,
    options: ExportFramesOptions,
) -> dict[str, Any]:
    drives = _safe_names(sorted({key.drive for key in keys}))
    cameras = _safe_names(sorted({key.camera for key in keys}))
    val = val_drives(list(drives), options.val_share)
    lookup = np.full(256, UNLABELLED, dtype=np.uint8)
    if classes is not None:
        lookup[: len(classes)] = classes.name_ids()
        content = {"classes": classes.merged().to_list(), "unlabelled": UNLABELLED}
        (out / "classes.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    writer: Writer = (
        CityscapesWriter(out)
        if options.format == "cityscapes"
        else WebdatasetWriter(out, options.shard_size * 1_000_000)
    )
    counts: Counter[str] = Counter()
    distorted: set[str] = set()
    try:
        for key, frame in progress(_frames(store, keys, options), "export", len(keys), "view"):
            view = next(v for v in frame.views if v.camera == key.camera) if frame is not None else store.view(key)
            split = "val" if key.drive in val else "train"
            mask = lookup[labels.mask(key)] if labels is not None else None
            if mask is not None and mask.shape != view.regions.shape:
                raise DsegError("the mask has not the image's size", where=str(key), fix="Run `dseg label` again")
            writer.write(
                Sample(split, drives[key.drive], cameras[key.camera], key.stamp_ns, key.drive, view, mask, frame)
            )
            counts[split] += 1
            if view.calibration.distorted:
                distorted.add(key.camera)
    finally:
        writer.close()
    return {
        "views": dict(counts),
        "train_drives": sorted(drives.keys() - val),
        "val_drives": sorted(val),
        "renamed_drives": {old: new for old, new in drives.items() if old != new},
        "renamed_cameras": {old: new for old, new in cameras.items() if old != new},
        "distorted_cameras": sorted(distorted),
    }


def _frames(
    store: FrameStore, keys: Sequence[ViewKey], options: ExportFramesOptions
) -> Iterator[tuple[ViewKey, Frame | None]]:
    """Each view with its frame where points are asked for, which is then read once for all its cameras."""
    frame: Frame | None = None
    for key in keys:
        asked = options.points and options.format == "webdataset"
        if asked and (frame is None or (frame.drive, frame.stamp_ns) != (key.drive, key.stamp_ns)):
            frame = store.frame(key.drive, key.stamp_ns)
        yield key, frame


def val_drives(drives: Sequence[str], share: float) -> set[str]:
    """The drives for validation: whole ones, the same in every run, chosen by a hash of the name.

    At least one stays on either side, unless the share is 0 or 1; of one drive alone all is for training below 1.
    """
    wanted = round(share * len(drives))
    if 0 < share < 1:
        wanted = min(max(wanted, 1), len(drives) - 1)
    return set(sorted(drives, key=lambda drive: (hashlib.sha256(drive.encode()).digest(), drive))[:wanted])


def _safe_names(names: Sequence[str]) -> dict[str, str]:
    """Each name without what layouts split names at (`_` and `.`), nor anything else but letters, digits and `-`."""
    made: dict[str, str] = {}
    for name in names:
        base = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "unnamed"
        safe, number = base, 1
        while safe in made.values():
            number += 1
            safe = f"{base}-{number}"
        made[name] = safe
    return made


def _identity(frames: Path, labels: LabelStore | None) -> dict[str, str]:
    """What the data set is made of: changes when frames or labels do."""
    total = hashlib.sha256()
    for part in sorted(frames.glob("*_0.mcap")):
        size = part.stat().st_size
        with part.open("rb") as file:
            file.seek(max(0, size - _INDEX_BYTES))
            total.update(f"{part.name} {size}".encode() + file.read())
    marked = hashlib.sha256()
    if labels is not None:
        marked.update((labels.path / "classes.yaml").read_bytes())
        for path in sorted(labels.path.glob("masks/*/*/*.png")):
            status = path.stat()
            marked.update(f"{path.relative_to(labels.path)} {status.st_size} {status.st_mtime_ns}".encode())
    return {"frames": total.hexdigest(), "labels": marked.hexdigest()}


def _finished(out: Path, job: dict[str, str], options: ExportFramesOptions) -> Summary | None:
    """The summary of the same run done before. Raises DsegError where `out` holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    content = read_json(out / "summary.json") if (out / "summary.json").is_file() else {}
    if content.get("command") != _COMMAND:
        raise DsegError("holds something else", where=out, fix="Give another --out")
    results = content.get("results")
    same = isinstance(results, dict) and results.get("job") == job and content.get("options") == options.to_dict()
    if not isinstance(results, dict) or not same:
        raise DsegError(
            "holds a data set of other frames, labels or options", where=out, fix="Remove it, or give another --out"
        )
    return Summary(f"{out} was made before of the same frames with the same options.", results)


def _told(results: dict[str, Any], out: Path, options: ExportFramesOptions) -> str:
    views, train, val = results["views"], results["train_drives"], results["val_drives"]
    text = (
        f"Wrote {out} in the layout of {options.format}: {count(views.get('train', 0), 'view')} of "
        f"{count(len(train), 'drive')} to train, {count(views.get('val', 0), 'view')} of {count(len(val), 'drive')} to "
        f"validate{': ' + ', '.join(val) if 0 < len(val) <= _NAMED else ''}."
    )
    if not val and options.val_share > 0:
        text += " One drive cannot be split: val is empty."
    text += f" Pseudo-labels: {options.labels}." if options.labels else " No labels, as asked for."
    if results["left_out"]:
        text += f" {count(results['left_out'], 'view')} without pseudo-labels left out."
    renamed = [*results["renamed_drives"].items(), *results["renamed_cameras"].items()]
    if renamed:
        told = ", ".join(f"{old} to {new}" for old, new in renamed[:_NAMED])
        rest = f" and {len(renamed) - _NAMED} more, which summary.json has" if len(renamed) > _NAMED else ""
        text += f" {count(len(renamed), 'name')} changed: {told}{rest}."
    if results["distorted_cameras"]:
        text += f" Images are distorted, as recorded: {', '.join(results['distorted_cameras'])}."
    return text
