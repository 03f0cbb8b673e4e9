"""Training curves: one JSON object a line, and the same for TensorBoard."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from dseg_core.progress import write_whole


class Curves:
    """Writer of `out/curves.jsonl` and `out/tensorboard/PHASE`.

    Points of this phase after step `first` are from a run that was cut off after its last checkpoint; they are taken
    out, since they will be written again.
    """

    def __init__(self, out: Path, phase: str, first: int) -> None:
        self._path, self._phase = out / "curves.jsonl", phase
        self._started = time.monotonic()
        kept = [p for p in read_curves(out) if p["phase"] != phase or int(p["step"]) <= first]
        write_whole(self._path, "".join(json.dumps(p) + "\n" for p in kept).encode())
        self._board = SummaryWriter(str(out / "tensorboard" / phase), purge_step=first + 1 if first else None)

    def write(self, step: int, **values: float) -> None:
        """Append a point; `seconds` counts from the start of this call of the training."""
        point = {"phase": self._phase, "step": step, "seconds": round(time.monotonic() - self._started, 3), **values}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(point) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def __enter__(self) -> Curves:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._board.close()


def read_curves(run: Path) -> list[dict[str, float | str]]:
    """The points of a run, in the order of writing; a last line that was cut off is left out."""
    path = run / "curves.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # what follows the last line break is no whole line
    return [json.loads(line) for line in lines if line]
