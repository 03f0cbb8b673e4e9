"""Cameras: from points in the optical frame to pixels, and back to viewing directions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.errors import DsegError

MODELS = ("plumb_bob", "rational_polynomial", "equidistant")
_COEFFICIENTS = {"plumb_bob": (0, 4, 5), "rational_polynomial": (0, 8, 12, 14), "equidistant": (0, 4)}


@dataclass(frozen=True, eq=False)
class Camera:
    """Calibration of one image, with the meaning of sensor_msgs/CameraInfo.

    `frame_id`: the optical frame (z forward, x right, y down). `K`: float64 (3, 3), pixels, of the raw image. `model`:
    one of `MODELS`; `D`: its coefficients, float64 (k,), as OpenCV orders them. `R`: (3, 3) rectification. `P`: (3, 4)
    projection of the rectified image. `rectified`: whether the images are; then `P` and `R` hold and `D` does not.
    Pixel centres are at whole numbers.

    Raises:
        DsegError: Sizes, focal length or model that make no camera.
    """

    frame_id: str
    width: int
    height: int
    K: NDArray[np.float64]
    model: str
    D: NDArray[np.float64]
    R: NDArray[np.float64]
    P: NDArray[np.float64]
    rectified: bool

    def __post_init__(self) -> None:
        """Refuse what a driver without calibration publishes."""
        where = f"camera {self.frame_id}"
        for name, shape in (("K", (3, 3)), ("R", (3, 3)), ("P", (3, 4))):
            matrix = getattr(self, name)
            if matrix.shape != shape or not np.isfinite(matrix).all():
                raise DsegError(f"{name} is not a finite {shape[0]}x{shape[1]} matrix", where=where)
        if self.width < 1 or self.height < 1:
            raise DsegError(f"camera_info gives the size {self.width}x{self.height}", where=where)
        if self.matrix[0, 0] <= 0 or self.matrix[1, 1] <= 0:
            raise DsegError(
                "is not calibrated: its focal length is 0", where=where, fix="Calibrate it and record camera_info"
            )
        if self.model not in MODELS:
            raise DsegError(
                f"distortion model {self.model!r} is unknown", where=where, fix=f"Known: {', '.join(MODELS)}"
            )
        if len(self.D) not in _COEFFICIENTS[self.model] or not np.isfinite(self.D).all():
            raise DsegError(f"{len(self.D)} coefficients do not fit the model {self.model}", where=where)
        if self.model != "equidistant" and np.any(self.D[12:]):
            raise DsegError("has a tilted sensor (coefficients 13 and 14), which is not supported", where=where)

    @classmethod
    def pinhole(cls, frame_id: str, width: int, height: int, fx: float, fy: float, cx: float, cy: float) -> Camera:
        """A camera without distortion; focal lengths and principal point in pixels."""
        K = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
        P = np.concatenate([K, np.zeros((3, 1))], axis=1)
        return cls(frame_id, width, height, K, "plumb_bob", np.zeros(5), np.eye(3), P, True)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(3, 3) projection of the image as it is: of `P` when rectified, else `K`."""
        return self.P[:, :3] if self.rectified else self.K

    @property
    def distorted(self) -> bool:
        """Whether straight lines are bent in the image."""
        return not self.rectified and (self.model == "equidistant" or bool(np.any(self.D)))

    def scaled(self, width: int, height: int) -> Camera:
        """The same camera with its image resized; pixel centres stay at whole numbers."""
        sx, sy = width / self.width, height / self.height
        S = np.array([[sx, 0.0, (sx - 1) / 2], [0.0, sy, (sy - 1) / 2], [0.0, 0.0, 1.0]])
        return replace(self, width=width, height=height, K=S @ self.K, P=S @ self.P)

    def cropped(self, x: int, y: int, width: int, height: int) -> Camera:
        """The same camera with only a part of its image, which begins at pixel (x, y).

        Raises:
            DsegError: The part does not lie in the image.
        """
        if min(x, y) < 0 or min(width, height) < 1 or x + width > self.width or y + height > self.height:
            part = f"{width}x{height} at ({x}, {y})"
            raise DsegError(
                f"region of interest {part} does not lie in {self.width}x{self.height}", where=f"camera {self.frame_id}"
            )
        S = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y], [0.0, 0.0, 1.0]])
        return replace(self, width=width, height=height, K=S @ self.K, P=S @ self.P)

    def planes(self) -> NDArray[np.float64]:
        """Planes that bound what the camera can see: float64 (K, 4).

        A point of the optical frame that is seen has a positive distance [m], planes @ (x, y, z, 1), from each. One is
        that of the camera itself; an image without distortion has its four edges, too.
        """
        found = [(0.0, 0.0, 1.0, 0.0)]
        M = self.matrix
        if not self.distorted and M[0, 1] == 0:
            left, right = ((edge - M[0, 2]) / M[0, 0] for edge in (-0.5, self.width - 0.5))
            top, bottom = ((edge - M[1, 2]) / M[1, 1] for edge in (-0.5, self.height - 0.5))
            found += [(1, 0, -left, 0), (-1, 0, right, 0), (0, 1, -top, 0), (0, -1, bottom, 0)]
        planes = np.array(found)
        planes /= np.linalg.norm(planes[:, :3], axis=1, keepdims=True)
        if self.rectified:
            planes[:, :3] = planes[:, :3] @ self.R
            # A stereo pair's right camera stands beside the frame that it is given in.
            planes[1:, 3] = max(abs(self.P[0, 3] / M[0, 0]), abs(self.P[1, 3] / M[1, 1]))
        return planes

    def project(self, xyz: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Project points.

        Args:
            xyz: (N, 3), metres, optical frame.

        Returns:
            uv float64 (N, 2), pixels (x right, y down), meaningless where not visible; visible bool (N,): in front of
            the camera, inside the image, and inside the field where the distortion model is one-to-one.
        """
        points = np.asarray(xyz, dtype=np.float64)
        if self.rectified and not np.array_equal(self.R, np.eye(3)):
            points = points @ self.R.T
        z = points[:, 2]
        visible = z > 1e-3
        depth = np.where(visible, z, 1.0)
        xn, yn = points[:, 0] / depth, points[:, 1] / depth
        if self.distorted:
            visible &= np.hypot(xn, yn) < self._field
            xn, yn = self._distort(np.where(visible, xn, 0.0), np.where(visible, yn, 0.0))
        M = self.matrix
        u = M[0, 0] * xn + M[0, 1] * yn + M[0, 2]
        v = M[1, 1] * yn + M[1, 2]
        if self.rectified:
            # The fourth column is the baseline of a stereo pair's right camera, in pixels times metres.
            u, v = u + self.P[0, 3] / depth, v + self.P[1, 3] / depth
        visible &= (u >= -0.5) & (u < self.width - 0.5) & (v >= -0.5) & (v < self.height - 0.5)
        return np.stack([u, v], axis=1), visible

    def bending(self, xyz: NDArray[np.float64]) -> NDArray[np.float64]:
        """How the lens stretches the image around points; tangential terms aside.

        Args:
            xyz: float64 (N, 3), metres, optical frame.

        Returns:
            float64 (N, 2), empty without distortion. A small move m of x / z, y / z around p is a + (p . m) b p in the
            bent image, where a = m times the first, b the second.
        """
        if not self.distorted:
            return np.empty((0, 2))
        z = np.maximum(xyz[:, 2], 1e-3)
        radius = np.clip(np.hypot(xyz[:, 0], xyz[:, 1]) / z, 1e-4, 1e4)
        step = 1e-4 * radius
        scale = self._radial(radius) / radius
        outwards = (self._radial(radius + step) - self._radial(radius - step)) / (2 * step)
        return np.stack([scale, (outwards - scale) / radius**2], axis=1)

    def rays(self) -> NDArray[np.float64]:
        """Unit viewing directions of the pixel centres, optical frame: float64 (H, W, 3)."""
        u, v = np.meshgrid(np.arange(self.width, dtype=np.float64), np.arange(self.height, dtype=np.float64))
        M = self.matrix
        y = (v.ravel() - M[1, 2]) / M[1, 1]
        x = (u.ravel() - M[0, 2] - M[0, 1] * y) / M[0, 0]
        if self.distorted and self.model == "equidistant":
            bent = np.stack([x, y], axis=-1)[:, None]
            x, y = cv2.fisheye.undistortPoints(bent, np.eye(3), self._fisheye())[:, 0].T
        elif self.distorted:
            bent_x, bent_y = x, y
            for _ in range(100):  # the lens moves points little, so that what is left to correct shrinks every time
                moved_x, moved_y = self._distort(x, y)
                x, y = x - (moved_x - bent_x), y - (moved_y - bent_y)
        xy = np.stack([x, y], axis=-1)
        directions = np.concatenate([xy, np.ones((len(xy), 1))], axis=1)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        if self.rectified:
            directions = directions @ self.R
        return directions.reshape(self.height, self.width, 3)  # (H, W, 3)

    def _fisheye(self) -> NDArray[np.float64]:
        return self.D if len(self.D) else np.zeros(4)

    def _distort(
        self, xn: NDArray[np.float64], yn: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Normalised image coordinates with the lens applied (OpenCV's models)."""
        if self.model == "equidistant":
            radius = np.hypot(xn, yn)
            scale = np.where(radius > 1e-9, self._radial(radius) / np.maximum(radius, 1e-9), 1.0)
            return xn * scale, yn * scale
        d = np.zeros(14)
        d[: len(self.D)] = self.D
        r2 = xn * xn + yn * yn
        radial = (1 + r2 * (d[0] + r2 * (d[1] + r2 * d[4]))) / (1 + r2 * (d[5] + r2 * (d[6] + r2 * d[7])))
        x = xn * radial + 2 * d[2] * xn * yn + d[3] * (r2 + 2 * xn * xn) + r2 * (d[8] + d[9] * r2)
        y = yn * radial + d[2] * (r2 + 2 * yn * yn) + 2 * d[3] * xn * yn + r2 * (d[10] + d[11] * r2)
        return x, y

    def _radial(self, radius: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distorted radius over undistorted one, both normalised; tangential terms aside."""
        if self.model == "equidistant":
            k = self._fisheye()
            theta = np.arctan(radius)
            t2 = theta * theta
            bent: NDArray[np.float64] = theta * (1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3]))))
            return bent
        d = np.zeros(14)
        d[: len(self.D)] = self.D
        r2 = radius * radius
        return np.asarray(
            radius * (1 + r2 * (d[0] + r2 * (d[1] + r2 * d[4]))) / (1 + r2 * (d[5] + r2 * (d[6] + r2 * d[7])))
        )

    @cached_property
    def _field(self) -> float:
        """The normalised radius up to which the distorted radius grows; beyond it points fold back into the image."""
        angles = np.linspace(0.0, np.deg2rad(89.0), 2000)
        radius = np.tan(angles)
        falls = np.flatnonzero(np.diff(self._radial(radius)) <= 0)
        return float(radius[falls[0]]) if len(falls) else np.inf
