"""Whether the recorder keeps up with a car, and stays within its memory; a table.

Run: python benchmarks/recorder_node.py [--seconds 600]

A sender publishes three cameras of 1080p (rgb8, 30 Hz) and clouds of the real drive (113 000 points, 10 Hz): KITTI's
sweeps and images, enlarged, with new stamps, best effort, with the sender's profile of config/dds. One after another
receive the recorder, and what a user would write first: message_filters' ApproximateTimeSynchronizer, whose callback
writes each set's images as JPEG and its points as they are, without any proposals. Then both with compressed images.
The second needs ROS's message_filters; without it its rows are left out, and this is said.
"""

from __future__ import annotations

import argparse
import array
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dseg_core.bag import BagReader  # noqa: E402
from dseg_core.messages import image_from_message  # noqa: E402
from dseg_core.sensors_from_bag import sensors_from_bag  # noqa: E402
from dseg_core.stage_options import TopicOptions  # noqa: E402
from dseg_core.store import read_json  # noqa: E402
from dseg_core.transforms import pose_from_matrix  # noqa: E402

DRIVE = ROOT.parent / "shared" / "data" / "kitti_city"
PROFILE = ROOT / "config" / "dds" / "fastdds_sender.xml"
CAMERAS, LIDAR_FRAME, OPTICAL = ("left", "front", "right"), "velodyne", "optical"
HEIGHT, WIDTH, DISTINCT = 1080, 1920, 10
_ROS = importlib.util.find_spec("message_filters") is not None


def calibration(path: Path) -> Path:
    """Where the drive's camera is mounted; all three are there."""
    with BagReader(DRIVE) as reader:
        sensors = sensors_from_bag(reader, TopicOptions())
    t, q = pose_from_matrix(sensors.tree.lookup(LIDAR_FRAME, sensors.cameras[0].calibration.frame_id, 0))
    row = {"parent": LIDAR_FRAME, "child": OPTICAL, "translation": t.tolist(), "quaternion": q.tolist()}
    path.write_text(yaml.safe_dump({"transforms": [row]}))
    return path


