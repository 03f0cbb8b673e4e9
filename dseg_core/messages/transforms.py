"""Transforms and odometry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dseg_core.messages.common import header, message
from dseg_core.transforms import Matrix, matrix_from_pose, pose_from_matrix


def transform_from_message(msg: Any) -> tuple[str, str, Matrix]:
    """Parent, child and T_parent_child of a geometry_msgs/TransformStamped. Raises TransformError."""
    t, q = msg.transform.translation, msg.transform.rotation
    return msg.header.frame_id, msg.child_frame_id, matrix_from_pose((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))


def odometry_from_message(msg: Any) -> tuple[str, str, Matrix]:
    """Parent, child and T_parent_child of a nav_msgs/Odometry. Raises TransformError."""
    p, q = msg.pose.pose.position, msg.pose.pose.orientation
    return msg.header.frame_id, msg.child_frame_id, matrix_from_pose((p.x, p.y, p.z), (q.x, q.y, q.z, q.w))


def transform_to_message(stamp: int, parent: str, child: str, T_parent_child: Matrix) -> Any:
    """geometry_msgs/TransformStamped."""
    translation, rotation = pose_from_matrix(T_parent_child)
    x, y, z = (float(v) for v in translation)
    qx, qy, qz, qw = (float(v) for v in rotation)
    moved = message(
        "geometry_msgs/msg/Transform",
        translation=message("geometry_msgs/msg/Vector3", x=x, y=y, z=z),
        rotation=message("geometry_msgs/msg/Quaternion", x=qx, y=qy, z=qz, w=qw),
    )
    head = header(stamp, parent)
    return message("geometry_msgs/msg/TransformStamped", header=head, child_frame_id=child, transform=moved)


def transforms_to_message(transforms: Iterable[tuple[int, str, str, Matrix]]) -> Any:
    """tf2_msgs/TFMessage of (stamp, parent, child, T_parent_child)."""
    return message("tf2_msgs/msg/TFMessage", transforms=[transform_to_message(*stamped) for stamped in transforms])
