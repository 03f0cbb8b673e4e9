"""Layouts of data sets that other trainers read: Cityscapes' folders, shards of WebDataset."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from dseg_core.image_codecs import decode, encode_regions
from dseg_core.records import Frame, View


@dataclass(frozen=True, eq=False)
class Sample:
    """One view of a data set.

    `split`: "train" or "val". `drive`, `camera`: names without `_` and `.`, which layouts split names at.
    `stamp_ns`: the frame's. `source`: the drive's own name. `labels`: uint8 (H, W), ids of classes.json,
    255 unlabelled, or None. `frame`: with the sweep, where points are asked for.
    """

    split: str
    drive: str
    camera: str
    stamp_ns: int
    source: str
    view: View
    labels: NDArray[np.uint8] | None
    frame: Frame | None = None

    @property
    def key(self) -> str:
        """Its name in the data set: DRIVE_STAMP_CAMERA."""
        return f"{self.drive}_{self.stamp_ns}_{self.camera}"

    def about(self) -> dict[str, Any]:
        """Calibration, stamps [ns] and transform in plain JSON types."""
        view, camera = self.view, self.view.calibration
        return {
            "drive": self.source,
            "camera": view.camera,
            "stamp_ns": self.stamp_ns,
            "image_stamp_ns": view.stamp_ns,
            "T_image_sweep": view.T_image_sweep.tolist(),
            "motion_compensated": view.motion_compensated,
            "calibration": {
                "frame_id": camera.frame_id,
                "width": camera.width,
                "height": camera.height,
                "model": camera.model,
                "rectified": camera.rectified,
                **{name: getattr(camera, name).tolist() for name in "KDRP"},
            },
        }


class Writer(Protocol):
    """Writes samples, in order, below a folder."""

    def write(self, sample: Sample) -> None:
        """Add one sample."""

    def close(self) -> None:
        """End the data set."""


class CityscapesWriter:
    """leftImg8bit/, gtFine/ and camera/, each SPLIT/DRIVE/DRIVE_STAMP_CAMERA_....

    Images are 8-bit PNGs: a JPEG is decoded. `labelIds` are ids of classes.json, `instanceIds` the frame's regions as
    they are: 16 bit, 0 none, 1 ground, 2.. objects, not Cityscapes' class * 1000 + instance.
    """

    def __init__(self, out: Path) -> None:
        self.out = out

    def write(self, sample: Sample) -> None:
        """Add one sample. Raises DsegError when its image is broken."""
        image = sample.view.image
        data = image.data if image.format == "png" else _png(decode(image)[..., ::-1])
        self._put("leftImg8bit", sample, "leftImg8bit.png", data)
        self._put("gtFine", sample, "gtFine_instanceIds.png", encode_regions(sample.view.regions))
        if sample.labels is not None:
            self._put("gtFine", sample, "gtFine_labelIds.png", _png(sample.labels))
        content = {**cityscapes_camera(sample.view), "dseg": sample.about()}
        self._put("camera", sample, "camera.json", (json.dumps(content, indent=2) + "\n").encode())

    def close(self) -> None:
        """Nothing is left to do."""

    def _put(self, kind: str, sample: Sample, ending: str, data: bytes) -> None:
        path = self.out / kind / sample.split / sample.drive / f"{sample.key}_{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def cityscapes_camera(view: View) -> dict[str, dict[str, float]]:
    """Cityscapes' camera.json: pixels, metres, and radians about z (yaw), y (pitch, positive looks down), x (roll).

    The camera's axes are x forward, y left, z up there. Extrinsics are in the LiDAR's frame, where Cityscapes has the
    vehicle's; there is no second camera, so the baseline is 0. Distortion is not told: see the full calibration.
    """
    camera = view.calibration
    T_seen_optical = np.eye(4)
    if camera.rectified:  # rectifying turns the camera, and a stereo pair's right one stands beside its frame
        T_seen_optical[:3, :3] = camera.R
        T_seen_optical[:2, 3] = camera.P[:2, 3] / np.diag(camera.matrix)[:2]
    T = np.linalg.inv(T_seen_optical @ view.T_image_sweep)  # the camera in the sweep's frame
    optical_camera = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
    yaw, pitch, roll = Rotation.from_matrix(T[:3, :3] @ optical_camera).as_euler("ZYX")
    x, y, z = T[:3, 3].tolist()
    K = camera.matrix
    return {
        "extrinsic": {
            "baseline": 0.0, "pitch": float(pitch), "roll": float(roll), "yaw": float(yaw), "x": x, "y": y, "z": z,
        },
        "intrinsic": {"fx": float(K[0, 0]), "fy": float(K[1, 1]), "u0": float(K[0, 2]), "v0": float(K[1, 2])},
    }  # fmt: skip


class WebdatasetWriter:
    """SPLIT/000000.tar and on: of each sample the image as recorded, labels.png, regions.png, json, and points.

    Equal frames make equal bytes. Args: `shard_bytes`: a shard that has as many is closed.
    """

    def __init__(self, out: Path, shard_bytes: int) -> None:
        self.out, self.shard_bytes = out, shard_bytes
        self._tars: dict[str, tarfile.TarFile] = {}
        self._counts: dict[str, int] = {}

    def write(self, sample: Sample) -> None:
        """Add one sample, all of it to one shard."""
        tar = self._tar(sample.split)
        for name, data in sorted(_members(sample).items()):
            member = tarfile.TarInfo(f"{sample.key}.{name}")  # time, owner and group 0
            member.size = len(data)
            tar.addfile(member, BytesIO(data))

    def close(self) -> None:
        """Close the last shards."""
        for tar in self._tars.values():
            tar.close()
        self._tars.clear()

    def _tar(self, split: str) -> tarfile.TarFile:
        tar = self._tars.get(split)
        if tar is not None and tar.offset < self.shard_bytes:
            return tar
        if tar is not None:
            tar.close()
        number = self._counts.get(split, 0)
        self._counts[split] = number + 1
        path = self.out / split / f"{number:06d}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._tars[split] = tarfile.TarFile(path, "w", format=tarfile.PAX_FORMAT)  # long names
        return self._tars[split]


def _members(sample: Sample) -> dict[str, bytes]:
    image = sample.view.image
    made = {
        "jpg" if image.format == "jpeg" else "png": image.data,
        "json": json.dumps(sample.about()).encode(),
        "regions.png": encode_regions(sample.view.regions),
    }
    if sample.labels is not None:
        made["labels.png"] = _png(sample.labels)
    if sample.frame is not None:
        sweep = sample.frame.sweep
        made |= {"points.npy": _npy(sweep.xyz), "proposals.npy": _npy(sample.frame.proposals)}
        if sweep.intensity is not None:
            made["intensity.npy"] = _npy(sweep.intensity)
    return made


def _png(pixels: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _npy(array: NDArray[Any]) -> bytes:
    file = BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
