"""Where everything on the vehicle is mounted, and how the vehicle moves, from a bag."""

from __future__ import annotations

from collections import Counter, defaultdict
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
    """All transforms, and notes about those that are left out. Odometry counts only where /tf has nothing that moves.

    Args:
        reader: The bag, open.
        calibration: A file with transforms. What the bag says of the same frames does not count then.

    Raises:
        DsegError: Transforms that make a loop, or a calibration file that cannot be read.
    """
    tree = TransformTree() if calibration is None else TransformTree.from_calibration(calibration)
    motion = [topic.name for topic in reader.of_type(ODOMETRY_TYPE)]
    transforms = [topic.name for topic in reader.of_type(*TF_TYPES)]
    odometry, left_out = defaultdict[str, list[Any]](list), _LeftOut()
    for message in reader.messages({*motion, *transforms}):
        if message.topic in motion:
            odometry[message.topic].append(message.data)
        else:
            for transform in message.data.transforms:
                edge = f"{message.topic}: {transform.header.frame_id} -> {transform.child_frame_id}"
                try:
                    parent, child, T = transform_from_message(transform)
                except TransformError as error:  # of a node that has not begun to work, mostly
                    left_out.add(edge, error.what)
                    continue
                if calibration is not None and child.lstrip("/") in tree.given:
                    left_out.add(edge, f"{calibration.name} has it")
                    continue
                static = message.topic.endswith("tf_static")
                try:
                    tree.add(parent, child, T, None if static else stamp_ns(transform))
                except TransformError as error:
                    raise DsegError(f"{message.topic}: {error.what}", where=reader.path, fix=error.fix) from None
    notes = left_out.notes("transform")
    settled = tree.settle()
    if settled:
        notes.append(f"{', '.join(settled)}: never move on /tf, so they are taken as mounted")
    if odometry:
        # Poses of several sources, mixed, would be a vehicle that jumps to and fro.
        chosen = max(sorted(odometry), key=lambda topic: len(odometry[topic]))
        if tree.fixed_frame(odometry[chosen][0].child_frame_id) is None:
            try:
                notes += _add_odometry(tree, chosen, odometry[chosen])
            except TransformError as error:
                raise DsegError(f"{chosen}: {error.what}", where=reader.path, fix=error.fix) from None
            notes += [f"{topic} is left out: {chosen} has the odometry" for topic in sorted(odometry.keys() - {chosen})]
    return tree, notes


class _LeftOut:
    """What was left out, how often, and why: the first reason."""

    def __init__(self) -> None:
        self._count = Counter[str]()
        self._reasons: dict[str, str] = {}

    def add(self, what: str, reason: str) -> None:
        self._count[what] += 1
        self._reasons.setdefault(what, reason)

    def notes(self, kind: str) -> list[str]:
        return [f"{what}: {count(n, kind)} left out: {self._reasons[what]}" for what, n in self._count.items()]


def _add_odometry(tree: TransformTree, topic: str, odometry: Sequence[Any]) -> list[str]:
    """Hang the vehicle's topmost frame below the odometry's, so that nothing that /tf has hung up is cut off.

    Returns:
        Notes on what is left out.
    """
    vehicle, left_out = odometry[0].child_frame_id, _LeftOut()
    if not vehicle:
        return [f"{topic} is left out: its poses have no child_frame_id"]
    root = tree.root(vehicle)
    T_vehicle_root = tree.lookup(vehicle, root, 0)  # static, as nothing moves above the vehicle yet
    for data in odometry:
        try:
            parent, child, T_parent_vehicle = odometry_from_message(data)
        except TransformError as error:
            left_out.add(topic, error.what)
            continue
        if child == vehicle:
            tree.add(parent, root, T_parent_vehicle @ T_vehicle_root, stamp_ns(data))
        else:
            left_out.add(topic, f"the pose of {child}, not of {vehicle}")
    return left_out.notes("pose")
