"""`dseg check`: whether a folder of recorded frames is whole and makes sense. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dseg_core.bag import FRAMES_MARK
from dseg_core.errors import DsegError
from dseg_core.findings_from_account import Account, of_metadata
from dseg_core.findings_from_frame import Finding
from dseg_core.findings_from_part import PartReader, Seen
from dseg_core.progress import Summary, progress
from dseg_core.stage_options import FrameCheckOptions
from dseg_core.words import count

_MAKE = "`dseg record BAG --out FRAMES` makes frames"
_KNOWN = {"metadata.yaml", "record.yaml", "summary.json", "preview.png", ".lock", "labels", "proposal_scores"}

_UNFINISHED = "is an unfinished part"


def check(frames: Path, options: FrameCheckOptions) -> Summary:
    """Read all of a folder of frames and tell everything that is wrong, one line each; those are its `problems`.

    Raises:
        DsegError: There is no such folder, or it is a bag.
    """
    if not frames.is_dir():
        what = "is no folder of frames" if frames.exists() else "does not exist"
        raise DsegError(what, where=frames, fix=_MAKE)
    parts = sorted(frames.glob("*_0.mcap"))
    account = Account(frames)
    readers = [PartReader(part, options, account.pairing) for part in parts]
    if parts and not (frames / FRAMES_MARK).is_file() and not any(reader.is_of_frames for reader in readers):
        raise DsegError("is no folder of frames", where=frames, fix=_MAKE)  # nobody is told to remove a part of a bag
    findings = [*_strays(frames, parts)]
    if not parts and any(f.what == _UNFINISHED for f in findings):  # what else is missing comes when it goes on
        return _summary(frames, findings, {}, options.deep)
    findings += account.findings
    if not parts:
        findings.append(Finding("holds no frames", str(frames), _MAKE))
    steps = None if account.frames is None else account.frames + len(parts)  # the frames, and each part's index
    for found in progress((item for reader in readers for item in reader.findings()), "check", steps, "frame"):
        findings += found
    seen = {reader.drive: reader.seen for reader in readers}
    findings += of_metadata(frames, {reader.part.name: reader.seen for reader in readers})
    findings += account.against(seen)
    findings += _thin(seen, options.least_share)
    return _summary(frames, findings, seen, options.deep)


def _summary(frames: Path, findings: Sequence[Finding], parts: Mapping[str, Seen], deep: bool) -> Summary:
    problems = _lines([f for f in findings if not f.warning])
    notices = _lines([f for f in findings if f.warning])
    number, views = sum(s.frames for s in parts.values()), sum(s.views.total() for s in parts.values())
    how = "every picture decoded" if deep else "pictures not decoded"
    found = f"{count(len(problems), 'problem')}, {count(len(notices), 'warning')}"
    text = (
        f"Checked {count(number, 'frame')} with {count(views, 'view')} of {count(len(parts), 'drive')} in {frames}, "
        f"{how}: {found if problems or notices else 'nothing is wrong'}."
    )
    results = {"frames": number, "views": views, "drives": sorted(parts), "warnings": list(notices)}
    return Summary("\n".join([text, *(f"warning: {line}" for line in notices)]), results, problems)


def _lines(findings: Sequence[Finding]) -> tuple[str, ...]:
    """One line for each thing and place; frames that have the same are counted."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for f in findings:
        stamps = groups.setdefault((f.what, f.where, f.fix), [])
        if f.stamp_ns is not None:
            stamps.append(f.stamp_ns)
    lines = []
    for (what, where, fix), stamps in groups.items():
        if stamps:
            what += f" ({len(stamps)} frames, first {stamps[0]})" if len(stamps) > 1 else f" (frame {stamps[0]})"
        lines.append(str(DsegError(what, where=where, fix=fix)))
    return tuple(lines)


def _strays(folder: Path, parts: Sequence[Path]) -> Iterator[Finding]:
    for path in sorted(folder.iterdir()):
        if path.name in _KNOWN or path in parts:
            continue
        if path.name.endswith((".mcap.tmp", ".mcap.cut")):
            yield Finding(
                _UNFINISHED, str(path), "Run its `dseg record`, or its recorder, again: it keeps the whole frames"
            )
        elif path.suffix in (".mcap", ".db3"):
            yield Finding("is no part of frames, and no command reads it", str(path), "Move it elsewhere")
        else:
            yield Finding("does not belong here", str(path), "Move it elsewhere", warning=True)


def _thin(parts: Mapping[str, Seen], least_percent: float) -> Iterator[Finding]:
    """Cameras that regions hardly cover."""
    for drive, seen in parts.items():
        for camera, shares in seen.covered.items():
            percent = 100 * sum(shares) / len(shares)
            if percent < least_percent:
                what = f"regions cover {percent:.2f} % of the images"
                fix = "The calibration is probably wrong: `dseg inspect BAG` checks it"
                yield Finding(what, f"{drive}/{camera}", fix, warning=True)
