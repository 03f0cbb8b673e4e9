"""Options of `dseg simulate`."""

from __future__ import annotations

from dataclasses import dataclass

from dseg_core.options import Options, option


@dataclass(frozen=True)
class SimulateOptions(Options):
    """`dseg simulate`: streets, sensors and truth."""

    seed: int = option(0, "first world's seed; world i uses seed + i", minimum=0)
    worlds: int = option(1, "worlds; more than one makes OUT a folder of bags, one a world", minimum=1)
    sweeps: int = option(20, "sweeps per world", minimum=1)
    storage: str = option("mcap", "storage of the bags", choices=("mcap", "sqlite3"))
    width: int = option(640, "image width", unit="px", minimum=16)
    height: int = option(192, "image height", unit="px", minimum=16)
    field: float = option(81.0, "horizontal field of view of the cameras", unit="deg", minimum=20, maximum=130)
    cameras: tuple[float, ...] = option((0.0,), "one camera for each yaw, to the left of forward", unit="deg")
    camera_rate: float = option(10.0, "images per second of each camera", unit="Hz", minimum=0.1)
    camera_offset: float = option(
        0.015, "first image after the first sweep's stamp; the beam looks ahead 15 % of its turn after it", unit="s"
    )
    stamp_error: float = option(0.0, "how much later than the truth images are stamped", unit="s")
    samples: int = option(2, "rays per pixel edge (anti-aliasing)", minimum=1, maximum=4)
    image_noise: float = option(2.5, "standard deviation of a pixel's noise", unit="of 255", minimum=0)
    beams: int = option(64, "beams of the LiDAR: 16, 32, 64 or 128", minimum=16, maximum=128)
    columns: int = option(1800, "columns of a sweep, per turn", minimum=90, maximum=4000)
    lidar_rate: float = option(10.0, "turns of the LiDAR per second", unit="Hz", minimum=0.5)
    reach: float = option(100.0, "farthest LiDAR return", unit="m", minimum=5)
    range_noise: float = option(0.02, "standard deviation of a range", unit="m", minimum=0)
    dropout: float = option(0.005, "share of returns lost besides the weak ones", minimum=0, maximum=1)
    apart: float = option(
        0.6, "how far the LiDAR sits behind and above the front camera", unit="m", minimum=0.3, maximum=1.5
    )
    speed: float = option(8.0, "vehicle speed", unit="m/s", minimum=0, maximum=40)
    traffic: float = option(1.0, "moving vehicles, as a factor of the usual number", minimum=0, maximum=5)
    hills: float = option(
        0.0, "steepest ups and downs of the street beside the usual slopes", unit="%", minimum=0, maximum=20
    )
    hard: bool = option(
        False, "with what LiDAR can hardly tell apart: people beside parked cars, a bridge over the street, barriers"
    )
