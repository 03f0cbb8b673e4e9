"""Recording is killed, or runs out of disk: only the frame in flight is lost, nothing half-written looks whole."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bags import START_NS, write_bag
from ros_world import LIMIT

from dseg_core.errors import DsegError
from dseg_core.frame_writer import part_path, unfinished_part
from dseg_core.frames_from_bag import record
from dseg_core.stage_options import RecordOptions
from dseg_core.store import FrameStore, salvage

MANY = tuple(range(0, 30_000, 100))


def start(bag: Path, out: Path, most_bytes: int = 0) -> subprocess.Popen[str]:
    """`dseg record` in a process of its own; with `most_bytes`, files cannot grow beyond."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    command = [sys.executable, "-m", "dseg_core.cli", "record", str(bag), "--out", str(out), "--threads", "2"]
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TQDM_DISABLE": "1"},
        preexec_fn=limit if most_bytes else None,
    )


def whole_frames(out: Path) -> int:
    """Frames that the next run finds: in the finished part, or in what a kill left."""
    if part_path(out, "drive").exists():
        return len(FrameStore(out))
    left = unfinished_part(out, "drive")
    parts = [p for p in (left, left.with_name(left.name + ".cut")) if p.exists()]
    return max((sum(1 for _ in salvage(p, "drive")) for p in parts), default=0)


def kill_at_random(tmp_path: Path, kills: int, longest: float) -> None:
    bag, out, whole = write_bag(tmp_path / "drive", MANY, MANY), tmp_path / "frames", tmp_path / "whole"
    record([bag], whole, RecordOptions())
    rng, before, in_work = random.Random(kills), 0, 0
    for _ in range(20 * kills):
        if in_work == kills:
            break
        running = start(bag, out)
        deadline = time.monotonic() + LIMIT
        while not unfinished_part(out, "drive").exists() and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, longest))
        in_work += running.poll() is None  # where this process was held up, the run may have come to its end
        running.send_signal(signal.SIGKILL)
        running.communicate(timeout=LIMIT)
        found = whole_frames(out)
        assert found >= before, "a kill costs nothing that an earlier run had written"
        before = found
        if part_path(out, "drive").exists():
            part_path(out, "drive").unlink()  # once more from the beginning
            (out / "summary.json").unlink(missing_ok=True)
            before = 0
    assert in_work == kills, "kills hit runs at work"
    record([bag], out, RecordOptions())
    assert part_path(out, "drive").read_bytes() == part_path(whole, "drive").read_bytes()
    assert not list(out.glob("*.tmp")) and not list(out.glob("*.cut"))


def test_killed_at_random_moments(tmp_path: Path) -> None:
    kill_at_random(tmp_path, kills=3, longest=0.5)


@pytest.mark.slow
def test_killed_at_fifty_random_moments(tmp_path: Path) -> None:
    kill_at_random(tmp_path, kills=50, longest=0.8)


def test_a_full_disk_costs_one_line_and_is_finished_after(tmp_path: Path) -> None:
    bag, out = write_bag(tmp_path / "drive", MANY[:100], MANY[:100]), tmp_path / "frames"
    running = start(bag, out, most_bytes=400_000)
    _, shown = running.communicate(timeout=LIMIT)
    assert running.returncode == 1
    assert len(shown.splitlines()) == 1 and shown.startswith(f"dseg record: {out}: File too large. Write to")
    assert not part_path(out, "drive").exists() and not (out / "summary.json").exists()
    left = whole_frames(out)
    assert 0 < left < 100
    record([bag], out, RecordOptions())
    assert len(FrameStore(out)) == 100 and FrameStore(out).frame("drive", START_NS).views


def test_a_run_that_records_nothing_leaves_nothing_that_it_made(tmp_path: Path) -> None:
    bad = write_bag(tmp_path / "bad" / "drive", leave_out=["/camera/image_raw"])
    good = write_bag(tmp_path / "good" / "other", MANY[:3], MANY[:3])
    with pytest.raises(DsegError, match="no calibrated camera"):
        record([bad], tmp_path / "a" / "b" / "frames", RecordOptions())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "good"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "note.txt").touch()
    with pytest.raises(DsegError, match="no calibrated camera"):
        record([bad], mine, RecordOptions())
    assert [path.name for path in mine.iterdir()] == ["note.txt"], "what was there stays"
    record([good], mine, RecordOptions())
    before = sorted(mine.iterdir())
    with pytest.raises(DsegError, match="no calibrated camera"):
        record([bad], mine, RecordOptions())
    assert sorted(mine.iterdir()) == before and len(FrameStore(mine)) == 3, "frames stay"
    left = unfinished_part(tmp_path / "cut", "drive")
    left.parent.mkdir()
    left.write_bytes(b"what a kill left")
    with pytest.raises(DsegError, match="no calibrated camera"):
        record([bad], left.parent, RecordOptions())
    assert left.exists(), "and so does what can be salvaged"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_costs_one_line(tmp_path: Path) -> None:
    out = tmp_path / "frames"
    out.mkdir(mode=0o500)
    running = start(write_bag(tmp_path / "drive"), out)
    _, shown = running.communicate(timeout=LIMIT)
    assert running.returncode == 1 and len(shown.splitlines()) == 1 and "Permission denied" in shown


def test_a_place_that_is_no_folder_costs_one_line(tmp_path: Path) -> None:
    out = tmp_path / "frames"
    out.write_text("")
    running = start(write_bag(tmp_path / "drive"), out)
    _, shown = running.communicate(timeout=LIMIT)
    assert running.returncode == 1 and len(shown.splitlines()) == 1 and str(out) in shown
