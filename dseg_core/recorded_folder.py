"""What a folder of frames says of itself: the options it was recorded with, and the account of its drives."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dseg_core.bag import FRAMES_MARK
from dseg_core.errors import DsegError
from dseg_core.ledger import account_table
from dseg_core.options import differences, read_yaml
from dseg_core.progress import Summary, claim, write_whole
from dseg_core.stage_options import RecordOptions
from dseg_core.store import read_json, salvage
from dseg_core.words import count

PREVIEW = "preview.png"
_CONTENT = "# content "


def claim_frames(out: Path) -> None:
    """Refuse a folder that is for something else. Raises DsegError."""
    claim(out, "record")
    if not (out / FRAMES_MARK).is_file() and any(out.glob("*.mcap")):
        raise DsegError("holds a bag that `dseg record` did not write", where=out, fix="Give --out another folder")


def existing(out: Path) -> frozenset[Path]:
    """The folder, those it lies in, and what lies in it, as far as they are there."""
    return frozenset(path for path in (out, *out.parents, *out.glob("*")) if path.exists())


@contextmanager
def leaving_no_trace(out: Path, before: frozenset[Path]) -> Iterator[None]:
    """Where the block fails and no frame was recorded, remove what it made, while the folder is held.

    Args:
        out: The folder.
        before: What was `existing` before it was held. A folder with a part of frames, whole or cut off, stays.
    """
    try:
        yield
    except BaseException:
        if not any(out.glob("*_0.mcap*")):
            with suppress(OSError):  # what else lies there is not ours
                for path in {out / FRAMES_MARK, out / ".lock"} - before:
                    path.unlink(missing_ok=True)
                for folder in (folder for folder in (out, *out.parents) if folder not in before):
                    folder.rmdir()
        raise


def check_options(out: Path, options: RecordOptions) -> None:
    """One folder, one set of options: frames of different making do not mix unseen.

    What stands in the files that options name counts as well: a calibration that was edited is another one.

    Raises:
        DsegError: The folder has frames that were made with others, or a file cannot be read.
    """
    path, files = out / FRAMES_MARK, _digests(options)
    text = options.of_frames().to_yaml() + "".join(f"{_CONTENT}{digest} {name}\n" for name, digest in files.items())
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    if before == text:
        return
    if before and _holds_frames(out):
        fix = "Give --out another folder"
        # Through the class, so that an option that was not known then has its default.
        told = differences(options.of_frames(), RecordOptions.from_mapping(read_yaml(path), where=path))
        if told:
            raise DsegError(f"was recorded with other options: {told}", where=out, fix=fix)
        known = {line.removeprefix(_CONTENT) for line in before.splitlines() if line.startswith(_CONTENT)}
        edited = [name for name, digest in files.items() if f"{digest} {name}" not in known]
        if known and edited:
            raise DsegError(f"was recorded with another content of {', '.join(edited)}", where=out, fix=fix)
    write_whole(path, text.encode())


def _holds_frames(out: Path) -> bool:
    """Whether there is any frame: what a run that ended before its first one left says nothing about any."""
    for part in out.glob("*_0.mcap*"):
        drive, _, rest = part.name.rpartition("_0.mcap")
        if not rest or next(salvage(part, drive), None) is not None:  # cut off: its frames would be taken over
            return True
    return False


def _digests(options: RecordOptions) -> dict[str, str]:
    """What the files hold that options name, by their path."""
    named = [options.topics.calibration, options.topics.velodyne_calibration]
    named += [Path(entry.partition(":")[2]) for entry in options.ego.masks]
    found = {}
    for path in named:
        if path is not None and path.is_file():  # what is missing is told where it is needed
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return found


def recorded_drives(out: Path) -> dict[str, Any]:
    """The accounts of the drives that are there. Raises DsegError."""
    path = out / "summary.json"
    if not path.is_file():
        return {}
    drives = (read_json(path).get("results") or {}).get("drives")
    if not isinstance(drives, dict) or not all(isinstance(row, dict) for row in drives.values()):
        raise DsegError("is no account of a recording", where=path, fix="Remove it, and its drives are recorded anew")
    return drives


def summary_of(
    out: Path,
    drives: Mapping[str, Any],
    kept: Sequence[str] = (),
    failed: Mapping[str, str] | None = None,
    preview: bool = True,
) -> Summary:
    """A table of the sensors, a line for each bag where there are several, and the numbers of all drives.

    Args:
        out: The folder.
        drives: Their accounts, by name.
        kept: Those of an earlier run.
        failed: Why drives have no account.
        preview: Whether there is a picture to look at.
    """
    failed = failed or {}
    frames, views = (sum(row[name] for row in drives.values()) for name in ("frames", "views"))
    sensors: dict[str, dict[str, Any]] = {}
    for row in drives.values():
        for name, counts in row["sensors"].items():
            total = sensors.setdefault(name, {"messages": 0, "paired": 0, "surplus": 0, "dropped": {}})
            for kind in ("messages", "paired", "surplus"):
                total[kind] += counts[kind]
            for reason, number in counts["dropped"].items():
                total["dropped"][reason] = total["dropped"].get(reason, 0) + number
    lines = [
        f"Recorded {count(frames, 'frame')} with {count(views, 'view')} from {count(len(drives), 'drive')} into {out}.",
        *account_table(sensors),
        *([f"Look at {out / PREVIEW}: regions belong on the things they cover."] if preview else []),
    ]
    unmoved: Counter[str] = Counter()
    for row in drives.values():
        unmoved.update(row["motion"]["not_compensated"])
    lines += [f"{count(number, 'view')} without the vehicle's motion: {why}." for why, number in unmoved.items()]
    lines += [f"{drive}: {note}." for drive, row in drives.items() for note in row["notes"]]
    if kept:
        lines.append(f"{count(len(kept), 'drive')} recorded before and kept.")
    text = "\n".join([*lines, *_table(drives, kept, failed)])
    results = {"frames": frames, "views": views, "sensors": sensors, "drives": dict(drives), "failed": dict(failed)}
    return Summary(text, results, tuple(failed.values()))


def _table(drives: Mapping[str, Any], kept: Sequence[str], failed: Mapping[str, str]) -> list[str]:
    """Each bag's fate, a line each; nothing for a single one."""
    if len(drives) + len(failed) < 2:
        return []
    width = max(len(name) for name in (*drives, *failed))
    lines = [
        f"{name:{width}}  {count(row['frames'], 'frame'):>13}  "
        + ("kept" if name in kept else f"{row['seconds']:.1f} s")
        for name, row in drives.items()
    ]
    return lines + [f"{name:{width}}         failed" for name in failed]  # why is a problem of the summary
