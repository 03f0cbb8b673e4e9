"""What the segmenter node costs besides its model, and which share of a camera's images reach it; a table.

Run: python benchmarks/segmenter_node.py [--seconds 60] [--model model.onnx]

A sender publishes rgb8 images of 1080p at 30 Hz and clouds of 130 000 points at 10 Hz, best effort. In the same run
receive: the segmenter with a model that does next to nothing (so that what is left is the node), and a plain rclpy
subscriber that only counts, which is what a user would write first. The transport is set as config/dds has it: not at
all, the sender's profile for the sender, the receiver's for both receivers. With --model, only the time from the start
of the process to its first mask is measured. Needs ROS's wheels and `onnx`.
"""

from __future__ import annotations

import argparse
import array
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
PROFILES = ROOT / "config" / "dds"
HEIGHT, WIDTH, POINTS = 1080, 1920, 130_000
RUNS = {
    "no profile": (None, None),
    "sender's profile": ("fastdds_sender.xml", None),
    "receiver's profile": (None, "fastdds_receiver.xml"),
}


def null_model(path: Path) -> None:
    """A model of eight classes that looks at the top bits of red."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from dseg_core.class_table import ClassTable
    from dseg_core.runtime.contract import Contract

    uint8 = TensorProto.UINT8
    nodes = [
        helper.make_node("Gather", ["image", "zero"], ["red"], axis=3),
        helper.make_node("BitShift", ["red", "five"], ["mask"], direction="RIGHT"),
        helper.make_node("Gather", ["image", "one"], ["confidence"], axis=3),
    ]
    constants = [
        numpy_helper.from_array(np.array(0), "zero"),
        numpy_helper.from_array(np.array(1), "one"),
        numpy_helper.from_array(np.array(5, np.uint8), "five"),
    ]
    image = helper.make_tensor_value_info("image", uint8, (1, HEIGHT, WIDTH, 3))
    outputs = [helper.make_tensor_value_info(name, uint8, (1, HEIGHT, WIDTH)) for name in ("mask", "confidence")]
    model = helper.make_model(
        helper.make_graph(nodes, "null", [image], outputs, constants), opset_imports=[helper.make_opsetid("", 18)]
    )
    model.ir_version = 9
    helper.set_model_props(model, Contract(ClassTable.of_clusters(7), (HEIGHT, WIDTH)).to_metadata())
    onnx.save(model, path)


def send(seconds: float) -> None:
    """The drivers: prints how many images were sent."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image, PointCloud2

    rclpy.init()
    node = rclpy.create_node("sender")
    images = node.create_publisher(Image, "/camera/image_raw", qos_profile_sensor_data)
    clouds = node.create_publisher(PointCloud2, "/points", qos_profile_sensor_data)
    image = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH)
    image.header.frame_id = "camera"
    image.data = array.array("B", np.random.default_rng(0).integers(0, 256, 3 * HEIGHT * WIDTH, np.uint8).tobytes())
    cloud = PointCloud2(height=1, width=POINTS, point_step=22, row_step=22 * POINTS)
    cloud.data = array.array("B", bytes(22 * POINTS))
    while not images.get_subscription_count() or images.get_subscription_count() < 2:
        time.sleep(0.1)
    time.sleep(2)
    sent, started = 0, time.monotonic()
    while (due := started + sent / 30) < started + seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        image.header.stamp = node.get_clock().now().to_msg()
        images.publish(image)
        if sent % 3 == 0:
            cloud.header.stamp = image.header.stamp
            clouds.publish(cloud)
        sent += 1
    time.sleep(2)
    print(sent, flush=True)


def count() -> None:
    """The plain subscriber: prints how many images came, when it is told to end."""
    import rclpy
    from rclpy.executors import ExternalShutdownException
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node("plain")
    came: list[None] = []
    node.create_subscription(Image, "/camera/image_raw", lambda message: came.append(None), qos_profile_sensor_data)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        print(len(came), flush=True)


