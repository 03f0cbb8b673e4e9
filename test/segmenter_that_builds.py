"""The segmenter's executable where a model whose name begins with `slow` needs building first, and `heavy` loads long.

An engine can be built on a GPU only, so what builds is another one here: it waits for the files `share` (how much is
done), `done` and `broken` beside the model, and loses its GPU when there is a file `lost`. Everything else is the real
node.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dseg_core.errors import DsegError
from dseg_core.runtime.cuda_memory import GpuLostError
from dseg_core.runtime.predictor import Predictor, open_model
from dseg_ros import live_model, segmenter_node


def open_slowly(
    path: Path,
    backend: str,
    threads: int,
    engine: Any,
    building: Callable[[float], None],
    stop: Callable[[], bool],
) -> Predictor:
    """As `open_model`."""
    if path.name.startswith("slow"):
        print("the building begins", flush=True)
        while not (path.parent / "done").exists():
            share = path.parent / "share"
            building(float(share.read_text()) if share.exists() else 0.0)
            if (path.parent / "broken").exists():
                raise DsegError("no engine can be built of it", where=path)
            if stop():
                print("the building is broken off", flush=True)
                raise DsegError("was broken off", where=path)
            time.sleep(0.01)
    if path.name.startswith("heavy"):
        print("the loading begins", flush=True)
        while not (path.parent / "done").exists():
            time.sleep(0.01)
    found = open_model(path, backend, threads, engine, building, stop)
    run = found.backend.run

    def run_or_fail(images: Any) -> Any:
        if (path.parent / "lost").exists():
            raise GpuLostError("the GPU failed while it computed: misaligned address")
        return run(images)

    found.backend.run = run_or_fail  # type: ignore[method-assign]
    return found


live_model.open_model = open_slowly
sys.exit(segmenter_node.main())
