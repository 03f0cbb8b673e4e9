"""`dseg simulate`: drives through made-up streets, as bags with truth."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dseg_core.bag import BagWriter
from dseg_core.errors import DsegError, OptionError
from dseg_core.options import differences
from dseg_core.progress import Summary, claim, of_file, progress
from dseg_core.simulation.drive_bag import DriveBag
from dseg_core.simulation.materials import TRUTH_CLASSES
from dseg_core.simulation.sensors import VERTICAL_FIELDS, CameraSpec, LidarSpec, Vehicle, photograph, sweep
from dseg_core.simulation.world import build
from dseg_core.stage_options import SimulateOptions
from dseg_core.store import read_json
from dseg_core.words import count

CLOCK_START_S, CLOCK_PER_WORLD_S = 1_700_000_000, 3600
_MARGIN = 0.3  # seconds of odometry before the first and after the last measurement
_ODOMETRY_HZ = 100.0


@dataclass(frozen=True)
class _Moment:
    """Something to write: `time` in seconds after the world's start. `kind`: sweep, image or odometry."""

    time: float
    kind: str
    camera: int = 0
    index: int = 0


def simulate(out_bag: Path, options: SimulateOptions) -> Summary:
    """Make one bag, or with several worlds a folder of bags `world_0000`, ...; finished bags are kept.

    Raises:
        DsegError: `out_bag` holds something else, or bags of other options.
        OptionError: A number of beams that no LiDAR here has.
    """
    if options.beams not in VERTICAL_FIELDS:
        raise OptionError(f"beams = {options.beams} must be one of {', '.join(map(str, VERTICAL_FIELDS))}")
    claim(out_bag, "simulate")
    began = time.perf_counter()
    single = options.worlds == 1
    bags = [out_bag] if single else [out_bag / f"world_{i:04d}" for i in range(options.worlds)]
    _check_output(out_bag, options)
    missing = [i for i, bag in enumerate(bags) if not (bag / "summary.json").exists()]
    counts: list[dict[str, int]] = []
    steps = _steps(missing, bags, options, counts)
    images = _images_per_world(options) * len(options.cameras)
    for _ in progress(steps, "simulate", total=len(missing) * (options.sweeps + images), unit="scan"):
        pass
    kept = len(bags) - len(missing)
    seconds = time.perf_counter() - began
    results = {
        "worlds": len(bags),
        "kept": kept,
        "sweeps": options.sweeps * len(bags),
        "images": images * len(bags),
        "points_per_sweep": sum(c["points"] for c in counts) // max(sum(c["sweeps"] for c in counts), 1),
        "seconds": round(seconds, 1),
    }
    points, size = results["points_per_sweep"], f"{options.width}x{options.height}"
    text = (
        f"Simulated {count(options.sweeps * len(bags), 'sweep')} ({options.beams} beams, {points} points each) and "
        f"{count(images * len(bags), 'image')} ({size}) in {count(len(bags), 'world')}, {_seeds(options)}, in "
        f"{seconds:.1f} s: {out_bag}." + (f" {count(kept, 'world')} finished before and kept." if kept else "")
    )
    if not missing:
        text = f"{count(len(bags), 'world')} with these options finished before and kept: {out_bag}."
        if single:
            return Summary(text, results)
    return Summary(text, results).write(out_bag, "simulate", options)


def _seeds(options: SimulateOptions) -> str:
    last = options.seed + options.worlds - 1
    return f"seed {last}" if options.worlds == 1 else f"seeds {options.seed} to {last}"


def _check_output(out_bag: Path, options: SimulateOptions) -> None:
    """Refuse a folder that this run did not make. What a bag was made with is in its summary.json."""
    if not out_bag.exists():
        return
    known = out_bag / "summary.json"
    found = [known] if known.exists() else sorted(out_bag.glob("world_*/summary.json"))
    if not found:
        if any(p for p in out_bag.iterdir() if not p.name.startswith(".world_")):
            raise DsegError("exists and is no simulated drive", where=out_bag, fix="Remove it or choose another folder")
        return
    made = read_json(found[0])
    wanted = options.to_dict()
    if found[0] != known:  # one world's summary of an interrupted run
        wanted["worlds"], wanted["seed"] = 1, options.seed + int(found[0].parent.name.removeprefix("world_"))
    other = differences(made.get("options", {}), wanted)
    if other:
        raise DsegError(f"was made with {other}", where=out_bag, fix="Remove it or choose another folder")


def _images_per_world(options: SimulateOptions) -> int:
    return max(int(np.floor((options.sweeps / options.lidar_rate) * options.camera_rate + 1e-6)), 1)