def send(seconds: float, compressed: bool) -> None:
    """The drivers: prints how many images of each camera were sent."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data as qos
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField

    with BagReader(DRIVE) as reader:
        sensors = sensors_from_bag(reader, TopicOptions())
        found = list(reader.messages([sensors.lidar, sensors.cameras[0].topic]))
    camera = sensors.cameras[0].calibration.scaled(WIDTH, HEIGHT)
    pictures: list[Any] = []
    for message in [m.data for m in found if m.topic != sensors.lidar][:DISTINCT]:
        rgb = cv2.resize(image_from_message(message).rgb, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        if compressed:
            data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
            picture = CompressedImage(format="jpeg", data=array.array("B", data))
        else:
            picture = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH)
            picture.data = array.array("B", rgb.tobytes())
        picture.header.frame_id = OPTICAL
        pictures.append(picture)
    clouds = []
    for source in [m.data for m in found if m.topic == sensors.lidar][:DISTINCT]:
        fields = [PointField(name=f.name, offset=f.offset, datatype=f.datatype, count=f.count) for f in source.fields]
        cloud = PointCloud2(
            height=source.height, width=source.width, fields=fields, point_step=source.point_step,
            row_step=source.row_step, is_dense=source.is_dense, data=array.array("B", source.data.tobytes()),
        )  # fmt: skip
        cloud.header.frame_id = LIDAR_FRAME
        clouds.append(cloud)
    rclpy.init()
    node = rclpy.create_node("drivers")
    suffix = "/compressed" if compressed else ""
    kind = CompressedImage if compressed else Image
    images = [node.create_publisher(kind, f"/{name}/image_raw{suffix}", qos) for name in CAMERAS]
    infos = [node.create_publisher(CameraInfo, f"/{name}/camera_info", qos) for name in CAMERAS]
    points = node.create_publisher(PointCloud2, "/points", qos)
    info = CameraInfo(height=HEIGHT, width=WIDTH, distortion_model=camera.model, d=camera.D.tolist())
    info.k, info.r, info.p = camera.K.ravel().tolist(), camera.R.ravel().tolist(), camera.P.ravel().tolist()
    info.header.frame_id = OPTICAL
    while min(p.get_subscription_count() for p in (*images, points)) < 1:
        for publisher in infos:
            publisher.publish(info)
        time.sleep(0.1)
    sent, started = 0, time.monotonic()
    while (due := started + sent / 30) < started + seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        stamp = node.get_clock().now().to_msg()
        for publisher, beside in zip(images, infos, strict=True):
            picture = pictures[sent // 3 % DISTINCT]
            picture.header.stamp = info.header.stamp = stamp
            publisher.publish(picture)
            beside.publish(info)
        if sent % 3 == 0:
            cloud = clouds[sent // 3 % DISTINCT]
            cloud.header.stamp = stamp
            points.publish(cloud)
        sent += 1
    time.sleep(3)
    print(f"{sent} {sent // 3} {time.monotonic() - started - 3:.1f}", flush=True)


def synchronize(compressed: bool, out: Path) -> None:
    """The other recorder; prints how many messages it took and how many sets it wrote, when it is told to end."""
    import rclpy
    from message_filters import ApproximateTimeSynchronizer, Subscriber
    from rclpy.executors import ExternalShutdownException
    from rclpy.qos import qos_profile_sensor_data as qos
    from sensor_msgs.msg import CompressedImage, Image, PointCloud2

    rclpy.init()
    node = rclpy.create_node("synchronizer")
    taken, sets = [0, 0], [0]
    out.mkdir()

    def write(*messages: Any) -> None:
        name = f"{sets[0]:06}"
        for camera, message in zip(CAMERAS, messages[1:], strict=True):
            if compressed:
                (out / f"{name}_{camera}.jpg").write_bytes(message.data)
            else:
                rgb = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
                cv2.imwrite(str(out / f"{name}_{camera}.jpg"), rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        (out / f"{name}.points").write_bytes(messages[0].data)
        sets[0] += 1

    def add(index: int) -> None:
        taken[index] += 1

    kind, suffix = (CompressedImage, "/compressed") if compressed else (Image, "")
    filters = [Subscriber(node, PointCloud2, "/points", qos_profile=qos)]
    filters += [Subscriber(node, kind, f"/{name}/image_raw{suffix}", qos_profile=qos) for name in CAMERAS]
    for each, index in zip(filters, (1, 0, 0, 0), strict=True):
        each.registerCallback(lambda message, index=index: add(index))
    ApproximateTimeSynchronizer(filters, 10, 0.05).registerCallback(write)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        print(*taken, sets[0], flush=True)


def measured(who: str, name: str, seconds: float, domain: int, folder: Path) -> str:
    """One run: a row of the table."""
    compressed = name == "compressed"
    plain = {**os.environ, "ROS_DOMAIN_ID": str(domain), "PYTHONPATH": os.pathsep.join([str(ROOT), *_standins()])}
    sender = {**plain, "FASTRTPS_DEFAULT_PROFILES_FILE": str(PROFILE)}
    out = folder / f"{who}_{name}"
    me = [sys.executable, __file__, *(["--compressed"] if compressed else []), "--out", str(out), "--role"]
    parameters = {"out": out, "topics.calibration": calibration(folder / "mounting.yaml"), "drive": "drive"}
    arguments = [a for key, value in parameters.items() for a in ("-p", f"{key}:={value}")]
    ours = [sys.executable, str(ROOT / "resource/executables/recorder"), "--ros-args", *arguments]
    with (folder / "log").open("w+") as log:
        command = ours if who == "recorder" else [*me, "synchronize"]
        receiver = subprocess.Popen(command, env=plain, stdout=log, stderr=log, text=True)
        try:
            run = subprocess.run(
                [*me, "send", "--seconds", str(seconds)],
                env=sender,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                timeout=2 * seconds + 60,
            )
            sent, sweeps, lasted = run.stdout.split()
            status = Path(f"/proc/{receiver.pid}/status").read_text()
            peak = int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) / 1024  # type: ignore[union-attr]
            cpu = _cpu_seconds(f"/proc/{receiver.pid}/stat") / float(lasted)
            taking = _cpu_seconds(f"/proc/{receiver.pid}/task/{receiver.pid}/stat")  # the thread that spins
            receiver.terminate()
            receiver.wait(60)
        finally:
            receiver.kill()
        log.seek(0)
        images, lidar, made, dropped = _recorded(out) if who == "recorder" else _synchronized(log.read())
    shutil.rmtree(out)
    return (
        f"| {name} | {who} | {3 * int(sent)} + {sweeps} in {float(lasted):.0f} s | {images} + {lidar} | {made} "
        f"| {dropped} | {1e3 * taking / (images + lidar):.1f} ms | {cpu:.2f} | {peak:.0f} MB |"
    )


def _recorded(out: Path) -> tuple[int, int, str, str]:
    """Images, sweeps, what was made, and which sweeps were dropped; by the recorder's own account."""
    row = read_json(out / "summary.json")["results"]["drives"]["drive"]
    sensors = row["sensors"]
    images = sum(sensors[name]["messages"] for name in sensors if name != "lidar")
    dropped = "; ".join(f"{n} {reason}" for reason, n in sensors["lidar"]["dropped"].items()) or "none"
    return images, sensors["lidar"]["messages"], f"{row['frames']} frames, {row['views']} views", dropped


def _synchronized(log: str) -> tuple[int, int, str, str]:
    images, lidar, sets = map(int, log.split()[-3:])
    return images, lidar, f"{sets} sets", "does not tell"


def _cpu_seconds(stat: str) -> float:
    """User's and system's time of a process or thread."""
    ticks = Path(stat).read_text().rsplit(")", 1)[1].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _standins() -> list[str]:
    """What the recorder needs of ROS where it is not installed."""
    return [] if _ROS else [str(ROOT / "test" / "ros_standins")]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--only", nargs="*", default=["raw", "compressed"], choices=("raw", "compressed"))
    parser.add_argument("--who", nargs="*", default=["recorder", *(["synchronizer"] if _ROS else [])])
    parser.add_argument("--role", choices=("send", "synchronize"))
    parser.add_argument("--compressed", action="store_true")
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    if told.role == "send":
        send(told.seconds, told.compressed)
    elif told.role == "synchronize":
        synchronize(told.compressed, told.out)
    else:
        lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
        cpu = next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor()
        )
        print(f"{len(os.sched_getaffinity(0))} cores of {cpu}; load average {os.getloadavg()[0]:.1f} before")
        if not _ROS:
            print("message_filters of ROS is not installed: no synchronizer beside the recorder")
        print(
            "\n| run | who | images + clouds sent | got | made | sweeps dropped | CPU of taking one "
            "| CPU, cores | peak memory |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        with tempfile.TemporaryDirectory() as folder:
            for number, (name, who) in enumerate((name, who) for name in told.only for who in told.who):
                print(measured(who, name, told.seconds, 80 + number, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
