"""Compiled loops where nothing can be written, where several processes compile at once, and from sweep to sweep."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import event
from numba.core.dispatcher import Dispatcher
from numpy.typing import NDArray

from dseg_core.compiling import CompilingStopped, compiled, compiled_within, while_compiling_is_stopped
from dseg_core.lidar import clustering, ground, points, range_image, rows
from dseg_core.lidar.scratch import Scratch
from dseg_core.proposals_from_sweep import proposals_from_sweep
from dseg_core.records import Sweep
from dseg_core.stage_options import ProposalOptions

ROOT = Path(__file__).parents[1]
LOOPS = """
from dseg_core.compiling import compiled

@compiled
def inner(x):
    return x * x

@compiled
def squares(found):
    for i in range(len(found)):
        found[i] = inner(i)
"""
SAID = "\nsay_and_help_compiling('this', loops.inner)"  # nothing: it is said already
RUN = """
import numpy, loops
from dseg_core.compiling_helpers import say_and_help_compiling
found = numpy.zeros(5)
loops.squares(found)
print(*found, sum(loops.squares.stats.cache_hits.values()))
"""


def run(folder: Path, code: str, **environment: str) -> subprocess.Popen[str]:
    """A process whose own module of loops lies in a folder."""
    paths = f"{folder}{os.pathsep}{ROOT}"
    kept = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "HOME", "XDG_CACHE_HOME")}
    kept |= {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"} | environment
    return subprocess.Popen(
        [sys.executable, "-c", code], env=kept, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    )


def test_loops_are_compiled_anew_when_one_that_they_call_has_changed(tmp_path: Path) -> None:
    inner, _, outer = LOOPS.partition("@compiled\ndef squares")
    (tmp_path / "inside.py").write_text(inner)
    (tmp_path / "loops.py").write_text(f"from inside import compiled, inner\n\n@compiled\ndef squares{outer}")
    for power, hits in ((2, 0), (2, 1), (3, 0)):
        (tmp_path / "inside.py").write_text(inner if power == 2 else inner.replace("x * x", "x * x * x"))
        process = run(tmp_path, RUN, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out.split() == [*(str(float(n**power)) for n in range(5)), str(hits)]


def test_nothing_can_be_written(tmp_path: Path) -> None:
    """No folder beside the source, none of the user's: compiled all the same, and said in one line."""
    (tmp_path / "loops.py").write_text(LOOPS)
    (tmp_path / "__pycache__").write_text("a file: no folder can be made in its place, not even by root")
    nowhere = {k: str(tmp_path / "__pycache__") for k in ("HOME", "XDG_CACHE_HOME")}
    process = run(tmp_path, RUN + SAID, **nowhere)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out == "0.0 1.0 4.0 9.0 16.0 0\n"
    assert err == "no folder can be written to keep compiled loops: compiling in every process. Set NUMBA_CACHE_DIR\n"


@pytest.mark.parametrize("where", ["beside the source", "the user's", "as told"])
def test_processes_compile_at_once(tmp_path: Path, where: str) -> None:
    """Four processes with the same empty folder; what they leave there is good for the next, that compiles nothing."""
    (tmp_path / "loops.py").write_text(LOOPS)
    environment = {"HOME": str(tmp_path / "home")}
    if where != "beside the source":
        (tmp_path / "__pycache__").touch()
    if where == "as told":
        environment["NUMBA_CACHE_DIR"] = str(tmp_path / "told")
    for compiling, count in ((1, 4), (0, 1)):
        hits = 0
        for process in [run(tmp_path, RUN, **environment) for _ in range(count)]:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0 and not err, err
            *found, hit = out.split()
            assert found == ["0.0", "1.0", "4.0", "9.0", "16.0"]
            hits += int(hit)
        assert count - hits == compiling, "the others wait for it"


FORK = """
import os, threading, time
import numpy, loops
from numba.core.compiler_lock import global_compiler_lock
held = threading.Event()
def hold():
    with global_compiler_lock:
        held.set()
        time.sleep(0.5)
threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if child:
    raise SystemExit(os.waitpid(child, 0)[1])
found = numpy.zeros(5)
loops.squares(found)
print(*found, flush=True)
os._exit(0)
"""


def test_a_process_forked_while_another_thread_compiles_can_compile(tmp_path: Path) -> None:
    (tmp_path / "loops.py").write_text(LOOPS)
    process = run(tmp_path, FORK)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and out == "0.0 1.0 4.0 9.0 16.0\n", err


def damaged(data: bytes, how: str) -> bytes:
    """As power cuts and worn flash leave files."""
    half = len(data) // 2
    return {
        "empty": b"",
        "half": data[:half],
        "zeros": data[:half] + bytes(len(data) - half),
        "a byte": data[:half] + bytes([data[half] ^ 255]) + data[half + 1 :],
    }[how]


