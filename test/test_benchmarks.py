"""Benchmarks import what there is: else a change would be noticed only by who measures next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "benchmarks"


def test_every_benchmark_finds_what_it_uses() -> None:
    """In one process of their own: they set environment variables, and find each other in their folder."""
    names = sorted(path.stem for path in FOLDER.glob("*.py"))
    assert "proposals" in names
    code = f"import sys; sys.path[:0] = [{str(FOLDER)!r}, {str(FOLDER.parent)!r}]\n" + "".join(
        f"import {name}\n" for name in names
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
