"""Processes that compile loops beside this one: its first sweep waits for half as long, or less."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba

from dseg_core.compiled_files import folder_of, is_kept
from dseg_core.lidar.cell_labels import label_cells
from dseg_core.lidar.fragments import join_fragments
from dseg_core.region_patches import patches

_LONGEST = (patches, label_cells, join_fragments)
_MOST = 5  # with more, all would wait for the longest loop
_MEMORY = 2**29  # bytes for each, and for this process
_GROUP = Path("/sys/fs/cgroup")  # of a container
_HELP = """
import sys
folder, most, *sys.path = sys.argv[1:]
from pathlib import Path
from dseg_core.compiling_helper import main
main(Path(folder), int(most))
"""


def help_compiling(*loops: Any) -> bool:
    """Have other processes compile, too, when loops of recording are not in numba's cache yet.

    They end with this process however it ends, and write nothing to the terminal.

    Args:
        loops: Decorated by `compiled`. They stand for all; none given, those that take longest and are needed last, so
            that a first run that was interrupted has left one of them.

    Returns:
        Whether loops are compiled now, once for this machine. False where nothing can be kept: `compiled` says that.
    """
    loops = loops or _LONGEST
    folder = None if numba.config.DISABLE_JIT else folder_of(loops[0])
    if folder is None or all(loop.signatures or is_kept(loop) for loop in loops):
        return False
    start_helpers(folder)
    return True


def say_and_help_compiling(what: str, *loops: Any) -> None:
    """As `help_compiling`, with a line on stderr. `what`: begins with the compilation."""
    if help_compiling(*loops):
        print(f"{what}: compiling once for this machine, 10 to 30 s", file=sys.stderr, flush=True)


def start_helpers(folder: Path) -> None:
    """Have processes compile all loops of recording but those that another is at. `folder`: where these are kept.

    As many as cores and memory allow, with those that other processes have started for the folder: one more ends at
    once.
    """
    if getattr(sys, "frozen", False) or not Path(sys.executable or "").name.startswith("python"):
        return  # the program that runs this is no interpreter
    most = min(_cores() - 1, _memory() // _MEMORY - 1, _MOST)
    flags = ["-I", *(["-B"] if sys.dont_write_bytecode else []), "-W", "ignore"]
    paths = [str(Path(path).absolute()) for path in sys.path]
    cache = {"NUMBA_CACHE_DIR": numba.config.CACHE_DIR} if numba.config.CACHE_DIR else {}
    for _ in range(most):
        with suppress(OSError):  # as where no more processes are allowed: then this one compiles by itself
            helper = subprocess.Popen(  # noqa: S603  # this interpreter
                [sys.executable, *flags, "-c", _HELP, str(folder), str(most), *paths],
                stdin=subprocess.PIPE,  # closed with this process, by which the helper ends
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | cache,
            )
            threading.Thread(target=_wait, args=(helper,), daemon=True, name="helper to compile").start()


def _wait(helper: subprocess.Popen[bytes]) -> None:
    """So that nothing is left of it in the system's table while this process goes on."""
    helper.wait()
    if helper.stdin is not None:
        helper.stdin.close()


def _cores() -> int:
    """That this process may use, by its affinity and its container's share."""
    cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        share, period = map(int, (_GROUP / "cpu.max").read_text().split())
        cores = min(cores, share // period)
    return cores


def _memory() -> int:
    """Bytes that are left for this machine's processes, and for its container's."""
    free = [2**62]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    with suppress(OSError, ValueError):
        free.append(int((_GROUP / "memory.max").read_text()) - int((_GROUP / "memory.current").read_text()))
    return min(free)
