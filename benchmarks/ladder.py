"""The method's claims, measured in simulation: several seeds, each with worlds of its own to learn from and to score.

    python benchmarks/ladder.py --out ladder --seeds 3 --config benchmarks/ladder.yaml

Each seed simulates, records, labels, trains and evaluates as the commands would; every stage resumes, so the same call
after an interruption goes on. Writes `ladder.json` and `ladder.md` into --out, prints PASS or FAIL per claim, and
returns 1 when a claim fails. `--config` holds the stages' options: `{simulate: {sweeps: 12}, train: {...}, ...}`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dseg_core.classes_from_features import label
from dseg_core.errors import DsegError
from dseg_core.evaluation.evaluate import evaluate
from dseg_core.evaluation.ladder import ALL, BASELINE, LABELLED, LABELS, STUDENT, TEACHER, Cell
from dseg_core.evaluation.stored_scores import scores_for_report
from dseg_core.evaluation.tables import Board, score_tables
from dseg_core.frames_from_bag import record
from dseg_core.options import read_yaml
from dseg_core.progress import write_whole
from dseg_core.simulation.simulate import simulate
from dseg_core.stage_options import EvaluateOptions, LabelOptions, RecordOptions, SimulateOptions, TrainOptions
from dseg_core.student_from_teacher import train

RATIO = 1.5
"""How many times the colour baseline's mIoU the pseudo-labels must reach."""

_SEEDS_APART, _TEST_SEED = 10_000, 5_000  # worlds of different seeds, and of training and test, never meet
_STAGES = ("simulate", "record", "label", "train", "evaluate")


@dataclass(frozen=True)
class Claim:
    """One claim and whether the numbers bear it out."""

    text: str
    passed: bool
    numbers: str


def run_seed(out: Path, seed: int, worlds: tuple[int, int], stages: Mapping[str, Mapping[str, Any]]) -> list[Cell]:
    """The whole way for one seed under `out`, with (training, test) worlds; returns its scores."""
    for split, first, count in (("train", 0, worlds[0]), ("test", _TEST_SEED, worlds[1])):
        given = {"seed": seed * _SEEDS_APART + first, "worlds": count}
        simulate(out / "bags" / split, SimulateOptions.from_mapping({**stages["simulate"], **given}))
        record([out / "bags" / split], out / "frames" / split, RecordOptions.from_mapping(stages["record"]))
    frames = out / "frames"
    options = LabelOptions.from_mapping({**stages["label"], "seed": seed})
    label(frames / "train", options)
    clusters = {"clusters_from": frames / "train" / "labels" / options.name}
    label(frames / "test", LabelOptions.from_mapping({**stages["label"], "seed": seed, **clusters}))
    train(frames / "train", out / "run", TrainOptions.from_mapping({**stages["train"], "seed": seed}))
    fit_on = {"fit_on": frames / "train"}
    evaluate([out / "run"], frames / "test", EvaluateOptions.from_mapping({**stages["evaluate"], **fit_on}))
    scores = scores_for_report(out / "run", frames / "test")
    if scores is None:
        raise DsegError("evaluate left no scores", where=out / "run")
    return list(scores.cells)


def check_claims(seeds: Sequence[Sequence[Cell]]) -> list[Claim]:
    """Compare rows seed by seed. A difference within one deviation of the differences is no difference."""
    board = Board(seeds)

    def values(row: str, pixels: str, ground: str) -> NDArray[np.float64]:
        return np.array([cell.miou for cell in board.cells(row, pixels, ground, False)])

    labels, colour = values(LABELS, LABELLED, "merged"), values(BASELINE, LABELLED, "merged")
    ratio = labels.mean() / colour.mean()
    numbers = f"{_percent(labels)} / {_percent(colour)} = {ratio:.2f} (by seed {_list(labels / colour)})"
    text = f"pseudo-labels reach {RATIO} x the colour baseline (labelled pixels, ground merged, sky ignored)"
    claims = [Claim(text, bool(ratio >= RATIO), numbers)]
    for row in (TEACHER, STUDENT):
        for ground in ("merged", "as is"):
            mine, theirs = values(row, ALL, ground), values(BASELINE, ALL, ground)
            gain, spread = (mine - theirs).mean(), _deviation(mine - theirs)
            claims.append(
                Claim(
                    f"{row} beats the colour baseline (all pixels but sky, ground {ground})",
                    bool(gain > spread),
                    f"{_percent(mine)} against {_percent(theirs)}, difference {100 * gain:+.1f} ± {100 * spread:.1f}",
                )
            )
    return claims


