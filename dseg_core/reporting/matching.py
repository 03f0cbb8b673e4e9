"""What each pseudo-class is taken for in the report: one matching, for pictures and confusion matrix alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dseg_core.class_table import ClassTable
from dseg_core.evaluation import ladder
from dseg_core.evaluation.stored_scores import ReportScores, results_for_report, scores_for_report
from dseg_core.reporting.sources import Sources

_UNUSED = -1


@dataclass(frozen=True, eq=False)
class Overlap:
    """Pixels that masks give each pseudo-class and that truth gives each class, on the scored frames.

    `counts`: of the student, int64 (clusters + 1, truth classes), the last row pixels without a pseudo-class.
    `together`: of pseudo-labels, teacher and student, added up.
    """

    counts: NDArray[np.int64]
    together: NDArray[np.int64]
    truth: ClassTable

    def matched(self) -> NDArray[np.int64]:
        """The truth class that each pseudo-class covers most, int64 (clusters,); -1 where it has no pixel.

        The student's pixels decide; the other masks' only for pseudo-classes that the student never uses.
        """
        counts = np.where(self.counts[:-1].sum(axis=1, keepdims=True) > 0, self.counts[:-1], self.together[:-1])
        return np.where(counts.sum(axis=1) > 0, counts.argmax(axis=1), _UNUSED)

    def palette(self, own: ClassTable) -> NDArray[np.uint8]:
        """Each pseudo-class in the colour of its truth class, uint8 (256, 3); in its own where it has none."""
        palette = own.palette()
        for cluster, index in enumerate(self.matched()):
            if index != _UNUSED:
                palette[cluster] = self.truth.entries[int(index)].color
        return palette

    def confusion(self) -> NDArray[np.int64]:
        """The student's pixels by truth class (rows) and by the class it is taken to say (columns, last: none)."""
        classes = len(self.truth)
        said = np.append(self.matched(), _UNUSED)
        found = np.zeros((classes + 1, classes), dtype=np.int64)
        np.add.at(found, np.where(said == _UNUSED, classes, said), self.counts)
        return found.T


def scores_of(sources: Sources) -> ReportScores | None:
    """The stored scores of the run on the frames that were not trained on, or None."""
    if sources.run is None or sources.shown is None:
        return None
    return scores_for_report(sources.run, sources.shown.path)


def overlap_of(sources: Sources) -> Overlap | None:
    """The counts on the scored frames, or None where it was not evaluated."""
    if sources.run is None or sources.shown is None:
        return None
    results = results_for_report(sources.run, sources.shown.path)
    if results is None:
        return None
    rows = ((ladder.LABELS, ladder.LABELLED), (ladder.TEACHER, ladder.ALL), (ladder.STUDENT, ladder.ALL))
    keys = [f"{row}#0 {pixels}" for row, pixels in rows]
    found = [np.array(results["counts"][key], dtype=np.int64) for key in keys if key in results["counts"]]
    return Overlap(found[-1], np.sum(found, axis=0), ClassTable.from_list(results["classes"], sources.run))
