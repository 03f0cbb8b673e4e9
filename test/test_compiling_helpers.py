"""Processes that help to compile: how many, for whom, and that nothing is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numba
import pytest

from dseg_core import compiling_helpers
from dseg_core.claims import claim
from dseg_core.compiling_helpers import help_compiling, say_and_help_compiling, start_helpers

ROOT = Path(__file__).parents[1]
START = """
import sys
from pathlib import Path
from dseg_core import compiling_helpers
compiling_helpers._cores = lambda: 3
compiling_helpers.start_helpers(Path(sys.argv[1]))
print("started", flush=True)
sys.stdin.read()
"""


def children(process: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()}


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def until(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("end", ["its input ends", "killed", "Ctrl-C"])
@pytest.mark.parametrize("when", ["at once", "at work"])
def test_helpers_end_with_who_started_them(tmp_path: Path, end: str, when: str) -> None:
    """Also while they compile; on a terminal, Ctrl-C reaches all at once, and nobody says more than without helpers."""
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")},
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "started\n"
    helpers = children(process.pid)
    assert len(helpers) == 2
    if when == "at work":
        until(lambda: all("llvmlite" in Path(f"/proc/{helper}/maps").read_text() for helper in helpers))
        assert all(map(is_running, helpers)), "at work on different loops"
    if end == "killed":
        process.kill()
    elif end == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.stdin.close()
    with process.stdout, process.stderr:
        said = process.stderr.read()
        process.wait()
    until(lambda: not any(map(is_running, helpers)))
    assert said.rstrip().endswith("KeyboardInterrupt") and said.count("Traceback") == 1 if end == "Ctrl-C" else not said


def test_nothing_is_left_of_helpers_that_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling_helpers, "_cores", lambda: 3)
    before = children(os.getpid()), len(list(Path("/proc/self/fd").iterdir()))
    with claim(tmp_path, 0), claim(tmp_path, 1):  # so that they end at once
        start_helpers(tmp_path)
        until(lambda: (children(os.getpid()), len(list(Path("/proc/self/fd").iterdir())) - 1) == before)


def test_one_more_than_there_may_be_ends_at_once(tmp_path: Path) -> None:
    with claim(tmp_path, 0), claim(tmp_path, 1):
        process = subprocess.Popen(
            [
                sys.executable,
                "-X",
                "importtime",
                "-c",
                compiling_helpers._HELP,
                str(tmp_path),
                "2",
                str(ROOT),
                *sys.path,
            ],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None and process.stdin is not None
        with process, process.stdin:
            imported = process.stderr.read()
        assert process.returncode == 0 and "dseg_core.claims" in imported and "numba" not in imported


class Started:
    """Stands for the processes that were started."""

    def __init__(self) -> None:
        self.commands: list[Sequence[str]] = []
        self.stdin = None

    def __call__(self, command: Sequence[str], **_: object) -> Started:
        self.commands.append(command)
        return self

    def wait(self) -> None:
        pass


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    made = Started()
    monkeypatch.setattr(subprocess, "Popen", made)
    return made


@pytest.mark.parametrize(
    ("cores", "share", "memory", "expected"),
    [
        (1, "max 100000", "max", 0),
        (2, "max 100000", "max", 1),
        (4, "max 100000", "max", 3),
        (64, "max 100000", "max", 5),
        (64, "250000 100000", "max", 1),
        (64, "50000 100000", "max", 0),
        (64, "max 100000", f"{2**31}", 2),  # of which a quarter is used
        (64, "max 100000", f"{2**29 + 1}", 0),
    ],
)
def test_as_many_as_cores_and_memory_allow(
    cores: int,
    share: str,
    memory: str,
    expected: int,
    started: Started,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, text in {"cpu.max": share, "memory.max": memory, "memory.current": f"{2**29}"}.items():
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(compiling_helpers, "_GROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    start_helpers(tmp_path)
    assert len(started.commands) == expected


@pytest.mark.parametrize("executable", ["", None, "/opt/planner/bin/planner"])
def test_none_where_the_program_is_no_interpreter(
    executable: str | None, started: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compiling_helpers, "_cores", lambda: 4)
    monkeypatch.setattr(sys, "executable", executable)
    start_helpers(tmp_path)
    assert not started.commands


def test_this_one_goes_on_where_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(*_: object, **__: object) -> None:
        raise BlockingIOError(11, os.strerror(11))

    monkeypatch.setattr(compiling_helpers, "_cores", lambda: 4)
    monkeypatch.setattr(subprocess, "Popen", refused)
    start_helpers(tmp_path)


def test_compiling_is_said_once_per_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, started: Started
) -> None:
    source = tmp_path / "compiled_here.py"
    source.write_text("from dseg_core.compiling import compiled\n@compiled\ndef twice(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(compiling_helpers, "_cores", lambda: 2)
    import compiled_here  # type: ignore[import-not-found]

    from dseg_core.compiling import compiled

    say_and_help_compiling("dseg record", compiled_here.twice)
    assert capsys.readouterr().err == "dseg record: compiling once for this machine, 10 to 30 s\n"
    assert len(started.commands) == 1
    compiled_here.twice(1)
    again = compiled(compiled_here.twice.py_func)
    for loop in (compiled_here.twice, again):  # another process finds it in the cache
        say_and_help_compiling("dseg record", loop)
    assert capsys.readouterr().err == "" and len(started.commands) == 1
    assert again(2) == 4 and not again.stats.cache_misses
    source.write_text(source.read_text() + "\n# other source\n")
    assert help_compiling(compiled(compiled_here.twice.py_func)), "what is kept is of another source"


def test_none_where_nothing_can_be_kept(started: Started) -> None:
    assert not help_compiling(numba.njit(lambda x: x)) and not started.commands
