"""Score tables for the terminal, and the confusion matrix as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dseg_core.evaluation.ladder import (
    ALL,
    BASELINE,
    CAPACITY,
    CELLS,
    IGNORED,
    LABELLED,
    LABELS,
    MANY_TO_ONE,
    NAMED,
    ONE_TO_ONE,
    STUDENT,
    TEACHER,
    Cell,
)
from dseg_core.evaluation.metrics import Scores
from dseg_core.progress import write_whole

_ROWS = (LABELS, TEACHER, STUDENT, CELLS, BASELINE, CAPACITY)
_GROUPINGS = (("merged", False), ("merged", True), ("as is", False), ("as is", True))


@dataclass(frozen=True)
class Spread:
    """A value over runs. `deviation`: sample standard deviation, None for a single run."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Mean and deviation of one value per run."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)

    def percent(self) -> str:
        """`42.1` or `42.1 ± 1.3`."""
        return f"{100 * self.mean:.1f}" + ("" if self.deviation is None else f" ± {100 * self.deviation:.1f}")


class Board:
    """The cells of one run or of several, to look up by what they are the score of."""

    def __init__(self, runs: Sequence[Sequence[Cell]]) -> None:
        self._cells: dict[tuple[str, str, str, bool, str], list[Cell]] = {}
        for cells in runs:
            for cell in cells:
                self._cells.setdefault(cell.key, []).append(cell)

    def cells(self, row: str, pixels: str, ground: str, sky: bool, convention: str = ONE_TO_ONE) -> list[Cell]:
        """One cell per run; empty where that was not scored."""
        return self._cells.get((row, pixels, ground, sky, convention), [])

    def miou(self, row: str, pixels: str, ground: str, sky: bool, convention: str = ONE_TO_ONE) -> Spread | None:
        """Mean IoU over the runs."""
        cells = self.cells(row, pixels, ground, sky, convention)
        return Spread.of([cell.miou for cell in cells]) if cells else None

    def to_list(self) -> list[dict[str, object]]:
        """Mean and deviation of every cell, plain JSON types."""
        rows: list[dict[str, object]] = []
        for (row, pixels, ground, sky, convention), cells in self._cells.items():
            miou, accuracy = Spread.of([c.miou for c in cells]), Spread.of([c.accuracy for c in cells])
            rows.append(
                {
                    "row": row,
                    "pixels": pixels,
                    "ground": ground,
                    "sky": sky,
                    "convention": convention,
                    "runs": len(cells),
                    "miou": miou.mean,
                    "miou_deviation": miou.deviation,
                    "accuracy": accuracy.mean,
                    "accuracy_deviation": accuracy.deviation,
                }
            )
        return rows


def score_tables(board: Board) -> str:
    """All scores as aligned text: a block per grouping, then the IoU of every class."""
    blocks = [_block(board, ground, sky) for ground, sky in _GROUPINGS]
    blocks += [_classes(board, "merged", False), _classes(board, "as is", True)]
    return "\n\n".join(block for block in blocks if block)


def headline_table(board: Board) -> str:
    """The claim of the method as a small table: mIoU % one-to-one, ground merged, sky ignored, unmatched as errors."""
    lines = [["mIoU %, one-to-one, ground merged, sky ignored", f"{LABELLED} pixels", f"{ALL} pixels"]]
    for row in _ROWS:
        found = [board.miou(row, pixels, "merged", False) for pixels in (LABELLED, ALL)]
        if any(spread is not None for spread in found):
            lines.append([f"  {row}", *("-" if spread is None else spread.percent() for spread in found)])
    return aligned(lines)


def _title(ground: str, sky: bool) -> str:
    return f"ground {'merged' if ground == 'merged' else 'as it is'}, {'with sky' if sky else 'sky ignored'}"


def _block(board: Board, ground: str, sky: bool) -> str:
    names = (ONE_TO_ONE, IGNORED, MANY_TO_ONE, NAMED)
    lines = [["mIoU %, " + _title(ground, sky), *names, "accuracy"]]
    for pixels in (LABELLED, ALL):
        rows = [row for row in _ROWS if board.cells(row, pixels, ground, sky)]
        if rows:
            lines.append([f"{pixels} pixels"])
        for row in rows:
            spreads = [board.miou(row, pixels, ground, sky, name) for name in names]
            accuracy = Spread.of([cell.accuracy for cell in board.cells(row, pixels, ground, sky)])
            lines.append([f"  {row}", *("-" if s is None else s.percent() for s in spreads), accuracy.percent()])
    if all(line[4] == "-" for line in lines[1:] if len(line) > 1):
        lines = [line if len(line) == 1 else [*line[:4], line[5]] for line in lines]
    return aligned(lines) if len(lines) > 1 else ""


def _classes(board: Board, ground: str, sky: bool) -> str:
    columns = [(r, p) for p in (LABELLED, ALL) for r in _ROWS if board.cells(r, p, ground, sky)]
    if not columns:
        return ""
    first = board.cells(*columns[0], ground, sky)[0]
    pixels = ["  pixels", *(p for _, p in columns)]
    lines = [["IoU %, " + _title(ground, sky), *(row.replace("colour ", "") for row, _ in columns)], pixels]
    for name in first.iou:
        line = [f"  {name}"]
        for row, over in columns:
            values = [v for c in board.cells(row, over, ground, sky) if (v := c.iou[name]) is not None]
            line.append(Spread.of(values).percent() if values else "absent")
        lines.append(line)
    return aligned(lines)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as text: the first column to the left, the others to the right; a single cell is a line alone."""
    full = [line for line in lines if len(line) > 1]
    widths = [max(len(line[column]) for line in full) for column in range(len(full[0]))]
    return "\n".join(
        line[0].ljust(widths[0])
        + "".join("  " + text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=False))
        if len(line) > 1
        else line[0]
        for line in lines
    )


def draw_confusion(scores: Scores, title: str, path: Path) -> None:
    """Write a confusion matrix as PNG: rows truth, columns what was said, each row in percent of the class's pixels."""
    present = scores.confusion.sum(axis=0) > 0
    share = 100 * scores.confusion.T / np.maximum(scores.confusion.sum(axis=0), 1)[:, None]  # (G, G + 1)
    names = list(scores.names)
    size = 1.8 + 0.52 * len(names)
    figure = Figure(figsize=(size + 1.2, size), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(np.where(present[:, None], share, np.nan), cmap="Blues", vmin=0, vmax=100)
    for row, column in np.argwhere(present[:, None] & (share >= 0.5)):
        colour = "white" if share[row, column] > 55 else "#123"
        axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", fontsize=8, color=colour)
    absent = [name if there else f"{name} (absent)" for name, there in zip(names, present, strict=True)]
    axes.set_yticks(range(len(names)), absent)
    axes.set_xticks(range(len(names) + 1), [*names, "no class"], rotation=45, ha="right")
    axes.axvline(len(names) - 0.5, color="#888", linewidth=0.8)
    axes.set_ylabel("truth")
    axes.set_xlabel("said, % of the truth's pixels")
    axes.set_title(title, fontsize=10)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_whole(path, buffer.getvalue())