def watch() -> None:
    """Subscribes to the mask, so that it is made, and prints the node's last diagnostics when it is told to end."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.executors import ExternalShutdownException
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node("watch")
    last: dict[str, str] = {}

    def take(message: DiagnosticArray) -> None:
        last.update({value.key: value.value for value in message.status[0].values})

    node.create_subscription(DiagnosticArray, "/diagnostics", take, 10)
    node.create_subscription(Image, "/segmenter/mask", lambda message: None, qos_profile_sensor_data)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        keys = ("received", "masks", "images dropped for newer ones", "node time", "model time", "latency time")
        print("|".join(last.get(key, "") for key in keys), flush=True)


def measured(name: str, model: Path, seconds: float, domain: int) -> str:
    """One run: a row of the table."""
    profiles = [None if profile is None else PROFILES / profile for profile in RUNS[name]]
    plain = {**os.environ, "ROS_DOMAIN_ID": str(domain), "PYTHONPATH": str(ROOT)}
    sender, receiver = (
        {**plain, "FASTRTPS_DEFAULT_PROFILES_FILE": str(profile)} if profile else plain for profile in profiles
    )
    me = [sys.executable, __file__, "--role"]
    node = [sys.executable, str(ROOT / "resource/executables/segmenter"), "--ros-args", "-p", f"model:={model}"]
    processes = {
        "node": subprocess.Popen([*node, "-r", "image:=/camera/image_raw"], env=receiver, stderr=subprocess.DEVNULL),
        "plain": subprocess.Popen([*me, "count"], env=receiver, stdout=subprocess.PIPE, text=True),
        "watch": subprocess.Popen([*me, "watch"], env=plain, stdout=subprocess.PIPE, text=True),
    }
    try:
        run = [*me, "send", "--seconds", str(seconds)]
        sent = int(subprocess.run(run, env=sender, check=True, capture_output=True, text=True).stdout)
        told = {}
        for role in ("watch", "plain"):
            processes[role].terminate()
            told[role] = processes[role].communicate(timeout=30)[0].strip()
    finally:
        for process in processes.values():
            process.kill()
    received, masks, dropped, own, in_model, latency = told["watch"].split("|")
    return f"| {name} | {sent} | {told['plain']} | {received} | {masks} | {dropped} | {own} | {in_model} | {latency} |"


def first_mask(model: Path, domain: int) -> str:
    """Seconds from starting the process to its first mask of a camera that runs already, and its memory then."""
    import rclpy
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image

    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("camera", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    camera, masks = node.create_publisher(Image, "/image", 1), []
    node.create_subscription(Image, "/segmenter/mask", masks.append, 1)
    image = Image(height=192, width=640, encoding="rgb8", step=3 * 640, data=array.array("B", bytes(3 * 192 * 640)))
    node.create_timer(1 / 30, lambda: camera.publish(image))
    command = [sys.executable, str(ROOT / "resource/executables/segmenter"), "--ros-args", "-p", f"model:={model}"]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain), "PYTHONPATH": str(ROOT)}
    found = []
    for _ in range(3):
        masks.clear()
        started = time.monotonic()
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while not masks and time.monotonic() < started + 60:
            executor.spin_once(timeout_sec=0.01)
        seconds = time.monotonic() - started
        status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        memory = next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024
        process.terminate()
        process.wait()
        found.append(f"{seconds:.2f} s, {memory:.0f} MB")
    rclpy.shutdown(context=context)
    return "; ".join(found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--model", type=Path, help="measures the time from start to its first mask, and nothing else")
    parser.add_argument("--role", choices=("send", "count", "watch"))
    parsed = parser.parse_args()
    if parsed.role:
        {"send": lambda: send(parsed.seconds), "count": count, "watch": watch}[parsed.role]()
        return
    if parsed.model:
        print(f"start to first mask, resident memory: {first_mask(parsed.model, 95)}")
        return
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    print(f"{len(os.sched_getaffinity(0))} cores of {cpu}; load average {os.getloadavg()[0]:.1f} before\n")
    print(
        "| transport | images sent | a plain subscriber got | the segmenter got | masks | dropped for newer "
        "| node | model | stamp to mask |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "null.onnx"
        null_model(model)
        for number, name in enumerate(RUNS):
            print(measured(name, model, parsed.seconds, 90 + number), flush=True)


if __name__ == "__main__":
    main()
