"""The vehicle itself, as its sensors see it: which points and which pixels are not the street's."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from dseg_core.errors import DsegError
from dseg_core.records import Sweep
from dseg_core.stage_options import EgoOptions
from dseg_core.transforms import TransformTree


class Ego:
    """Masks of one drive.

    Args:
        options: The box and the images.
        cameras: Width and height of each camera's images.
        absent: Cameras that are not there yet, whose masks are not needed.

    Raises:
        DsegError: A mask cannot be read or has another size than its camera's images.
    """

    def __init__(self, options: EgoOptions, cameras: Mapping[str, tuple[int, int]], absent: Sequence[str] = ()) -> None:
        self._options = options
        files = options.mask_files((*cameras, *absent))
        self._masks = {camera: _mask(path, cameras[camera]) for camera, path in files.items() if camera in cameras}
        self._lock = threading.Lock()
        self.taken = 0
        """Points that the box took so far."""
        self.looked_at = 0
        """All points of these sweeps; 0 without a box."""

    def without_ego(self, sweep: Sweep, tree: TransformTree, counted: bool = True) -> Sweep:
        """The sweep with the vehicle's own points moved to the origin, where nothing is a measurement; from any thread.

        Args:
            sweep: As measured.
            tree: Where the box's frame is.
            counted: Whether the points are added to `taken` and `looked_at`.

        Raises:
            TransformError: The box's frame is not connected with the sweep's.
        """
        if not self._options.box:
            return sweep
        xyz: NDArray[np.floating] = sweep.xyz
        if self._options.frame and self._options.frame != sweep.frame_id:
            T = tree.lookup(self._options.frame, sweep.frame_id, sweep.stamp_ns)
            xyz = xyz @ T[:3, :3].T + T[:3, 3]
        corners = np.array(self._options.box).reshape(2, 3)
        inside = ((xyz >= corners.min(axis=0)) & (xyz <= corners.max(axis=0))).all(axis=1)
        if counted:
            with self._lock:
                self.taken += int(np.count_nonzero(inside))
                self.looked_at += len(sweep)
        return replace(sweep, xyz=np.where(inside[:, None], np.float32(0), sweep.xyz))

    def clear(self, camera: str, regions: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Regions uint16 (H, W) without those on the vehicle itself."""
        mask = self._masks.get(camera)
        if mask is None:
            return regions
        if mask.shape != regions.shape:  # the camera's images are smaller than its camera_info
            size = (regions.shape[1], regions.shape[0])
            mask = np.asarray(PIL.Image.fromarray(mask).resize(size, PIL.Image.Resampling.NEAREST))
        return np.where(mask, np.uint16(0), regions)


def _mask(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    try:
        with PIL.Image.open(path) as image:
            mask = np.asarray(image.convert("L")) > 0
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is none"
        raise DsegError(f"cannot be read as an image: {why}", where=path, fix="Give a PNG as CAMERA:FILE.png") from None
    if mask.shape != (size[1], size[0]):
        found = f"{mask.shape[1]}x{mask.shape[0]}"
        raise DsegError(f"has {found} pixels, its camera's images {size[0]}x{size[1]}", where=path)
    return mask
