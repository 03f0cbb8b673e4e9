"""What a simulated drive writes into its bag, topic by topic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dseg_core.bag import BagWriter
from dseg_core.cameras import Camera
from dseg_core.messages import (
    camera_to_message,
    cloud_to_message,
    header,
    image_to_message,
    message,
    transforms_to_message,
)
from dseg_core.simulation.meshes import Floats
from dseg_core.simulation.sensors import CameraSpec, LidarSpec, Measured, Shot
from dseg_core.transforms import pose_from_matrix


@dataclass(frozen=True, eq=False)
class DriveBag:
    """Writes measurements and truth. `log_ns` is when a driver would have published; stamps are the measurement's."""

    writer: BagWriter

    def mounting(self, stamp: int, cameras: list[CameraSpec], lidar: LidarSpec) -> None:
        """/tf_static: where the sensors sit."""
        edges = [(stamp, "base_link", "lidar", lidar.T_base_lidar)]
        edges += [(stamp, "base_link", c.frame_id, c.T_base_optical) for c in cameras]
        self.writer.write("/tf_static", transforms_to_message(edges), stamp)

    def odometry(self, stamp: int, T_odom_base: Floats, speed: float, turn_rate: float) -> None:
        """/tf and /odom: where the vehicle is, m/s and rad/s."""
        self.writer.write("/tf", transforms_to_message([(stamp, "odom", "base_link", T_odom_base)]), stamp)
        (x, y, z), (qx, qy, qz, qw) = (map(float, part) for part in pose_from_matrix(T_odom_base))
        pose = message(
            "geometry_msgs/msg/Pose",
            position=message("geometry_msgs/msg/Point", x=x, y=y, z=z),
            orientation=message("geometry_msgs/msg/Quaternion", x=qx, y=qy, z=qz, w=qw),
        )
        vector = "geometry_msgs/msg/Vector3"
        twist = message(
            "geometry_msgs/msg/Twist",
            linear=message(vector, x=speed, y=0.0, z=0.0),
            angular=message(vector, x=0.0, y=0.0, z=turn_rate),
        )
        exact = np.zeros(36)
        found = message(
            "nav_msgs/msg/Odometry",
            header=header(stamp, "odom"),
            child_frame_id="base_link",
            pose=message("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=exact),
            twist=message("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=exact),
        )
        self.writer.write("/odom", found, stamp)

    def shot(self, stamp: int, log_ns: int, spec: CameraSpec, shot: Shot) -> None:
        """An image, its calibration and its truth."""
        center = (spec.width - 1) / 2, (spec.height - 1) / 2
        camera = Camera.pinhole(spec.frame_id, spec.width, spec.height, spec.focal, spec.focal, *center)
        self.writer.write(f"/camera/{spec.name}/camera_info", camera_to_message(stamp, camera), log_ns)
        self._image(f"/camera/{spec.name}/image_raw", stamp, log_ns, spec, shot.rgb)
        self._image(f"/truth/camera_{spec.name}/semantic", stamp, log_ns, spec, shot.semantic)
        self._image(f"/truth/camera_{spec.name}/instance", stamp, log_ns, spec, shot.instance)

    def _image(self, topic: str, stamp: int, log_ns: int, spec: CameraSpec, pixels: NDArray[Any]) -> None:
        image = image_to_message(stamp, spec.frame_id, pixels)
        if pixels.itemsize == 2:
            image.encoding = "16UC1"  # ids, not grey values
        self.writer.write(topic, image, log_ns)

    def sweep(self, stamp: int, log_ns: int, found: Measured) -> None:
        """A sweep and, in the same order, its truth."""
        x, y, z = found.xyz.T
        points: dict[str, NDArray[Any]] = {"x": x, "y": y, "z": z, "intensity": found.intensity}
        points |= {"ring": found.ring, "t": found.time_ns}
        truth: dict[str, NDArray[Any]] = {"semantic": found.semantic, "instance": found.instance}
        self.writer.write("/lidar/points", cloud_to_message(stamp, "lidar", points), log_ns)
        self.writer.write("/truth/lidar/points", cloud_to_message(stamp, "lidar", truth), log_ns)
