"""A folder of masks: whose they are, and whether another run may go on in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.images_from_source import Source
from dseg_core.progress import Summary, write_whole
from dseg_core.stage_options import SegmentOptions
from dseg_core.store import read_json

_JOB = "job.json"


def job_of(model: Path, source: Source) -> dict[str, Any]:
    """What decides the masks, to tell one run from another."""
    parts = (
        [model] if model.is_file() else [model / name for name in ("student.safetensors", "run.json", "classes.yaml")]
    )
    total = hashlib.sha256()
    for part in parts:
        total.update(part.read_bytes() if part.is_file() else b"")
    return {"model": total.hexdigest(), "source": source.identity()}


def finished(out: Path, job: dict[str, Any], options: SegmentOptions) -> Summary | None:
    """The summary of the same run done before, if what it made is still there."""
    file = out / "summary.json"
    if not file.is_file():
        return None
    content = read_json(file)
    results = content.get("results", {})
    same = results.get("job") == job and content.get("options") == options.to_dict()
    if not same or not all(Path(path).exists() for path in results.get("made", ())):
        return None
    missing = sum(results["images"].values()) - len(list(_masks(out)))
    return None if missing else Summary(f"{out} was made before by the same model of the same source.", results)


def _masks(out: Path) -> Iterator[Path]:
    return (out / "masks").glob("*/*.png")


def claim_masks(out: Path, job: dict[str, Any], classes: ClassTable, kind: str) -> None:
    """Make `out` this run's. Raises DsegError where it holds masks of another model or source."""
    before = read_json(out / _JOB) if (out / _JOB).is_file() else None
    if before is None:
        taken = [name for name in ("masks", "masks_bag", "classes.yaml", "summary.json") if (out / name).exists()]
        if taken:
            raise DsegError(f"holds {taken[0]} of something else", where=out, fix="Give another --out")
    elif before != job and not _fits(before, job, {path.stem for path in _masks(out)}, kind):
        same_model = before.get("model") == job["model"]
        other = _other_source(before.get("source", []), job["source"]) if same_model else "model"
        raise DsegError(f"holds masks of another {other}", where=out, fix="Remove it, or give another --out")
    else:
        # Video and bag follow this run's options; those of the run before must not stay beside its summary.
        made = _made_before(out)
        (out / "summary.json").unlink(missing_ok=True)
        for stale in out.glob("overlay*.mp4"):
            if stale.name in made:  # else it is the user's own
                stale.unlink()
        _remove_bag(out / "masks_bag")
    write_whole(out / _JOB, (json.dumps(job, indent=2) + "\n").encode())
    classes.write(out / "classes.yaml")


def _made_before(out: Path) -> set[str]:
    """The names of what the run before wrote, by its summary."""
    if not (out / "summary.json").is_file():
        return set()
    made = (read_json(out / "summary.json").get("results") or {}).get("made") or []
    return {Path(str(path)).name for path in made}


def _fits(before: dict[str, Any], job: dict[str, Any], masks: set[str], kind: str) -> bool:
    """Whether the masks that are there are this job's too: there are none, or the images they are of are the same."""
    if not masks:
        return True
    kept = {Path(_name(part)).stem for part in {*before.get("source", [])} & {*job["source"]}}
    return kind == "folder" and before.get("model") == job["model"] and masks <= kept


def _other_source(before: list[str], now: list[str]) -> str:
    """What tells two sources apart, by the first thing that only one of them has."""
    gone, new = ([_name(part) for part in one if part not in two] for one, two in ((before, now), (now, before)))
    changed = [name for name in gone if name in new]
    if changed:
        return f"source, where {changed[0]} was different"
    return f"source, which has {gone[0] if gone else f'no {new[0]}'}"


def _name(part: str) -> str:
    """The file of a part of a source's identity, which ends with its size and time."""
    return part.rsplit(" ", 2)[0]


def _remove_bag(bag: Path) -> None:
    """Remove a bag that a run before made; nothing else that may lie there."""
    if (bag / "metadata.yaml").is_file():
        for file in (*bag.glob("*.mcap"), bag / "metadata.yaml"):
            file.unlink()
        bag.rmdir()
