"""What a process that helps to compile does, see `compiling_helpers`: little before it knows that it is needed."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path

from dseg_core.claims import claim


def main(folder: Path, most: int) -> None:
    """Compile the loops of recording, the longest first, but those that another process is at.

    Args:
        folder: Where loops are kept.
        most: Helpers that may be at work for it; one more ends at once.
    """
    _end_with_starter()
    for number in range(most):
        with claim(folder, number, wait=False) as is_free:
            if is_free:
                _help()
                return


def _help() -> None:
    from dseg_core.compiling import compile_if_free
    from dseg_core.loops_compiled import calls_by_need

    for calls in calls_by_need():  # at the starter's own priority, who may wait for any of them
        for call in calls:
            compile_if_free(*call)


def _end_with_starter() -> None:
    """Let the system end this process when the one that started it has ended in any way, or memory is short."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever starts it may have to compile before it can end
    signal.signal(signal.SIGIO, signal.SIG_DFL)  # which ends it, also while it is compiling
    fcntl.fcntl(sys.stdin, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(sys.stdin, fcntl.F_SETFL, fcntl.fcntl(sys.stdin, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([sys.stdin], [], [], 0)[0]:  # it has ended before
        raise SystemExit
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
