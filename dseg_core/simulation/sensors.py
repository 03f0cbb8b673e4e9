"""The vehicle's sensors: where they sit, what they measure, and the truth about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dseg_core.simulation.materials import SKY
from dseg_core.simulation.meshes import Floats
from dseg_core.simulation.rendering import radiance, with_origin
from dseg_core.simulation.scene import Floats32, Hits, interpolated
from dseg_core.simulation.shading import reflectance
from dseg_core.simulation.world import World

SPIN_START = np.deg2rad(54.0)
"""Azimuth (left of forward) where a sweep starts; it turns clockwise seen from above and looks ahead after 15 %."""

VERTICAL_FIELDS = {16: (-15.0, 15.0), 32: (-30.67, 10.67), 64: (-24.8, 2.0), 128: (-25.0, 15.0)}
"""Lowest and highest beam of each number of beams, degrees."""

_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # R_body_optical


@dataclass(frozen=True, eq=False)
class CameraSpec:
    """A rectified pinhole camera. `T_base_optical`: (4, 4). `focal`: pixels; the centre is the image's."""

    name: str
    width: int
    height: int
    focal: float
    T_base_optical: Floats

    @property
    def frame_id(self) -> str:
        """Its optical frame."""
        return f"camera_{self.name}_optical"

    def directions(self, finer: int) -> Floats:
        """Unit optical-frame directions of a grid `finer` times as fine as the pixels: (finer H, finer W, 3)."""
        u = (np.arange(self.width * finer) + 0.5) / finer - 0.5
        v = (np.arange(self.height * finer) + 0.5) / finer - 0.5
        x, y = np.meshgrid((u - (self.width - 1) / 2) / self.focal, (v - (self.height - 1) / 2) / self.focal)
        rays = np.stack([x, y, np.ones_like(x)], axis=-1)
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)  # type: ignore[no-any-return]

    @classmethod
    def mounted(cls, name: str, width: int, height: int, yaw: float, field: float) -> CameraSpec:
        """At the windscreen, 1.55 m up, turned left by `yaw` degrees; `field` degrees wide, slightly tilted down."""
        turn, tilt = np.deg2rad(yaw), np.deg2rad(2.0)
        Rz = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1.0]])
        Ry = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1.0, 0], [-np.sin(tilt), 0, np.cos(tilt)]])
        T = np.eye(4)
        T[:3, :3] = Rz @ Ry @ _OPTICAL
        T[:3, 3] = 1.3 + 0.15 * np.cos(turn), 0.15 * np.sin(turn), 1.55
        return cls(name, width, height, width / 2 / np.tan(np.deg2rad(field) / 2), T)


@dataclass(frozen=True, eq=False)
class Shot:
    """An image and its truth: `rgb` uint8 (H, W, 3), `semantic` uint8 (H, W), `instance` uint16 (H, W), 0 for stuff."""

    rgb: NDArray[np.uint8]
    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Measured:
    """A sweep and its truth, in firing order: column by column, lowest beam (ring 0) first.

    `xyz`: float32 (N, 3), LiDAR frame at each point's own time. `intensity`: float32 (N,), 0..255. `ring`: uint16 (N,).
    `time_ns`: uint32 (N,) after the sweep's start. `semantic` uint8 (N,), `instance` uint16 (N,).
    """

    xyz: Floats32
    intensity: Floats32
    ring: NDArray[np.uint16]
    time_ns: NDArray[np.uint32]
    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]


@dataclass(frozen=True)
class Vehicle:
    """Drives along the world's lane at constant speed (m/s); base_link is on the ground, x forward, z up."""

    world: World
    speed: float

    def poses(self, time: Floats) -> Floats:
        """T_odom_base (N, 4, 4) at times (N,) s; odom is the world's frame."""
        s = self.speed * time
        T = np.zeros((len(time), 4, 4))
        T[:, :3, :3] = self.world.street.rotations(s)
        T[:, :3, 3] = self.world.street.at(s, self.world.lane)
        T[:, 3, 3] = 1
        return T


def truth_of_view(vehicle: Vehicle, camera: CameraSpec, time: float) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """What a camera's pixels show at `time` (s): semantic uint8 (H, W), and instance uint16 (H, W), 0 for stuff."""
    scene = vehicle.world.scene
    T = vehicle.poses(np.array([time]))[0] @ camera.T_base_optical
    centers = camera.directions(1).astype(np.float32).reshape(-1, 3) @ T[:3, :3].T.astype(np.float32)
    hits = scene.at(time).cast(with_origin(T[:3, 3], centers))
    hit, rows, shape = hits.triangle >= 0, np.maximum(hits.triangle, 0), (camera.height, camera.width)
    semantic = np.where(hit, scene.semantic[rows], SKY).astype(np.uint8).reshape(shape)
    return semantic, np.where(hit, scene.instance[rows], 0).astype(np.uint16).reshape(shape)


def photograph(
    vehicle: Vehicle, camera: CameraSpec, time: float, noise: float, samples: int, rng: np.random.Generator
) -> Shot:
    """Take an image at `time` (s). `noise`: standard deviation of a middle grey, 0..255. `samples`: per pixel edge."""
    world = vehicle.world
    T = vehicle.poses(np.array([time]))[0] @ camera.T_base_optical
    moment = world.scene.at(time)
    semantic, instance = truth_of_view(vehicle, camera, time)
    rays = camera.directions(samples).astype(np.float32) @ T[:3, :3].T.astype(np.float32)
    linear = radiance(world, moment, T[:3, 3], rays, samples, 1 / camera.focal / samples)
    image = linear.reshape(camera.height, samples, camera.width, samples, 3).mean(axis=(1, 3))
    return Shot(_develop(image, noise, rng), semantic, instance)


