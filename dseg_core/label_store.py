"""Pseudo-labels of a folder of frames, on disk."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.progress import write_whole
from dseg_core.records import ViewKey


class LabelStore:
    """Pseudo-labels of a folder of frames: `FRAMES/labels/NAME/masks/DRIVE/CAMERA/STAMP.png` and `classes.yaml`.

    Masks are uint8 (H, W): 0 ground, 1.. clusters, 255 unlabelled.
    """

    def __init__(self, frames: Path, name: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise DsegError(
                f"{name!r} is no name for labels", fix="Use letters, digits, `_`, `.` and `-`, the first no `.` or `-`"
            )
        self.path = frames / "labels" / name

    @property
    def classes(self) -> ClassTable:
        """classes.yaml as it is now. Raises DsegError."""
        if not self.path.is_dir():
            raise DsegError("there are no such labels", where=self.path, fix="`dseg label FRAMES` makes them")
        return ClassTable.read(self.path / "classes.yaml")

    def keys(self) -> tuple[ViewKey, ...]:
        """The views that have a mask, sorted. Raises DsegError for a picture that is none."""
        found = []
        for path in self.path.glob("masks/*/*/*.png"):
            if path.name.startswith("."):
                continue
            if not re.fullmatch(r"-?[0-9]+", path.stem):
                raise DsegError("is no mask: their names are stamps", where=path, fix="Move it elsewhere")
            found.append(ViewKey(path.parts[-3], int(path.stem), path.parts[-2]))
        return tuple(sorted(found))

    def mask(self, key: ViewKey) -> NDArray[np.uint8]:
        """The mask of a view. Raises DsegError when it is missing or broken."""
        path = self._mask_path(key)
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
        if mask is None or mask.dtype != np.uint8 or mask.ndim != 2:
            raise DsegError("is no 8-bit mask", where=path, fix="Run `dseg label` again")
        return np.asarray(mask, dtype=np.uint8)

    def write_mask(self, key: ViewKey, mask: NDArray[np.uint8]) -> None:
        """Write a mask, whole or not at all."""
        write_whole(self._mask_path(key), cv2.imencode(".png", mask)[1].tobytes())

    def _mask_path(self, key: ViewKey) -> Path:
        return self.path / "masks" / key.drive / key.camera / f"{key.stamp_ns}.png"