def _steps(
    missing: list[int], bags: list[Path], options: SimulateOptions, counts: list[dict[str, int]]
) -> Iterator[None]:
    """Make the missing worlds; yields after every sweep and image."""
    for i in missing:
        bag = bags[i]
        holder = bag.with_name(f".{bag.name}.tmp")  # the bag's files are named after its folder, so one level deeper
        shutil.rmtree(holder, ignore_errors=True)
        partial = holder / bag.name
        made = {"points": 0, "sweeps": 0}
        try:
            with of_file(bag):
                holder.mkdir(parents=True)
                yield from _world(i, partial, options, made)
                TRUTH_CLASSES.write(partial / "truth_classes.yaml")
                own = SimulateOptions.from_mapping({**options.to_dict(), "worlds": 1, "seed": options.seed + i})
                Summary(f"World of seed {options.seed + i}.", dict(made)).write(partial, "simulate", own)
                partial.rename(bag)
        finally:
            shutil.rmtree(holder, ignore_errors=True)
        counts.append(made)


def _world(i: int, path: Path, options: SimulateOptions, made: dict[str, int]) -> Iterator[None]:
    """Drive through world `i` and write its bag to `path`."""
    duration = options.sweeps / options.lidar_rate
    world = build(options.seed + i, options.speed, duration, options.traffic, options.hills / 100, options.hard)
    vehicle = Vehicle(world, options.speed)
    cameras, lidar = _rig(options)
    start_ns = (CLOCK_START_S + i * CLOCK_PER_WORLD_S) * 10**9
    with BagWriter(path, options.storage) as writer:
        bag, moments = DriveBag(writer), _moments(options)
        bag.mounting(start_ns + round(moments[0].time * 1e9), cameras, lidar)
        for moment in moments:
            stamp = start_ns + round(moment.time * 1e9)
            if moment.kind == "odometry":
                T = vehicle.poses(np.array([moment.time, moment.time + 1e-3]))
                turned = np.arctan2(*T[1, 1::-1, 0]) - np.arctan2(*T[0, 1::-1, 0])
                bag.odometry(stamp, T[0], options.speed, float(turned * 1e3))
                continue
            rng = np.random.default_rng((options.seed + i, 2, moment.camera, moment.index, int(moment.kind == "sweep")))
            if moment.kind == "sweep":
                found = sweep(vehicle, lidar, moment.time, rng)
                bag.sweep(stamp, stamp + round(lidar.period * 1e9), found)
                made["points"], made["sweeps"] = made["points"] + len(found.xyz), made["sweeps"] + 1
            else:
                camera = cameras[moment.camera]
                shot = photograph(vehicle, camera, moment.time, options.image_noise, options.samples, rng)
                bag.shot(stamp + round(options.stamp_error * 1e9), stamp, camera, shot)
            yield


def _rig(options: SimulateOptions) -> tuple[list[CameraSpec], LidarSpec]:
    names: list[str] = []
    for yaw in options.cameras:
        turn = (yaw + 180) % 360 - 180
        side = "left" if turn > 0 else "right"
        name = "front" if abs(turn) < 20 else "rear" if abs(turn) > 160 else side
        if name == side and not 70 < abs(turn) < 110:
            name = f"{'front' if abs(turn) <= 70 else 'rear'}_{side}"
        names.append(f"{name}_{len(names)}" if name in names else name)
    cameras = [
        CameraSpec.mounted(name, options.width, options.height, yaw, options.field)
        for name, yaw in zip(names, options.cameras, strict=True)
    ]
    lidar = LidarSpec.mounted(
        options.beams, options.columns, 1 / options.lidar_rate, options.range_noise, options.dropout, options.reach,
        options.apart,
    )  # fmt: skip
    return cameras, lidar


def _moments(options: SimulateOptions) -> list[_Moment]:
    """Everything in the order it is written: images at their exposure, sweeps at their end, odometry in between."""
    sweeps = [_Moment(k / options.lidar_rate, "sweep", 0, k) for k in range(options.sweeps)]
    images = [
        _Moment(options.camera_offset + k / options.camera_rate, "image", c, k)
        for k in range(_images_per_world(options))
        for c in range(len(options.cameras))
    ]
    first = min(m.time for m in (*sweeps, *images)) - _MARGIN
    last = max(m.time for m in (*sweeps, *images)) + 1 / options.lidar_rate + _MARGIN
    regular = np.arange(first, last, 1 / _ODOMETRY_HZ)
    times = sorted({round(float(t), 9) for t in regular} | {round(m.time, 9) for m in (*sweeps, *images)})
    odometry = [_Moment(t, "odometry") for t in times]
    return sorted((*odometry, *sweeps, *images), key=lambda m: m.time + (m.kind == "sweep") / options.lidar_rate)
