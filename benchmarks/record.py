"""Recording's speed and memory: frames a second and times real time, beside message_filters' synchroniser; a table.

Run: python benchmarks/record.py [--sweeps 1000] [--long 3000]. Bags are made of the real drive: KITTI's sweeps and
images again and again with new stamps at 10 Hz, JPEG and raw; and a larger car, each sweep with 128 beams (the drive's
64 and the same ones half a beam lower) and three cameras of 1080p (the drive's images enlarged, JPEG), a fifth as long.
Bags are as long as drives are: workers and the picture at the end take two seconds, whatever a bag's length. With
--long, a bag of so many sweeps shows whether memory grows. Every run is a process of its own, and reads a bag that was
just written. Processor time is of all threads and processes; unlike speed, other jobs on the machine change it little.
Sending the same messages through message_filters' ApproximateTimeSynchronizer, where it imports, is what a user would
write instead; it only pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from dseg_core import messages as ros
from dseg_core.bag import BagReader, BagWriter
from dseg_core.records import EncodedImage
from dseg_core.sensors_from_bag import sensors_from_bag
from dseg_core.stage_options import TopicOptions

DRIVE = Path(__file__).parents[2] / "shared" / "data" / "kitti_city"
PERIOD_NS = 100_000_000

CODE = """
import json, os, resource, sys, time
from pathlib import Path
from dseg_core.frames_from_bag import record
from dseg_core.stage_options import RecordOptions
bags, out, options = [Path(p) for p in sys.argv[3:]], Path(sys.argv[1]), json.loads(sys.argv[2])
record(bags[:1], out / "warm", RecordOptions(max_frames=3))
start, before = time.perf_counter(), os.times()
summary = record(bags, out / "frames", RecordOptions(**options))
seconds, after = time.perf_counter() - start, os.times()
cpu = sum(after[:4]) - sum(before[:4])  # this process's and its workers', in the program and in the system
own = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss begins as the parent's
peak = max(int(own.split()[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
print(json.dumps({"frames": summary.results["frames"], "seconds": seconds, "cpu": cpu, "peak_mb": peak / 1024}))
"""


def drive() -> tuple[list[Any], list[np.ndarray], Any, Any]:
    """The real drive's clouds (columns), images, calibration and transforms."""
    with BagReader(DRIVE) as reader:
        sensors = sensors_from_bag(reader, TopicOptions())
        camera = sensors.cameras[0]
        found = list(reader.messages([sensors.lidar, camera.topic]))
    clouds = [ros.columns_from_cloud(m.data) for m in found if m.topic == sensors.lidar]
    images = [ros.image_from_message(m.data).rgb for m in found if m.topic == camera.topic]
    lidar = next(m.data.header.frame_id for m in found if m.topic == sensors.lidar)
    return clouds, images, camera.calibration, (lidar, sensors.tree.lookup(lidar, camera.calibration.frame_id, 0))


def write(path: Path, sweeps: int, kind: str) -> Path:
    """A bag of `sweeps` at 10 Hz; `kind`: "jpeg" or "raw" as KITTI's car, "large" as a larger one."""
    clouds, images, calibration, (lidar, T_lidar_camera) = drive()
    names = ("left", "front", "right") if kind == "large" else ("front",)
    if kind == "large":
        calibration = calibration.scaled(1920, 1080)
        images = [cv2.resize(image, (1920, 1080)) for image in images]
        tilt = np.array([[np.cos(0.0035), 0, np.sin(0.0035)], [0, 1, 0], [-np.sin(0.0035), 0, np.cos(0.0035)]])
        for number, columns in enumerate(clouds):
            xyz = np.stack([columns[a] for a in "xyz"], axis=1)
            both = np.concatenate([xyz, xyz @ tilt.T]).astype(np.float32)
            clouds[number] = {a: both[:, i] for i, a in enumerate("xyz")} | {
                "intensity": np.tile(columns["intensity"], 2)
            }
    shown = []
    for image in images:
        data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        shown.append(image if kind == "raw" else data)
    with BagWriter(path) as writer:
        start = 1_700_000_000 * 10**9
        edges = [(start, lidar, f"{name}_optical", T_lidar_camera) for name in names]
        writer.write("/tf_static", ros.transforms_to_message(edges), start)
        for number in range(sweeps):
            stamp = start + number * PERIOD_NS
            writer.write("/lidar/points", ros.cloud_to_message(stamp, lidar, clouds[number % len(clouds)]), stamp)
            for name in names:
                frame, image = f"{name}_optical", shown[number % len(shown)]
                taken = stamp + 4_000_000
                info = ros.camera_to_message(taken, replace(calibration, frame_id=frame))
                writer.write(f"/{name}/camera_info", info, taken)
                if kind == "raw":
                    writer.write(f"/{name}/image_raw", ros.image_to_message(taken, frame, image), taken)
                else:
                    message = ros.encoded_to_message(EncodedImage(taken, frame, "jpeg", image))
                    writer.write(f"/{name}/image_raw/compressed", message, taken)
    return path


def twin(bag: Path, path: Path) -> Path:
    """The same bag under another name, which takes no room."""
    path.mkdir()
    for file in bag.iterdir():
        os.link(file, path / file.name)
    return path


def measured(bags: list[Path], folder: Path, **options: int) -> dict[str, float]:
    """One run in a process of its own."""
    arguments = [sys.executable, "-c", CODE, str(folder), json.dumps(options), *map(str, bags)]
    done = subprocess.run(
        arguments, capture_output=True, text=True, check=True, env={**os.environ, "TQDM_DISABLE": "1"}
    )
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def synchroniser(bag: Path) -> float | None:
    """Seconds that message_filters' approximate policy takes for the bag's messages, read as we read them."""
    try:
        from builtin_interfaces.msg import Time
        from message_filters import ApproximateTimeSynchronizer, SimpleFilter
    except ImportError:
        return None
    with BagReader(bag) as reader:
        topics = [t.name for t in reader.topics if "image" in t.name or "points" in t.name]
        filters = {topic: SimpleFilter() for topic in topics}
        found: list[int] = []
        sync = ApproximateTimeSynchronizer(list(filters.values()), 50, 0.05)
        sync.registerCallback(lambda *messages: found.append(len(messages)))
        start = time.perf_counter()
        for message in reader.messages(topics):
            stamp = message.data.header.stamp  # it insists on ROS's own
            header = SimpleNamespace(stamp=Time(sec=stamp.sec, nanosec=stamp.nanosec))
            filters[message.topic].signalMessage(SimpleNamespace(header=header, data=message.data))
        return time.perf_counter() - start


def machine() -> str:
    """What it is measured on, and what else is running there."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores, python = len(os.sched_getaffinity(0)), platform.python_version()
    return f"{cores} cores of {cpu}, {memory:.0f} GiB, Python {python}; load before: {os.getloadavg()[0]:.1f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=1000, help="of a bag; 0 leaves the first table out")
    parser.add_argument("--kinds", nargs="+", default=["jpeg", "raw", "large"], choices=["jpeg", "raw", "large"])
    parser.add_argument("--long", type=int, default=0)
    parsed = parser.parse_args()
    if not DRIVE.is_dir():
        sys.exit(f"needs the real drive at {DRIVE}")
    print(f"{machine()}\n")
    print("| bag | run | sweeps | frames/s | times real time | images/s | processor ms a frame | peak memory, MB |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in parsed.kinds if parsed.sweeps else ():
        cameras, sweeps = (3, max(1, parsed.sweeps // 5)) if kind == "large" else (1, parsed.sweeps)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            bag = write(folder / kind, sweeps, kind)
            for text, chosen, options in (
                ("1 bag, 1 thread", [bag], {"threads": 1}),
                ("1 bag, 2 threads", [bag], {"threads": 2}),
                ("2 bags, 2 workers", [bag, twin(bag, folder / "twin")], {"threads": 1, "workers": 2}),
            ):
                out = folder / text.replace(" ", "_")
                result = measured(chosen, out, **options)
                shutil.rmtree(out)
                rate, cpu = result["frames"] / result["seconds"], 1e3 * result["cpu"] / result["frames"]
                row = f"{len(chosen)} x {sweeps} | {rate:.1f} | {rate / 10:.1f} | {rate * cameras:.1f} | {cpu:.1f}"
                print(f"| {kind} | {text} | {row} | {result['peak_mb']:.0f} |", flush=True)
            taken = synchroniser(bag)
            if taken is not None:
                rate = sweeps / taken
                row = f"{sweeps} | {rate:.1f} | {rate / 10:.1f} | {rate * cameras:.1f} | - | -"
                print(f"| {kind} | message_filters, pairing only | {row} |")
    if parsed.long:
        print("\n| sweeps | frames/s | peak memory, MB |\n|---|---|---|")
        for sweeps in (parsed.long // 10, parsed.long):
            with tempfile.TemporaryDirectory() as name:
                result = measured([write(Path(name) / "long", sweeps, "jpeg")], Path(name))
                print(
                    f"| {sweeps} | {result['frames'] / result['seconds']:.1f} | {result['peak_mb']:.0f} |", flush=True
                )


if __name__ == "__main__":
    main()
