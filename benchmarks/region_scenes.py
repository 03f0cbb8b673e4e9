"""Simulated pairs with truth for `regions.py`: what the camera sees at the image's time, in pixels and in metres."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from proposal_scenes import CLASSES, DURATION, SPEED

from dseg_core.cameras import Camera
from dseg_core.evaluation.proposal_truth import BACKGROUND, GROUND, Truth
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND, Sweep
from dseg_core.simulation.materials import SKY
from dseg_core.simulation.rendering import with_origin
from dseg_core.simulation.sensors import CameraSpec, LidarSpec, Vehicle, sweep
from dseg_core.simulation.world import World, build
from dseg_core.transforms import TransformTree, inverse

STRUCTURE = 60_000
"""The id that all of the truth's large structures share; the sky has none."""

_MOUNT = CameraSpec.mounted("front", 1242, 375, 0.0, 81.5)
PINHOLE = Camera.pinhole("camera", 1242, 375, 721.5, 721.5, 620.5, 187.0)
WIDE = Camera.pinhole("camera", 1242, 375, 400.0, 400.0, 620.5, 187.0)  # 114 degrees
_K = np.array([[400.0, 0, 479.5], [0, 400.0, 299.5], [0, 0, 1]])
_BENT = (_K, "equidistant", np.zeros(4), np.eye(3), np.zeros((3, 4)), False)
FISHEYE = Camera("camera", 960, 600, *_BENT)  # 137 degrees


@dataclass(frozen=True)
class Turning(Vehicle):
    """Is where the world's own vehicle is at `at` (s), but drives a circle of `speed` m/s, `rate` rad/s."""

    at: float
    rate: float

    def poses(self, time: np.ndarray) -> np.ndarray:
        """T_odom_base (N, 4, 4) at times (N,) s."""
        since = np.asarray(time, dtype=np.float64) - self.at
        turned = since * self.rate
        T = np.tile(np.eye(4), (len(turned), 1, 1))
        T[:, 0, 0], T[:, 0, 1], T[:, 1, 0], T[:, 1, 1] = np.cos(turned), -np.sin(turned), np.sin(turned), np.cos(turned)
        if self.rate:
            T[:, 0, 3] = self.speed / self.rate * np.sin(turned)
            T[:, 1, 3] = self.speed / self.rate * (1 - np.cos(turned))
        else:
            T[:, 0, 3] = self.speed * since
        return np.asarray(Vehicle(self.world, SPEED).poses(np.array([self.at]))[0] @ T)


@dataclass(frozen=True, eq=False)
class Pair:
    """A sweep and an image with truth.

    `of_points`: uint16 (N,), what right proposals would be: 1 ground, 1 + instance, STRUCTURE. `truth`: the pixels';
    `seen`: uint16 (H, W), the same ids, 0 for the sky; `reach`: float32 (H, W), metres to what is seen.
    `distances`: metres from the LiDAR, by instance. `T`, `T_end`: as `regions_from_pair` takes them, through a tree of
    transforms. `unmoved`: T without the vehicle's motion.
    """

    sweep: Sweep
    of_points: np.ndarray
    camera: Camera
    truth: Truth
    seen: np.ndarray
    reach: np.ndarray
    distances: dict[int, float]
    T: np.ndarray
    T_end: np.ndarray
    unmoved: np.ndarray


@lru_cache(maxsize=4)
def world_of(seed: int, traffic: float) -> World:
    """A world with hard cases, kept for the next pair."""
    return build(seed, SPEED, DURATION, traffic, hard=True)


def ids_of(semantic: np.ndarray, instance: np.ndarray) -> np.ndarray:
    """What the ids of right proposals are, uint16, any shape."""
    roles = Truth(semantic, instance, CLASSES).roles_of_elements()
    ids = instance.astype(np.uint16) + (REGION_FIRST_OBJECT - 1)
    ids[roles == GROUND] = REGION_GROUND
    ids[roles == BACKGROUND] = STRUCTURE
    ids[semantic == SKY] = 0
    return ids


def pair(
    vehicle: Turning,
    camera: Camera,
    apart: float = 0.6,
    beams: int = 64,
    period: float = 1e-9,
    early: float = 0.0,
    stamped: float = 0.0,
    odometry: float = 100.0,
    seed: int = 0,
) -> Pair:
    """Measure with a vehicle.

    Args:
        vehicle: The image is taken at its time `at`.
        camera: Mounted as the simulator's front camera, calibrated otherwise.
        apart: Metres between LiDAR and camera.
        beams: Of the LiDAR.
        period: Of its turn, seconds; next to nothing freezes the world.
        early: The beam passes the camera's axis so many seconds before the image is taken.
        stamped: The share of the turn that is over at the sweep's stamp.
        odometry: Poses a second.
        seed: Of the noise.
    """
    lidar = LidarSpec.mounted(beams, 2000, period, 0.02, 0.005, 100.0, apart)
    start = vehicle.at - 0.15 * period - early
    measured = sweep(vehicle, lidar, start, np.random.default_rng(seed))
    T_base_optical = _MOUNT.T_base_optical
    T = vehicle.poses(np.array([vehicle.at]))[0] @ T_base_optical
    scene = vehicle.world.scene
    rays = camera.rays().reshape(-1, 3) @ T[:3, :3].T
    hits = scene.at(vehicle.at).cast(with_origin(T[:3, 3], rays.astype(np.float32)))
    hit, rows, shape = hits.triangle >= 0, np.maximum(hits.triangle, 0), (camera.height, camera.width)
    semantic = np.where(hit, scene.semantic[rows], SKY).astype(np.uint8).reshape(shape)
    instance = np.where(hit, scene.instance[rows], 0).astype(np.uint16).reshape(shape)
    exposed, shift = round(vehicle.at * 1e9), round(stamped * period * 1e9)
    stamp = round(start * 1e9) + shift
    time_ns = measured.time_ns.astype(np.int64) - shift
    cloud = Sweep(stamp, "lidar", measured.xyz, ring=measured.ring, time_ns=time_ns)
    tree = TransformTree()
    tree.add("base", "lidar", lidar.T_base_lidar)
    tree.add("base", "camera", T_base_optical)
    for time in vehicle.at + np.arange(-0.3, 0.3, 1 / odometry):
        tree.add("odom", "base", vehicle.poses(np.array([time]))[0], round(time * 1e9))
    (T_start, T_end), _ = tree.lookup_compensated("camera", exposed, "lidar", [stamp, stamp + cloud.farthest_ns])
    planar = np.hypot(measured.xyz[:, 0], measured.xyz[:, 1])
    distances = {int(k): float(np.median(planar[measured.instance == k])) for k in np.unique(measured.instance)}
    return Pair(
        cloud,
        ids_of(measured.semantic, measured.instance),
        camera,
        Truth(semantic, instance, CLASSES),
        ids_of(semantic, instance),
        hits.distance.reshape(shape),
        distances,
        T_start,
        T_end,
        inverse(T_base_optical) @ lidar.T_base_lidar,
    )