def student_against_teacher(seeds: Sequence[Sequence[Cell]]) -> str:
    """Reported as it is: no claim."""
    board = Board(seeds)
    lines = []
    for ground in ("merged", "as is"):
        of = [np.array([c.miou for c in board.cells(row, ALL, ground, False)]) for row in (STUDENT, TEACHER)]
        gain, spread = (of[0] - of[1]).mean(), _deviation(of[0] - of[1])
        word = "no difference" if abs(gain) <= spread else "better" if gain > 0 else "worse"
        lines.append(f"ground {ground}: student - teacher {100 * gain:+.1f} ± {100 * spread:.1f}: {word}")
    return "; ".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark. Returns 0 when every claim passes, 1 otherwise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for everything")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train-worlds", type=int, default=6)
    parser.add_argument("--test-worlds", type=int, default=3)
    parser.add_argument("--config", type=Path, help="YAML: options by stage")
    parsed = parser.parse_args(arguments)
    if min(parsed.seeds, parsed.train_worlds, parsed.test_worlds) < 1:
        parser.error("--seeds, --train-worlds and --test-worlds must be at least 1")
    config = {} if parsed.config is None else read_yaml(parsed.config)
    unknown = sorted(set(config) - set(_STAGES))
    try:
        if unknown:
            raise DsegError(
                f"there is no stage {unknown[0]}", where=parsed.config, fix=f"Stages: {', '.join(_STAGES)}."
            )
        stages = {stage: config.get(stage) or {} for stage in _STAGES}
        started = time.monotonic()
        worlds = (parsed.train_worlds, parsed.test_worlds)
        seeds = []
        for seed in range(parsed.seeds):
            print(f"== seed {seed} of {parsed.seeds}", flush=True)
            seeds.append(run_seed(parsed.out / f"seed_{seed}", seed, worlds, stages))
    except DsegError as error:
        print(f"ladder: {error}", file=sys.stderr)
        return 1
    return _report(parsed.out, seeds, worlds, stages, time.monotonic() - started)


def _report(
    out: Path,
    seeds: list[list[Cell]],
    worlds: tuple[int, int],
    stages: Mapping[str, Mapping[str, Any]],
    seconds: float,
) -> int:
    claims, board = check_claims(seeds), Board(seeds)
    lines = [f"{'PASS' if claim.passed else 'FAIL'}  {claim.text}: {claim.numbers}" for claim in claims]
    pair = student_against_teacher(seeds)
    head = f"{len(seeds)} seeds, {worlds[0]} worlds to learn from and {worlds[1]} to score each; mean ± deviation"
    tables = score_tables(board)
    print("\n".join([head, "", tables, "", *lines, pair, f"{seconds:.0f} s in this call"]))
    content = {
        "seeds": len(seeds),
        "train_worlds": worlds[0],
        "test_worlds": worlds[1],
        "options": stages,
        "claims": [asdict(claim) for claim in claims],
        "student_against_teacher": pair,
        "rows": board.to_list(),
        "cells": [[cell.to_dict() for cell in cells] for cells in seeds],
    }
    write_whole(out / "ladder.json", (json.dumps(content, indent=1) + "\n").encode())
    listed = "\n".join(f"- {line}" for line in [*lines, pair])
    write_whole(out / "ladder.md", f"# The ladder\n\n{head}\n\n{listed}\n\n```\n{tables}\n```\n".encode())
    return 0 if all(claim.passed for claim in claims) else 1


def _deviation(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _percent(values: NDArray[np.float64]) -> str:
    return f"{100 * values.mean():.1f} ± {100 * _deviation(values):.1f}"


def _list(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
