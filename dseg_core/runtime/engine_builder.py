"""Starts the process that builds an engine, follows what it tells, and ends it when it is not wanted any more."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import IO

from dseg_core.errors import DsegError, printable
from dseg_core.runtime import engine_process
from dseg_core.runtime.engine_process import BuildJob
from dseg_core.runtime.tensorrt_library import LOG

_PATIENCE = 0.1  # seconds between two questions whether to stop


class EngineStoppedError(DsegError):
    """Building an engine was stopped by whoever asked for it."""


def built(job: BuildJob, stop: Callable[[], bool] | None = None) -> Generator[float, None, None]:
    """Build in a process of its own; ends when `job.out` is written.

    Args:
        job: What to build.
        stop: Asked ten times a second; once true, the process is killed.

    Yields:
        The share that is done, 0 to 1.

    Raises:
        DsegError: It could not be built.
        EngineStoppedError: `stop` said so.
    """
    # By its file: `-m` would look for modules in the working directory first, whoever can write there. And with the
    # same path as here, wherever dseg and the libraries come from.
    command = [sys.executable, engine_process.__file__]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(place or str(Path.cwd()) for place in sys.path)}
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(  # noqa: S603  # nothing of it is from data
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
            )
        except OSError as error:
            raise DsegError(f"no process can be started to build it: {error.strerror}", where=job.model) from None
        try:
            yield 0.0
            yield from _followed(process, job, stop, errors)
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _followed(
    process: subprocess.Popen[bytes], job: BuildJob, stop: Callable[[], bool] | None, errors: IO[bytes]
) -> Iterator[float]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process was started without pipes")
    try:
        process.stdin.write(job.to_json().encode() + b"\n")
        process.stdin.flush()  # and stays open: the process ends when it is closed
    except BrokenPipeError:
        pass  # it died at once; what it said is read below
    for line in _lines(process.stdout, job, stop):
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if "share" in told:
            yield float(told["share"])
        elif "log" in told:
            LOG.info("%s", printable(told["log"]))
        elif "failed" in told:
            raise DsegError(str(told["failed"]), fix=str(told.get("fix", "")))
        elif "done" in told:
            yield 1.0
            return
    status = process.wait()
    how = f"by signal {-status}" if status < 0 else f"with status {status}"
    raise DsegError(f"{job.library} ended {how} while it built an engine: {_last(errors)}", where=job.model)


def _lines(pipe: IO[bytes], job: BuildJob, stop: Callable[[], bool] | None) -> Iterator[bytes]:
    """What the process writes, line by line, until it ends."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if stop is not None and stop():
                raise EngineStoppedError("building the engine was stopped", where=job.model)
            if not selector.select(_PATIENCE):
                continue
            read = os.read(pipe.fileno(), 65536)
            if not read:
                return
            *whole, rest = (rest + read).split(b"\n")
            yield from whole


def _last(errors: IO[bytes]) -> str:
    """The last line that the process wrote to its standard error."""
    errors.seek(0)
    lines = errors.read()[-4096:].decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it does not say why"
