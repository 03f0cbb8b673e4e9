"""The claims of benchmarks/ladder.py on numbers whose verdict is known."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from dseg_core.evaluation.ladder import ALL, BASELINE, LABELLED, LABELS, ONE_TO_ONE, STUDENT, TEACHER, Cell


@pytest.fixture(scope="module")
def ladder() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "ladder.py"
    spec = importlib.util.spec_from_file_location("ladder_benchmark", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def cells(labels: float, colour: float, teacher: float, student: float) -> list[Cell]:
    found = []
    for ground in ("merged", "as is"):
        values = [(LABELS, LABELLED, labels), (BASELINE, LABELLED, colour), (BASELINE, ALL, colour)]
        for row, pixels, miou in [*values, (TEACHER, ALL, teacher), (STUDENT, ALL, student)]:
            found.append(Cell(row, pixels, ground, False, ONE_TO_ONE, miou, 0.5, {"car": miou}))
    return found


def test_claims_hold(ladder: ModuleType) -> None:
    seeds = [cells(0.46, 0.30, 0.40, 0.41), cells(0.44, 0.28, 0.37, 0.39), cells(0.48, 0.31, 0.42, 0.42)]
    claims = ladder.check_claims(seeds)
    assert [claim.passed for claim in claims] == [True] * 5
    assert "46.0 ± 2.0 / 29.7 ± 1.5 = 1.55 (by seed 1.53, 1.57, 1.55)" in claims[0].numbers
    assert "difference +10.0 ± 1.0" in claims[1].numbers


def test_a_difference_within_one_deviation_is_none(ladder: ModuleType) -> None:
    """The teacher is ahead by 1 on average, but by -3, 0 and 6: that fails. The ratio of 1.4 fails too."""
    seeds = [cells(0.42, 0.30, 0.27, 0.34), cells(0.42, 0.30, 0.30, 0.34), cells(0.42, 0.30, 0.36, 0.34)]
    claims = ladder.check_claims(seeds)
    assert [claim.passed for claim in claims] == [False, False, False, True, True]
    assert "no difference" in ladder.student_against_teacher(seeds)
    assert (
        ladder.student_against_teacher([cells(0.4, 0.3, 0.30, 0.33), cells(0.4, 0.3, 0.30, 0.34)]).count("better") == 2
    )


def test_report_writes_json_and_markdown(ladder: ModuleType, tmp_path: Path, capsys) -> None:
    seeds = [cells(0.46, 0.30, 0.40, 0.41), cells(0.44, 0.28, 0.37, 0.39)]
    assert ladder._report(tmp_path, seeds, (6, 3), {"train": {}}, 1.0) == 0
    assert capsys.readouterr().out.count("PASS") == 5
    assert (tmp_path / "ladder.md").read_text().startswith("# The ladder\n\n2 seeds, 6 worlds")
    assert (tmp_path / "ladder.json").stat().st_size > 0


def test_an_unknown_stage_is_one_line(ladder: ModuleType, tmp_path: Path, capsys) -> None:
    (tmp_path / "c.yaml").write_text("trian: {seed: 1}\n")
    assert ladder.main(["--out", str(tmp_path / "o"), "--config", str(tmp_path / "c.yaml")]) == 1
    assert "c.yaml: there is no stage trian. Stages: simulate, record" in capsys.readouterr().err
