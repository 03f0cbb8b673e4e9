"""`dseg score-proposals`: recorded frames' proposals and regions against the truth of the bags they come from."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dseg_core.errors import DsegError
from dseg_core.evaluation.box_scores import score_boxes
from dseg_core.evaluation.overlaps import FOUND, MISSED
from dseg_core.evaluation.proposal_scores import ObjectScore, ProposalScores, score_pixels, score_points
from dseg_core.evaluation.proposal_tally import ProposalTally
from dseg_core.evaluation.proposal_truth import Roles, Truth
from dseg_core.evaluation.sweep_truth import SweepTruth, sweep_truth
from dseg_core.evaluation.tables import aligned
from dseg_core.evaluation.truth import truth_bags
from dseg_core.progress import Summary, check_writable, progress, write_whole
from dseg_core.records import Frame
from dseg_core.stage_options import ScoreProposalsOptions
from dseg_core.store import FrameStore
from dseg_core.words import count

FOLDER = "proposal_scores"


@dataclass(frozen=True)
class Case:
    """An object that was not found, and where to look at it."""

    drive: str
    stamp_ns: int
    score: ObjectScore


class _Board:
    """All that is scored: points, pixels, boxes, and the worst cases."""

    def __init__(self, options: ScoreProposalsOptions) -> None:
        self.points, self.pixels, self.boxes = ProposalTally(), ProposalTally(), ProposalTally()
        self.left_out: dict[str, int] = {}
        self._classes: set[str] = set()
        self._options, self._worst = options, list[tuple[int, int, Case]]()
        self._roles = Roles(options.ground_classes, options.background_classes, ("noise",), options.vehicle_classes)

    def add(self, frame: Frame, truth: SweepTruth) -> None:
        """Score one frame."""
        sweep, options = frame.sweep, self._options
        if truth.boxes:
            boxes = truth.boxes_at(frame.stamp_ns, sweep.frame_id)
            self._leave_out("sweeps without boxes", not boxes)
            self.boxes.add(
                ProposalScores(score_boxes(sweep.xyz, frame.proposals, boxes, options.smallest), (), (), 0.0)
            )
        known = truth.points.get(frame.stamp_ns)
        if known is None or known[0].shape != (len(sweep),):
            self._leave_out("sweeps without truth of their points", not truth.boxes)
            return
        semantic, instance = (ids.unpack() for ids in known)
        of_points = Truth(semantic, instance, truth.classes, self._roles)
        scores = score_points(sweep.xyz, frame.proposals, of_points, options.smallest)
        self.points.add(scores)
        for score in scores.objects:
            if score.fate != FOUND:
                # The sum breaks ties of `size`, so that cases themselves are never compared.
                entry = (
                    score.size,
                    len(self.points.objects) * 10_000 + score.instance,
                    Case(frame.drive, frame.stamp_ns, score),
                )
                heapq.heappush(self._worst, entry)
                if len(self._worst) > 20 * options.cases:
                    heapq.heappop(self._worst)
        distances = {score.instance: score.distance for score in scores.objects}
        for view in frame.views:
            pair = truth.images.get((view.camera, view.stamp_ns))
            if pair is None or pair[0].shape != view.regions.shape:
                self._leave_out("images without truth", True)
                continue
            of_pixels = Truth(pair[0].unpack(), pair[1].unpack(), truth.classes, self._roles)
            seen = score_pixels(view.regions, of_pixels, options.smallest_pixels, distances)
            # What the LiDAR has no points on cannot be found.
            reached = tuple(score for score in seen.objects if score.instance in distances)
            self.pixels.add(
                ProposalScores(reached, seen.scored, seen.matched, seen.under, seen.ground, seen.lost, seen.raised)
            )

    def meet(self, truth: SweepTruth) -> None:
        """Take down which classes a drive has."""
        self._classes.update(entry.name for entry in truth.classes.entries)

    def unknown_classes(self) -> list[str]:
        """Notes on classes that the options name, though no drive has them; the defaults are names of many sets."""
        options, usual, here = self._options, ScoreProposalsOptions(), ", ".join(sorted(self._classes))
        named = {
            *(set(options.ground_classes) - set(usual.ground_classes)),
            *(set(options.background_classes) - set(usual.background_classes)),
            *(set(options.vehicle_classes) - set(usual.vehicle_classes)),
        }
        return [f"the truth has no class {name!r}, only {here}" for name in sorted(named - self._classes) if here]

    def worst(self) -> list[Case]:
        """Objects not found, those of most points first, each object once."""
        chosen: dict[tuple[str, int], Case] = {}
        for _, _, case in sorted(self._worst, key=lambda entry: -entry[0]):
            chosen.setdefault((case.drive, case.score.instance), case)
        return list(chosen.values())[: self._options.cases]

    def _leave_out(self, what: str, really: bool) -> None:
        if really:
            self.left_out[what] = self.left_out.get(what, 0) + 1


def score_proposals(frames: Path, options: ScoreProposalsOptions) -> Summary:
    """Score the proposals and regions of recorded frames.

    Writes `FRAMES/proposal_scores/`: `summary.json` and `report.html` with pictures of the worst cases.

    Args:
        frames: Folder that `dseg record` wrote.
        options: Where the truth is, and what counts.

    Raises:
        DsegError: No frames, or no truth.
        TransformError: Boxes in a frame that nothing connects with the LiDAR.
    """
    store = FrameStore(frames)
    check_writable(frames / FOLDER)
    bags = truth_bags(store, frames, options.truth)
    board, truths = _Board(options), dict[str, SweepTruth]()
    for key in progress(store.frame_keys, "scores", unit="frame"):
        if key[0] not in truths:
            truths = {key[0]: sweep_truth(bags[key[0]], options.boxes)}  # frames come by drive
            board.meet(truths[key[0]])
        board.add(store.frame(*key), truths[key[0]])
    notes = [
        *board.unknown_classes(),
        *(
            f"{count(number, what.split()[0][:-1])} {what.split(' ', 1)[1]} left out"
            for what, number in board.left_out.items()
        ),
    ]
    tallies = {"points": board.points, "pixels": board.pixels, "boxes": board.boxes}
    kept = {name: tally for name, tally in tallies.items() if tally.objects}
    if not kept:
        what = f"no annotated object has {count(options.smallest, 'point')} at the stamp of a recorded sweep"
        raise DsegError(what, where=frames, fix="--truth and --boxes must be of these drives; --smallest takes fewer")
    text = "\n".join([summary_table(kept), *(f"Note: {note}." for note in notes)])
    folder = frames / FOLDER
    from dseg_core.reporting.proposal_page import proposal_page

    html = proposal_page(kept, board.worst(), store, bags, text)
    write_whole(folder / "report.html", html.encode())
    results = {
        name: {"scores": _plain(tally.summary()), "rows": tally.by_class_and_band()} for name, tally in kept.items()
    }
    title = f"Scored the proposals of {count(len(store), 'frame')}."
    text = f"{title}\n{text}\nClasses, ranges and pictures: {folder}/report.html"
    return Summary(text, {"notes": notes, "frames": len(store), **results}).write(folder, "score-proposals", options)


def summary_table(tallies: dict[str, ProposalTally]) -> str:
    """How many objects each kind of truth has, and the numbers of each side by side, in percent."""
    values = {name: tally.summary() for name, tally in tallies.items()}
    names = list(dict.fromkeys(key for found in values.values() for key in found if key not in ("over", "under")))
    lines: list[Sequence[str]] = [["", *values]]
    lines.append(["true objects", *(str(len(tally.objects)) for tally in tallies.values())])
    lines.append(["of these, in %:", *("" for _ in values)])
    for name in names:
        cells = [found.get(name, np.nan) for found in values.values()]
        if np.isfinite(cells).any():
            lines.append([f"  {_WORDS.get(name, name)}", *(f"{100 * c:.1f}" if np.isfinite(c) else "-" for c in cells)])
    return aligned(lines)


_WORDS = {
    "recall": "objects found (IoU 0.5)",
    "thin": "thin objects found",
    "precision": "proposals that are an object",
    MISSED: "missed: in no proposal",
    "merged": "merged: with more of other things",
    "split": "split: in several proposals",
    "iou": "mean IoU of objects",
    "ground recall": "ground called ground",
    "ground precision": "called ground that is ground",
    "lost": "object called ground",
    "raised": "ground in proposals",
    **{name: f"ground {name}" for name in ("at kerbs", "on slopes", "beneath vehicles")},
}


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in values.items()}