@pytest.mark.parametrize(
    ("file", "how"), [("*.nbi", "empty"), ("*.nbi", "half"), ("*.nbc", "zeros"), ("*.nbc", "a byte")]
)
def test_damaged_files_cost_compiling_anew(tmp_path: Path, file: str, how: str) -> None:
    (tmp_path / "loops.py").write_text(LOOPS)
    cache = tmp_path / "cache"
    for again, hits in ((False, 0), (True, 0), (False, 1)):
        if again:
            for path in cache.rglob(file):
                path.write_bytes(damaged(path.read_bytes(), how))
        out, err = run(tmp_path, RUN, NUMBA_CACHE_DIR=str(cache)).communicate(timeout=120)
        assert out.split() == ["0.0", "1.0", "4.0", "9.0", "16.0", str(hits)], err
        folder = next(cache.rglob("*.nbi")).parent
        told = f"compiled loops in {folder} cannot be used (damaged): compiling anew\n"
        assert err == (told if again else "")


FULL = "import small_files\nwith small_files.small_files(4_000):\n    "


def test_a_full_disk_costs_a_line(tmp_path: Path) -> None:
    """The folder of loops must be named: it need not be on the disk that is recorded to."""
    (tmp_path / "loops.py").write_text(LOOPS)
    shutil.copy(ROOT / "test/small_files.py", tmp_path)
    out, err = run(tmp_path, FULL + RUN.strip().replace("\n", "\n    ")).communicate(timeout=120)
    assert out == "0.0 1.0 4.0 9.0 16.0 0\n"
    assert err == (
        f"compiled loops cannot be kept in {tmp_path / '__pycache__'} (File too large): compiling in every process. "
        "Free some space there, or set NUMBA_CACHE_DIR\n"
    )
    assert not list(tmp_path.rglob("*.nbc")) and not list(tmp_path.rglob("*.tmp*"))


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "loops.py").write_text(LOOPS)
    (tmp_path / "told").touch()
    out, err = run(tmp_path, RUN, NUMBA_CACHE_DIR=str(tmp_path / "told")).communicate(timeout=120)
    assert out == "0.0 1.0 4.0 9.0 16.0 0\n" and err == (
        f"NUMBA_CACHE_DIR: nothing can be written to {tmp_path / 'told'}; "
        "compiled loops are kept with the user's others\n"
    )


def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr("numba.njit", fails)
    with pytest.raises(RuntimeError, match="something else"):
        compiled(len)


@compiled_within
def double(x: np.int32) -> np.int32:
    return x + x


@compiled
def doubled(found: NDArray[np.int32]) -> None:
    for i in range(len(found)):
        found[i] = double(found[i])


def test_a_loop_within_another_runs_in_python_too() -> None:
    found = np.array([1, 2**30], np.int32)
    doubled(found)
    np.testing.assert_array_equal(found, [2, -(2**31)])
    assert double(2**30) == 2**31, "as it is written, and not by a pointer to nothing: a Python number has no end"
    assert double.__name__ == "double"


@compiled
def tripled(found: NDArray[np.int32]) -> None:
    for i in range(len(found)):
        found[i] = 3 * found[i]


def test_threads_let_go_of_what_they_compile() -> None:
    """Those that are at it, and those that would begin; what is compiled already runs, and later all do."""
    found = np.ones(3, np.int32)
    doubled(found)
    with ThreadPoolExecutor(1) as pool:
        with while_compiling_is_stopped():
            assert isinstance(pool.submit(tripled, found.astype(np.float64)).exception(), CompilingStopped)
            pool.submit(doubled, found).result()
        pool.submit(tripled, found).result()
    np.testing.assert_array_equal(found, [12, 12, 12])


def test_loops_run_in_python_when_numba_is_told_so(tmp_path: Path) -> None:
    """As debuggers and measures of coverage need it."""
    (tmp_path / "loops.py").write_text(
        LOOPS.replace("@compiled\ndef inner", "@compiled_within\ndef inner", 1).replace(
            "import compiled", "import compiled, compiled_within"
        )
    )
    said = "\nsay_and_help_compiling('', loops.squares)"
    code = RUN.replace(", sum(loops.squares.stats.cache_hits.values())", "") + said
    process = run(tmp_path, code, NUMBA_DISABLE_JIT="1")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, "0.0 1.0 4.0 9.0 16.0\n", "")


class Collecting(event.Listener):
    """Whether garbage is collected while something is compiled."""

    def __init__(self) -> None:
        self.seen: list[bool] = []

    def on_start(self, event: event.Event) -> None:
        self.seen.append(gc.isenabled())

    def on_end(self, event: event.Event) -> None:
        pass


