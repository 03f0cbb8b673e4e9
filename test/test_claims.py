"""Claims between processes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dseg_core import claims
from dseg_core.claims import claim

ROOT = Path(__file__).parents[1]
HOLD = """
import sys
from pathlib import Path
from dseg_core.claims import claim
with claim(Path(sys.argv[1]), int(sys.argv[2]), shared=sys.argv[3] == "shared", wait=False) as held:
    print(held, flush=True)
    sys.stdin.read()
"""


@contextmanager
def other(folder: Path, number: int = 7, how: str = "alone") -> Iterator[tuple[bool, subprocess.Popen[str]]]:
    """Whether another process could take a number, which it then holds."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(number), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdin is not None and process.stdout is not None
    with process, process.stdin:
        yield process.stdout.readline() == "True\n", process


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with claim(tmp_path, 7) as mine:
        assert mine
        with other(tmp_path) as (theirs, _), other(tmp_path, number=2**32 - 1) as (another, _):
            assert not theirs and another
    with other(tmp_path) as (theirs, _):
        assert theirs, "it was let go of"
        with claim(tmp_path, 7, wait=False) as mine, claim(tmp_path, 7, shared=True, wait=False) as shared:
            assert not mine and not shared


def test_readers_share(tmp_path: Path) -> None:
    with claim(tmp_path, 7, shared=True), other(tmp_path, how="shared") as (theirs, _):
        assert theirs
        with other(tmp_path) as (alone, _):
            assert not alone


def test_within_itself_it_stays_held(tmp_path: Path) -> None:
    with claim(tmp_path, 7):
        with claim(tmp_path, 7, shared=True) as shared, claim(tmp_path, 7, wait=False) as again:
            assert shared and again
        with other(tmp_path) as (theirs, _), other(tmp_path, how="shared") as (read, _):
            assert not theirs and not read


def test_the_system_lets_go_of_those_of_a_process_that_was_killed(tmp_path: Path) -> None:
    with other(tmp_path) as (theirs, process):
        process.kill()
        with claim(tmp_path, 7) as mine:
            assert theirs and mine


def test_who_never_lets_go_is_waited_for_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_LONGEST", 0.02)
    with other(tmp_path), claim(tmp_path, 7) as mine:
        assert not mine


def test_without_locks_everybody_holds_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(37, os.strerror(37))  # of a network's file system

    with claim(tmp_path / "missing", 7) as mine:
        assert mine
    monkeypatch.setattr(fcntl, "lockf", refused)
    with claim(tmp_path, 7) as mine, other(tmp_path) as (theirs, _):
        assert mine and theirs
