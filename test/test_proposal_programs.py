"""Methods that are programs of the user's own: what they are sent, what is believed of their answers."""

from __future__ import annotations

import argparse
import importlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dseg_core.errors import DsegError
from dseg_core.records import Sweep

FOLDER = Path(__file__).parents[1] / "benchmarks"
TOLD = {"rows": 64, "low": -24.8, "columns": 4500}

# Its ids: 1 where z < 0, else 2 + the number of sweeps before; its time: the sum of all coordinates.
PEER = """
import sys, struct, numpy as np
before = 0
while head := sys.stdin.buffer.read(4):
    count, = struct.unpack("<i", head)
    xyz = np.frombuffer(sys.stdin.buffer.read(12 * count), "<f4").reshape(-1, 3)
    ids = np.where(xyz[:, 2] < 0, 1, 2 + before).astype("<i4")
    sys.stdout.buffer.write(ids.tobytes() + struct.pack("<d", xyz.sum()))
    sys.stdout.buffer.flush()
    before += 1
"""
ANSWER = "import sys, struct; sys.stdin.buffer.read(16); sys.stdout.buffer.write(struct.pack({}))"


@pytest.fixture(scope="module")
def programs() -> Iterator[types.ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("proposal_programs")


@pytest.fixture(scope="module")
def proposals() -> Iterator[types.ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        patch.setenv("OMP_NUM_THREADS", "1")  # it sets them for its process
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        yield importlib.import_module("proposals")


def sweep(*xyz: tuple[float, float, float]) -> Sweep:
    return Sweep(0, "lidar", np.array(xyz, dtype=np.float32).reshape(-1, 3))


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def test_one_program_answers_sweep_after_sweep(programs: types.ModuleType) -> None:
    first = sweep((1, 2, -0.5), (4, 5, 6), (0, 0, 0.25))
    with programs.Program("mine", python(PEER), TOLD) as program:
        ids, took = program(first)
        assert ids.tolist() == [1, 2, 2]
        assert took == 17.75
        assert program(sweep())[0].tolist() == []
        column_by_column = Sweep(0, "lidar", np.asfortranarray(first.xyz))
        assert program(column_by_column)[0].tolist() == [1, 4, 4]


def test_large_sweeps_fit_through_the_pipe(programs: types.ModuleType) -> None:
    xyz = np.random.default_rng(0).normal(size=(300_000, 3)).astype(np.float32)
    with programs.Program("mine", python(PEER.replace("xyz.sum()", "0.5")), TOLD) as program:
        ids, _ = program(Sweep(0, "lidar", xyz))
    assert np.array_equal(ids, np.where(xyz[:, 2] < 0, 1, 2))


def test_it_is_told_of_the_lidar_and_sees_no_shell(programs: types.ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "told"
    write = "import sys; open(sys.argv[1], 'w').write('|'.join(sys.argv[2:]))"
    words = ["{rows}x{columns}", "{low}", "{other}", "$HOME; echo", "`id`"]
    with programs.Program("mine", python(write, str(out), *words), TOLD):
        pass
    assert out.read_text() == "64x4500|-24.8|{other}|$HOME; echo|`id`"


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (["/nowhere/method"], "/nowhere/method: does not exist"),
        (python("raise SystemExit(3)"), "ended before its answer, with status 3"),
        (python(ANSWER.format("'<i', 2")), "ended before its answer, with status 0"),
        (python("import time; time.sleep(60)"), "no answer within 0.2 s"),
        (python(ANSWER.format("'<id', -1, 0.0")), "ids must lie in 0 to 65535, has -1 to -1"),
        (python("print('Loading the model ...')"), "ids must lie in 0 to 65535, has 1684107084 to 1684107084"),
        (python(ANSWER.format("'<id', 2, float('nan')")), "nan s of processor time"),
        (python(ANSWER.format("'<id', 2, -1.0")), "-1 s of processor time"),
    ],
)
def test_what_is_no_answer_costs_one_line(programs: types.ModuleType, command: list[str], what: str) -> None:
    with (
        pytest.raises(DsegError) as caught,
        programs.Program("mine", command, {}, patience=0.2 if "no answer" in what else 60.0) as program,
    ):
        program(sweep((1, 2, 3)))
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)
    assert command[0] == "/nowhere/method" or "program 'mine'" in str(caught.value)


def test_names_and_commands(programs: types.ModuleType) -> None:
    name, words = programs.named_command("TRAVEL, C++ = ./travel '--low=a b' {low}")
    assert (name, words) == ("TRAVEL, C++", ["./travel", "--low=a b", "{low}"])
    for wrong in ("travel", "travel=", "=travel", "travel='"):
        with pytest.raises(argparse.ArgumentTypeError, match="travel"):
            programs.named_command(wrong)


def test_the_fastest_turn_of_each_sweep_counts(proposals: types.ModuleType) -> None:
    rng = np.random.default_rng(0)
    road = np.c_[rng.uniform(3, 30, 500), rng.uniform(-3, 3, 500), rng.normal(-1.7, 0.01, 500)]
    xyz = np.r_[road, road[:50] + np.array([0, 0, 1])].astype(np.float32)
    sweeps = [Sweep(0, "lidar", xyz), Sweep(0, "lidar", xyz)]
    seconds = iter([9.0, 0.004, 0.002, 0.003, 0.006])  # the first call compiles; then two turns of two sweeps

    def slow(given: Sweep) -> tuple[np.ndarray, float]:
        return np.full(len(given), 2), next(seconds)

    def fast(given: Sweep) -> tuple[np.ndarray, float]:
        return np.ones(len(given), int), 0.001

    found = proposals.measure({"fast": fast, "slow": slow}, sweeps, 2)
    assert found["slow"][0].tolist() == [3.0, 2.0]
    assert found["slow"][1][:, :3].tolist() == [[100.0, 100.0, 0.0]] * 2  # all is one segment, the road too
    rows = proposals.table(found).splitlines()
    assert rows[2].startswith("| fast | 1.0 (1.0) | 1.0 | 0.00 | 0.0 | 100.00 |")
    assert rows[3].startswith("| slow | 2.5 (3.0) | 2.5 | 100.00 | 100.0 | 0.00 |")


def test_only_what_is_there_can_be_chosen(proposals: types.ModuleType) -> None:
    lidar = proposals.Lidar(1.73, 64, (-24.8, 2.0), 4500, 64)
    with proposals.peers(lidar, ["dseg, range image"], [("mine", python(PEER))]) as methods:
        assert list(methods) == ["dseg, range image", "mine"]
        assert methods["mine"](sweep((0, 0, -1), (1, 0, 1)))[0].tolist() == [1, 2]
    with pytest.raises(DsegError, match="--only: 'dseg' is not installed"), proposals.peers(lidar, ["dseg"], []):
        pass
    with pytest.raises(DsegError, match="is the name of another method"):
        proposals.peers(lidar, [], [("depth clustering", python(PEER))]).__enter__()