@pytest.mark.parametrize("was_on", [True, False])
def test_no_garbage_is_collected_while_compiling(was_on: bool) -> None:
    """Nor is collection left off after it, within other compilations or where one fails; nor put on."""
    assert gc.isenabled()
    with event.install_listener("numba:compile", Collecting()) as collecting:
        try:
            (gc.enable if was_on else gc.disable)()
            inner = numba.njit(lambda x: x + 1)
            assert numba.njit(lambda x: inner(x) * 2)(3) == 8
            after = gc.isenabled()
            with pytest.raises(numba.TypingError):
                numba.njit(lambda x: x.no_such_thing)(3)
            after_failure = gc.isenabled()
        finally:
            gc.enable()
    assert len(collecting.seen) == 3 and not any(collecting.seen)
    assert (after, after_failure) == (was_on, was_on)


def turning(seed: int, beams: int = 16, columns: int = 400) -> Sweep:
    """A turn over a plane with walls here and there, whose number of points is never the same."""
    rng = np.random.default_rng(seed)
    elevation, azimuth = np.deg2rad(np.linspace(8, -20, beams)), np.arange(columns) * 2 * np.pi / columns
    e, a = np.meshgrid(elevation, azimuth, indexing="ij")
    reach = np.where(np.sin(7 * a + seed) > 0.6, 12.0, np.minimum(-1.8 / np.minimum(np.sin(e), -0.03), 60.0))
    ray = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=-1)
    kept = rng.random(reach.shape) < 0.8
    ring = np.broadcast_to(np.arange(beams, dtype=np.uint16)[:, None], reach.shape)[kept]
    return Sweep(0, "lidar", (ray * reach[..., None])[kept].astype(np.float32), ring=ring)


def test_loops_are_compiled_for_one_kind_of_arguments() -> None:
    """Each further kind takes a second more in every process that meets it for the first time."""
    sweep = turning(0)
    read_only, apart = sweep.xyz.copy(), np.zeros((len(sweep), 4), np.float32)
    read_only.setflags(write=False)
    apart[:, :3] = sweep.xyz
    expected = proposals_from_sweep(sweep, ProposalOptions())
    for other in (replace(sweep, xyz=read_only), replace(sweep, xyz=apart[:, :3]), replace(sweep, ring=None)):
        np.testing.assert_array_equal(proposals_from_sweep(other, ProposalOptions()), expected)
    modules = (clustering, ground, points, range_image, rows)
    loops = {k: getattr(v, "_dispatcher", v) for m in modules for k, v in vars(m).items()}  # those within others, too
    found = {k: v for k, v in loops.items() if isinstance(v, Dispatcher)}
    assert len(found) > 10 and all(len(v.signatures) <= 1 for v in found.values()), "of each loop one at most"


def test_memory_does_not_grow_from_sweep_to_sweep() -> None:
    """Sweeps of other sizes, none larger than the first, are worked on in the memory that it took.

    An array of a sweep's points that were left behind would be 5 to 60 kB each time; NumPy keeps some 60 kB of small
    blocks for later.
    """
    options = ProposalOptions()
    sweeps = [turning(seed) for seed in range(20)]
    for sweep in (turning(0, beams=18), *sweeps):
        proposals_from_sweep(replace(sweep), options)
    places = [m._scratch._held for m in (clustering, ground, points, range_image, rows)]
    before = [{name: array.ctypes.data for name, array in held.items()} for held in places]
    tracemalloc.start()
    try:
        held = []
        for number in range(300):
            proposals_from_sweep(replace(sweeps[number % 20]), options)
            if number % 100 == 50:
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(held) - min(held) < 200_000, f"bytes held after 50, 150 and 250 sweeps: {held}"
    assert before == [{name: array.ctypes.data for name, array in held.items()} for held in places]
    assert all(before), "each of these modules has working memory"


@pytest.mark.parametrize("seed", range(4))
def test_what_working_memory_held_before_changes_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids are those of memory as it comes, also for points without a measurement and beyond the ground's grid."""
    sweeps = [turning(number) for number in range(3)]
    for sweep in sweeps:
        sweep.xyz[::50] = np.nan
        sweep.xyz[7::50] *= 30
    sweeps.append(replace(sweeps[0], ring=None))
    expected = [proposals_from_sweep(replace(sweep), ProposalOptions()) for sweep in sweeps]
    take, rng = Scratch.take, np.random.default_rng(seed)

    def filled(self: Scratch, *which: Any) -> NDArray[Any]:
        found = take(self, *which)
        found.reshape(-1).view(np.uint8)[:] = rng.integers(0, 256, found.nbytes, np.uint8)
        return found

    monkeypatch.setattr(Scratch, "take", filled)
    for sweep, ids in zip(sweeps, expected, strict=True):
        np.testing.assert_array_equal(proposals_from_sweep(replace(sweep), ProposalOptions()), ids)