def _develop(linear: Floats32, noise: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Exposure by metering, tone curve, sensor noise, 8 bit."""
    brightness = np.minimum(linear.mean(axis=-1), 1.5)
    gain = 0.34 / float(brightness.mean()) * float(np.exp(rng.normal(0, 0.04)))
    curve = 1.0 - np.exp(-1.35 * gain * linear)
    flat = np.clip(curve, 0, 1) ** (1 / 2.2)
    signal = 255 * (0.65 * flat + 0.35 * flat * flat * (3 - 2 * flat))  # a little contrast
    signal = signal + noise * (0.6 + 0.8 * (1 - signal / 255)) * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.clip(np.rint(signal), 0, 255).astype(np.uint8)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class LidarSpec:
    """A spinning LiDAR.

    `elevation`: (beams,), radians, rising. `period`: s. `noise`, `reach`: m. `dropout`: share. `T_base_lidar`: (4, 4).
    """

    elevation: Floats
    columns: int
    period: float
    noise: float
    dropout: float
    reach: float
    T_base_lidar: Floats

    @classmethod
    def mounted(
        cls, beams: int, columns: int, period: float, noise: float, dropout: float, reach: float, apart: float
    ) -> LidarSpec:
        """On the roof, `apart` metres up and back from the front camera."""
        T = np.eye(4)
        T[:3, 3] = 1.45 - 0.8 * apart, 0.0, 1.55 + 0.6 * apart
        elevation = np.deg2rad(np.linspace(*VERTICAL_FIELDS[beams], beams))
        return cls(elevation, columns, period, noise, dropout, reach, T)


def sweep(vehicle: Vehicle, lidar: LidarSpec, start: float, rng: np.random.Generator) -> Measured:
    """Measure one turn beginning at `start` (s), each column from where the vehicle is at its own time."""
    elevation = lidar.elevation
    turn = np.arange(lidar.columns) / lidar.columns
    azimuth = SPIN_START - 2 * np.pi * turn
    flat = np.cos(elevation)
    local = np.stack(
        np.broadcast_arrays(
            np.cos(azimuth)[:, None] * flat, np.sin(azimuth)[:, None] * flat, np.sin(elevation)[None, :]
        ),
        axis=-1,
    )  # (columns, beams, 3)
    return scan(vehicle, lidar, local, np.rint(turn * lidar.period * 1e9).astype(np.uint32), start, rng)


def scan(
    vehicle: Vehicle,
    lidar: LidarSpec,
    local: Floats,
    offset_ns: NDArray[np.uint32],
    start: float,
    rng: np.random.Generator,
) -> Measured:
    """Measure along any pattern of rays.

    Args:
        vehicle: Where the LiDAR is at each time.
        lidar: How well it measures, and where it is mounted.
        local: Unit directions in the LiDAR's frame (C, B, 3): at each of C times those of B beams.
        offset_ns: uint32 (C,), these times after `start`.
        start: Seconds.
        rng: For noise and points that are lost.
    """
    beams = local.shape[1]
    time = start + offset_ns * 1e-9
    T = vehicle.poses(np.asarray(time, dtype=np.float64)) @ lidar.T_base_lidar
    rays = np.einsum("cij,cbj->cbi", T[:, :3, :3], local).reshape(-1, 3)
    origins = np.repeat(T[:, :3, 3], beams, axis=0)
    scene = vehicle.world.scene
    hits = scene.cast(origins, rays, np.repeat(time, beams))
    power = _returns(vehicle.world, hits, rays)
    lost = rng.random(len(rays)) < lidar.dropout + np.exp(-power / 0.012)
    keep = (hits.triangle >= 0) & (hits.distance > 1.0) & (hits.distance < lidar.reach) & ~lost
    distance = (hits.distance + lidar.noise * rng.standard_normal(len(rays)))[keep]
    intensity = np.clip(255 * 0.55 * power**0.7 * np.exp(rng.normal(0, 0.08, len(rays))), 0, 255)
    rows = hits.triangle[keep]
    return Measured(
        xyz=(local.reshape(-1, 3)[keep] * distance[:, None]).astype(np.float32),
        intensity=intensity[keep].astype(np.float32),
        ring=np.tile(np.arange(beams, dtype=np.uint16), len(local))[keep],
        time_ns=np.repeat(offset_ns, beams)[keep],
        semantic=scene.semantic[rows],
        instance=scene.instance[rows],
    )


def _returns(world: World, hits: Hits, rays: Floats) -> Floats:
    """Returned power per ray (N,), 1 for a white wall seen square on: material, angle, weak far away."""
    scene = world.scene
    texture = interpolated(scene.texture, hits)
    distance = np.where(hits.triangle >= 0, hits.distance, 1.0).astype(np.float32)
    material = scene.material[np.maximum(hits.triangle, 0)]
    reflected = reflectance(material, world.materials, texture, (0.003 * distance).astype(np.float32))
    cosine = np.abs(np.einsum("ni,ni->n", scene.normals_of(hits), rays))
    return np.where(hits.triangle >= 0, reflected * (0.15 + 0.85 * cosine) * np.exp(-distance / 90.0), 0.0)
