"""The truth of a bag's points, instances and boxes, by stamp."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dseg_core.bag import BagReader
from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.evaluation.box_scores import Box
from dseg_core.evaluation.truth import TRUTH_CLASSES
from dseg_core.messages import columns_from_cloud, stamp_ns
from dseg_core.transforms import TransformTree
from dseg_core.transforms_from_bag import transforms_from_bag

_CLOUD, _IMAGE, _MARKERS = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/Image", "visualization_msgs/msg/MarkerArray"
_CUBE, _ADD = 1, 0  # of visualization_msgs/Marker


@dataclass(frozen=True)
class PackedIds:
    """An array of ids, held compressed: a drive's truth fits into memory."""

    shape: tuple[int, ...]
    type: str
    data: bytes

    @classmethod
    def of(cls, ids: NDArray[Any]) -> PackedIds:
        """Compress any array."""
        return cls(ids.shape, ids.dtype.str, zlib.compress(np.ascontiguousarray(ids).tobytes(), 1))

    def unpack(self) -> NDArray[Any]:
        """The array."""
        return np.frombuffer(zlib.decompress(self.data), dtype=np.dtype(self.type)).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class SweepTruth:
    """What a bag tells about its sweeps and images.

    `classes`: of the ids in it. `points`: by the sweep's stamp, class (uint8) and instance of each point. `images`: by
    camera and the image's stamp, the same of each pixel. `boxes`: by stamp, each with its frame. `tree`: transforms
    between frames. Stamps are nanoseconds.
    """

    classes: ClassTable
    tree: TransformTree
    points: dict[int, tuple[PackedIds, PackedIds]] = field(default_factory=dict)
    images: dict[tuple[str, int], tuple[PackedIds, PackedIds]] = field(default_factory=dict)
    boxes: dict[int, list[tuple[str, Box]]] = field(default_factory=dict)

    def boxes_at(self, stamp: int, frame_id: str) -> list[Box]:
        """The boxes of a stamp in a LiDAR's frame.

        Raises:
            TransformError: No transform connects the frames.
        """
        return [_moved(box, self.tree.lookup(frame_id, frame, stamp)) for frame, box in self.boxes.get(stamp, ())]


def sweep_truth(bag: Path, boxes: str = "") -> SweepTruth:
    """Read a bag's truth.

    Points: clouds below `/truth/` with the fields semantic and instance, in the order and with the stamp of the sweep's
    points. Pixels: `/truth/CAMERA/semantic` (mono8) and `/truth/CAMERA/instance` (16 bits). Classes:
    `truth_classes.yaml` beside the bag's parts.

    Args:
        bag: The bag.
        boxes: Topic with annotated boxes, cubes of a MarkerArray with the sweeps' stamps; `text` or `ns` is the class.

    Raises:
        DsegError: There is no truth, or no such topic.
    """
    file = (bag if bag.is_dir() else bag.parent) / TRUTH_CLASSES
    with BagReader(bag) as reader:
        names = {t.name: t.type for t in reader.topics}
        if boxes and names.get(boxes) != _MARKERS:
            raise DsegError(f"has no {_MARKERS} on {boxes}", where=bag, fix="--boxes names a topic of annotated boxes")
        topics = {n for n, kind in names.items() if n.startswith("/truth/") and kind in (_CLOUD, _IMAGE)}
        if not boxes and not any(names[n] == _CLOUD for n in topics):
            raise DsegError(
                "carries no truth of its points",
                where=bag,
                fix="Score simulated drives, or give annotated --boxes TOPIC",
            )
        classes = ClassTable.read(file) if file.is_file() else ClassTable(())
        tree, _ = transforms_from_bag(reader, None)
        truth = SweepTruth(classes, tree)
        parts: dict[tuple[str, int], dict[str, PackedIds]] = {}
        for message in reader.messages(topics | ({boxes} if boxes else set())):
            if message.topic == boxes:
                _take_boxes(message.data, truth)
            elif names[message.topic] == _CLOUD:
                columns = columns_from_cloud(message.data)
                if {"semantic", "instance"} <= columns.keys():
                    semantic, instance = columns["semantic"].astype(np.uint8), columns["instance"].astype(np.int32)
                    truth.points[stamp_ns(message.data)] = PackedIds.of(semantic), PackedIds.of(instance)
            else:
                camera, _, kind = message.topic.removeprefix("/truth/").rpartition("/")
                key = camera.replace("/", "_"), stamp_ns(message.data)
                parts.setdefault(key, {})[kind] = PackedIds.of(_ids(message.data))
    for key, found in parts.items():
        if {"semantic", "instance"} <= found.keys():
            truth.images[key] = found["semantic"], found["instance"]
    return truth


def _ids(image: Any) -> NDArray[Any]:
    """The ids of an image of one 8- or 16-bit channel (H, W), as they are: not grey values."""
    kind = np.dtype(np.uint16 if str(image.encoding) in ("16UC1", "mono16") else np.uint8)
    kind = kind.newbyteorder(">" if image.is_bigendian else "<")
    rows = np.frombuffer(image.data, np.uint8).reshape(int(image.height), int(image.step))
    return np.ascontiguousarray(rows[:, : int(image.width) * kind.itemsize]).view(kind)


def _take_boxes(message: Any, truth: SweepTruth) -> None:
    for marker in message.markers:
        if (marker.type, marker.action) != (_CUBE, _ADD):
            continue
        p, q, size = marker.pose.position, marker.pose.orientation, marker.scale
        yaw = float(np.arctan2(2 * (q.w * q.z + q.x * q.y), 1 - 2 * (q.y * q.y + q.z * q.z)))
        box = Box(marker.text or marker.ns or "object", (p.x, p.y, p.z), (size.x, size.y, size.z), yaw)
        truth.boxes.setdefault(stamp_ns(marker), []).append((marker.header.frame_id, box))


def _moved(box: Box, T: NDArray[np.float64]) -> Box:
    """A box in another frame that is upright, too."""
    x, y, z, _ = (T @ np.append(box.center, 1.0)).tolist()
    return Box(box.name, (x, y, z), box.size, box.yaw + float(np.arctan2(T[1, 0], T[0, 0])))
