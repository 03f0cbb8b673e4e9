"""Where everything on the vehicle is mounted, and how the vehicle moves, from a bag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dseg_core.bag import BagReader
from dseg_core.errors import DsegError
from dseg_core.messages import odometry_from_message, stamp_ns, transform_from_message
from dseg_core.transforms import TransformError, TransformTree
from dseg_core.words import count

TF_TYPES, ODOMETRY_TYPE = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage"), "nav_msgs/msg/Odometry"


def transforms_from_bag(reader: BagReader, calibration: Path | None) -> tuple[TransformTree, list[str]]:
    """All transforms, and notes about those that are none. Odometry counts only where /tf has nothing that moves.

    Args:
        reader: The bag, open.
        calibration: A file with transforms, for bags without /tf_static.

    Raises:
        DsegError: Transforms that make a loop, or a calibration file that cannot be read.
    """
    tree = TransformTree() if calibration is None else TransformTree.from_calibration(calibration)
    motion = [topic.name for topic in reader.of_type(ODOMETRY_TYPE)]
    transforms = [topic.name for topic in reader.of_type(*TF_TYPES)]
    odometry, broken, reasons = [], Counter[str](), dict[str, str]()
    for message in reader.messages({*motion, *transforms}):
        if message.topic in motion:
            odometry.append(message.data)
        else:
            for transform in message.data.transforms:
                try:
                    parent, child, T = transform_from_message(transform)
                except TransformError as error:  # of a node that has not begun to work, mostly
                    broken[f"{message.topic}: {transform.header.frame_id} -> {transform.child_frame_id}"] += 1
                    reasons.setdefault(message.topic, error.what)
                    continue
                static = message.topic.endswith("tf_static")
                try:
                    tree.add(parent, child, T, None if static else stamp_ns(transform))
                except TransformError as error:
                    raise DsegError(f"{message.topic}: {error.what}", where=reader.path, fix=error.fix) from None
    if odometry and tree.fixed_frame(odometry[0].child_frame_id) is None:
        try:
            _add_odometry(tree, odometry)
        except TransformError as error:
            raise DsegError(f"{motion[0]}: {error.what}", where=reader.path, fix=error.fix) from None
    notes = [f"{edge}: {count(n, 'transform')} left out: {reasons[edge.split(':')[0]]}" for edge, n in broken.items()]
    return tree, notes


def _add_odometry(tree: TransformTree, odometry: Sequence[Any]) -> None:
    """Hang the vehicle's topmost frame below the odometry's, so that nothing that /tf has hung up is cut off."""
    vehicle = odometry[0].child_frame_id
    root = tree.root(vehicle)
    T_vehicle_root = tree.lookup(vehicle, root, 0)  # static, as nothing moves above the vehicle yet
    for data in odometry:
        parent, child, T_parent_vehicle = odometry_from_message(data)
        if child == vehicle:
            tree.add(parent, root, T_parent_vehicle @ T_vehicle_root, stamp_ns(data))
