"""Scores on disk: where they are, whether they still hold, and what a report reads of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dseg_core.errors import DsegError
from dseg_core.evaluation.ladder import Cell
from dseg_core.evaluation.truth import TruthData
from dseg_core.networks.checkpoint import digest
from dseg_core.progress import Summary
from dseg_core.stage_options import EvaluateOptions
from dseg_core.store import read_json


def evaluation_folder(run: Path, data: Path) -> Path:
    """Where a run's scores on a data set are: by its name, with a number where another data set of this name is."""
    numbers = itertools.count(2)
    folder = run / "evaluation" / data.resolve().name
    while (folder / "summary.json").is_file() and _scored_data(folder) not in (None, data.resolve()):
        folder = run / "evaluation" / f"{data.resolve().name}_{next(numbers)}"
    return folder


def _scored_data(folder: Path) -> Path | None:
    """What the scores in a folder are of; None where its summary is broken."""
    try:
        data = (read_json(folder / "summary.json").get("results") or {}).get("data")
    except DsegError:
        return None
    return Path(data).resolve() if isinstance(data, str) else None


def fingerprint_of(run: Path, sets: Iterable[TruthData], options: EvaluateOptions) -> str:
    """Digest of all that decides the scores: weights, names, options, and the files of the data by size."""
    parts = [json.dumps(options.to_dict(), sort_keys=True).encode()]
    for file in ("student.safetensors", "teacher.safetensors", "run.json", "classes.yaml"):
        path = run / file
        parts.append(path.read_bytes() if path.is_file() else b"")
    for data in sets:
        files = sorted(p for p in data.path.rglob("*") if p.is_file() and p.name != "summary.json")
        parts += [f"{p} {p.stat().st_size} {p.stat().st_mtime_ns}".encode() for p in files]
    return digest(*parts)


def network_print(run: Path) -> str:
    """Tells whether scores are of the networks that the run has by now."""
    files = (run / name for name in ("student.safetensors", "teacher.safetensors"))
    return digest(*(file.read_bytes() for file in files if file.is_file()))


def done_before(folder: Path, fingerprint: str) -> Summary | None:
    """The scores of an earlier call with the same inputs."""
    path = folder / "summary.json"
    if not path.is_file():
        return None
    try:
        content = read_json(path)
    except DsegError:
        return None  # broken: scored anew
    results = content.get("results")
    if not isinstance(results, dict) or results.get("fingerprint") != fingerprint:
        return None
    if not (folder / "confusion.png").is_file():
        return None
    return Summary(f"{content['text']}\nNothing changed since they were made, so they were kept.", results)


@dataclass(frozen=True)
class ReportScores:
    """What a report shows. `cells`: every score. `confusion`: a PNG. `notes`: sentences to print with the scores."""

    cells: tuple[Cell, ...]
    notes: tuple[str, ...]
    confusion: Path
    images: dict[str, int]


def scores_for_report(run: Path, data: Path) -> ReportScores | None:
    """The stored scores of a run on a data set, or None when it was not evaluated there as it is now."""
    folder, results = evaluation_folder(run, data), results_for_report(run, data)
    if results is None:
        return None
    cells = tuple(Cell(**row) for row in results["rows"])
    return ReportScores(cells, tuple(results["notes"]), folder / results["confusion"], results["images"])


def results_for_report(run: Path, data: Path) -> dict[str, Any] | None:
    """The numbers of `scores_for_report`, as they are stored."""
    path = evaluation_folder(run, data) / "summary.json"
    if not path.is_file():
        return None
    results = read_json(path).get("results")
    if not isinstance(results, dict) or not {"rows", "notes", "counts", "classes"} <= results.keys():
        raise DsegError("is broken", where=path, fix="Remove it and evaluate again")
    return results if results.get("network") == network_print(run) else None
