"""The segmenter as users run it: processes of its own, over DDS, against the model run directly."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import models
import numpy as np
import pytest
from engines import write_model
from ros_world import Process, World, header, image, stamp_of, wait

pytest.importorskip("rclpy", reason="ROS's wheels are not installed")

from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

from dseg_core.class_table import ClassTable
from dseg_core.messages import columns_from_cloud, image_from_message
from dseg_core.runtime.predictor import Predictor, open_model

NODE, MASK = "/segmenter", "/segmenter/mask"
STATUS = "segmenter: segmentation"
FRAME_ID = "camera_optical"
BEGAN_S = int(time.time())
OF_ANOTHER_TYPE = """
import rclpy
from geometry_msgs.msg import PoseStamped
rclpy.init()
node = rclpy.create_node("other")
publisher = node.create_publisher(PoseStamped, "/image", 10)
rclpy.spin(node)
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A ROS domain for one test."""
    with World(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def predictor(tiny_run: Path) -> Predictor:
    """The model, run without any ROS."""
    return open_model(tiny_run / "model.onnx")


def start(world: World, run: Path | None, **parameters: Any) -> Process:
    """A segmenter that is active, or as far as it comes."""
    given = {"diagnostics_period": 0.2, **({"model": run / "model.onnx"} if run else {}), **parameters}
    return world.run("segmenter", parameters={k.replace("__", "."): v for k, v in given.items()})


class Camera:
    """Publishes pictures with stamps that count up by seconds, from the time at which the tests began."""

    def __init__(self, world: World, topic: str = "/image", kind: Any = Image, qos: Any = 10) -> None:
        self._publisher = world.node.create_publisher(kind, topic, qos)
        self.first_s, self.count, self.beside = BEGAN_S, 0, lambda: None

    def send(self, seed: int = 0, message: Any = None) -> int:
        """Publish a picture of this seed; its stamp."""
        self.count += 1
        stamp = (self.first_s + self.count) * 10**9
        message = image(stamp, models.picture(seed), FRAME_ID) if message is None else message
        message.header = header(stamp, FRAME_ID)
        self.beside()
        self._publisher.publish(message)
        return stamp

    def found(self) -> bool:
        """Wait until somebody subscribes."""
        return bool(wait(self._publisher.get_subscription_count))

    def until(self, messages: list[Any], seed: int = 0) -> Any:
        """Send pictures until an answer comes; the last answer."""
        before = len(messages)
        assert self.sending(lambda: len(messages) > before, seed), "no answer"
        return messages[-1]

    def sending(self, condition: Callable[[], Any], seed: int = 0, message: Any = None) -> Any:
        """Send pictures until a condition holds; what it returned."""

        def found() -> Any:
            self.send(seed, message)
            return wait(condition, 0.1)

        return wait(found)


def test_masks_are_the_models_with_the_sources_stamp_and_frame(
    world: World, tiny_run: Path, predictor: Predictor
) -> None:
    names = ("mask", "color_mask", "overlay", "confidence")
    got: dict[str, list[Any]] = {name: world.collect(Image, f"{NODE}/{name}") for name in names}
    infos = world.collect(CameraInfo, f"{NODE}/camera_info")
    times = world.collect(Float64, f"{NODE}/processing_time_ms")
    latencies = world.collect(Float64, f"{NODE}/pipeline_latency_ms")
    camera, info = Camera(world, "/front/image_raw"), world.node.create_publisher(CameraInfo, "/front/camera_info", 10)
    start_remapped = ["-r", "image:=/front/image_raw"]  # and with it the camera_info beside it
    world.run("segmenter", *start_remapped, parameters={"model": tiny_run / "model.onnx", "overlay_strength": 0.25})
    assert camera.found()
    assert wait(info.get_subscription_count)
    sent_info = CameraInfo(height=2 * models.HEIGHT, width=2 * models.WIDTH, distortion_model="plumb_bob")
    sent_info.header.frame_id = FRAME_ID
    sent_info.k = [120.0, 0.0, 121.5, 0.0, 120.0, 74.5, 0.0, 0.0, 1.0]
    sent_info.p = [120.0, 0.0, 121.5, 0.0, 0.0, 120.0, 74.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    sent_info.r, sent_info.d = np.eye(3).ravel().tolist(), [0.0] * 5
    camera.beside = lambda: info.publish(sent_info)
    assert camera.sending(lambda: all(got.values()) and infos and times and latencies, seed=3)
    rgb = models.picture(3)
    expected = predictor.predict(rgb)
    palette = predictor.classes.palette()
    for name, pixels in (
        ("mask", expected.mask),
        ("confidence", expected.confidence),
        ("color_mask", palette[expected.mask]),
        ("overlay", cv2.addWeighted(rgb, 0.75, palette[expected.mask], 0.25, 0)),
    ):
        message = got[name][-1]
        shown = np.frombuffer(message.data, np.uint8).reshape(pixels.shape)
        np.testing.assert_array_equal(shown, pixels, name)
        assert message.encoding == ("mono8" if pixels.ndim == 2 else "rgb8"), name
        assert message.header.frame_id == FRAME_ID
        assert stamp_of(message) % 10**9 == 0
        assert 1 <= stamp_of(message) // 10**9 - BEGAN_S <= camera.count
    assert (infos[-1].width, infos[-1].height) == (models.WIDTH, models.HEIGHT)
    # Half the size; pixel centres stay at whole numbers: (121.5 + 0.5) / 2 - 0.5.
    np.testing.assert_allclose(np.asarray(infos[-1].k).reshape(3, 3), [[60, 0, 60.5], [0, 60, 37], [0, 0, 1]])
    assert times[-1].data > 0
    assert -1e3 * camera.count <= latencies[-1].data <= 1e3 * (time.time() - BEGAN_S), "since the image's stamp"


def test_nothing_is_computed_that_nobody_wants(world: World, tiny_run: Path) -> None:
    start(world, tiny_run)
    camera, health = Camera(world), world.diagnostics()
    key = "images nobody wanted a mask of"
    assert camera.sending(lambda: health.get(STATUS, {}).get(key, "0") != "0")
    assert health[STATUS]["masks"] == "0"
    confidence = world.collect(Image, f"{NODE}/confidence")
    camera.until(confidence)
    assert wait(lambda: health[STATUS]["masks"] != "0")


def test_newest_image_wins_and_every_image_is_accounted_for(world: World, tiny_run: Path) -> None:
    start(world, tiny_run, qos__depth=100, qos__reliability="reliable")
    masks, health = world.collect(Image, MASK, 100), world.diagnostics()
    camera = Camera(world, qos=100)
    assert camera.found()
    camera.until(masks)
    big = image(0, models.picture(1, 1080, 1920))  # takes longer than the next one needs to come, mostly

    def some_were_late() -> bool:
        for _ in range(30):
            last = camera.send(message=big)
        assert wait(lambda: stamp_of(masks[-1]) == last), "the last image was not segmented"
        return bool(wait(lambda: health.get(STATUS, {}).get("images dropped for newer ones", "0") != "0", 2.0))

    assert wait(some_were_late)

    def settled() -> bool:
        values = health.get(STATUS, {})
        names = ("masks", "images dropped for newer ones", "images nobody wanted a mask of")
        return values.get("received") == str(camera.count) == str(sum(int(values.get(name, -1)) for name in names))

    assert wait(settled), health
    assert int(health[STATUS]["images dropped for newer ones"]) > 0
    stamps = [stamp_of(message) for message in masks]
    assert stamps == sorted(stamps)


def test_compressed_images_and_the_models_own_size(world: World, tiny_run: Path, predictor: Predictor) -> None:
    start(world, tiny_run, image_transport="compressed", mask_size="model", min_confidence=0.5)
    masks, camera = world.collect(Image, MASK), Camera(world, "/image/compressed", CompressedImage)
    rgb = models.picture(5, 2 * models.HEIGHT, 2 * models.WIDTH)
    message = CompressedImage(format="png", data=cv2.imencode(".png", rgb[..., ::-1])[1].tobytes())
    assert camera.sending(lambda: masks, message=message)
    expected = predictor.predict(rgb, own_size=True)
    assert expected.mask.shape == (models.HEIGHT, models.WIDTH)
    mask = np.where(expected.confidence < 128, 255, expected.mask)
    assert 0 < (mask == 255).sum() < mask.size, "the test would show nothing"
    np.testing.assert_array_equal(image_from_message_mono(masks[-1]), mask)


def test_topics_go_by_the_names_that_the_user_gives(world: World, tiny_run: Path) -> None:
    """Also where a topic's name otherwise follows from another's, and where /diagnostics tells of it."""
    given = ["-r", "image/compressed:=/cam/jpeg", "-r", "camera_info:=/calibration/cam"]
    parameters = {"model": tiny_run / "model.onnx", "image_transport": "compressed", "diagnostics_period": 0.2}
    world.run("segmenter", *given, parameters=parameters)
    health, infos = world.diagnostics(), world.collect(CameraInfo, f"{NODE}/camera_info")
    camera = Camera(world, "/cam/jpeg", CompressedImage)
    rgb = models.picture(5)
    message = CompressedImage(format="png", data=cv2.imencode(".png", rgb[..., ::-1])[1].tobytes())
    assert camera.found()
    told = "no camera_info: nothing has come on /calibration/cam"
    assert camera.sending(lambda: told in health[STATUS]["message"], message=message), health
    assert health[STATUS]["topic"] == "/cam/jpeg"
    assert "nobody publishes" not in health[STATUS]["message"]
    calibration = world.node.create_publisher(CameraInfo, "/calibration/cam", 10)
    assert wait(calibration.get_subscription_count)
    sent = CameraInfo(height=models.HEIGHT, width=models.WIDTH, distortion_model="plumb_bob", d=[0.0] * 5)
    sent.k, sent.r = [60.0, 0.0, 60.5, 0.0, 60.0, 37.0, 0.0, 0.0, 1.0], np.eye(3).ravel().tolist()
    sent.p = [60.0, 0.0, 60.5, 0.0, 0.0, 60.0, 37.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    camera.beside = lambda: calibration.publish(sent)
    assert camera.sending(lambda: infos, message=message)
    assert wait(lambda: told not in health[STATUS]["message"])


def image_from_message_mono(message: Any) -> Any:
    """A mono8 image's pixels."""
    assert message.encoding == "mono8"
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)


def test_model_is_swapped_while_it_runs_and_a_bad_one_refused(world: World, tiny_run: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.onnx"
    shutil.copy(tiny_run / "model.onnx", mine)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    process = start(world, None, model=mine)
    masks, camera, health = world.collect(Image, MASK), Camera(world), world.diagnostics()
    camera.until(masks)
    too_long = tmp_path / f"{'long' * 99}.onnx"
    bad_ones = (
        (broken, "is no ONNX model"), (too_long, "cannot be read: File name too long"),
        (tmp_path / "none.onnx", "does not exist"),
    )  # fmt: skip
    for bad, why in bad_ones:
        refused = world.set_parameter(NODE, "model", str(bad))
        assert not refused.successful
        assert refused.reason.startswith(f"{bad}: {why}")
        process.says(f"refused: {bad}: {why}")
    camera.until(masks)
    assert wait(lambda: "does not exist" in health[STATUS]["message"])
    assert health[STATUS]["model"].startswith("mine.onnx")
    assert world.set_parameter(NODE, "model", str(tiny_run / "model.onnx")).successful
    assert wait(lambda: health[STATUS]["model"].startswith("model.onnx"))
    camera.until(masks)
    refused = world.set_parameter(NODE, "qos.depth", 3)
    assert not refused.successful
    assert "cannot change while the node is active" in refused.reason
    refused = world.set_parameter(NODE, "overlay_strength", 1.5)
    assert not refused.successful
    assert world.call(Trigger, f"{NODE}/reload_model").success
    camera.until(masks)


def test_log_says_why_this_backend_runs_the_model(world: World, tiny_run: Path) -> None:
    told = start(world, tiny_run).says("the model is model.onnx")
    assert re.search(r"\[INFO\].*\[segmenter\]: \S*model\.onnx: run by .*", told), told


def test_lifecycle(world: World, tiny_run: Path) -> None:
    process = start(world, None)
    log = process.says("cannot configure: no model is given")
    assert log.count("Traceback") == 0
    health = world.diagnostics()
    assert wait(lambda: health[STATUS]["level"] == "2")
    assert "no model is given" in health[STATUS]["message"]
    assert world.state(NODE) == "unconfigured"
    assert not world.transition(NODE, "activate")
    # What kept it from starting is mended: it starts by itself.
    assert world.set_parameter(NODE, "model", str(tiny_run / "model.onnx")).successful
    assert wait(lambda: world.state(NODE) == "active")
    assert not world.transition(NODE, "activate"), "it is active already"
    masks, camera = world.collect(Image, MASK), Camera(world)
    camera.until(masks)
    assert world.transition(NODE, "deactivate")
    first = camera.send()
    for _ in range(5):
        camera.send()
    assert not wait(lambda: stamp_of(masks[-1]) >= first, 1.0)
    assert world.transition(NODE, "cleanup")
    assert world.state(NODE) == "unconfigured"
    assert wait(lambda: not world.node.get_publishers_info_by_topic(MASK))
    assert world.transition(NODE, "configure")
    assert world.transition(NODE, "activate")
    camera.until(masks)
    assert process.stop() == 0
    assert "Traceback" not in process.log


def test_autostart_off_and_an_end_while_busy(world: World, tiny_run: Path) -> None:
    process = start(world, tiny_run, autostart=False)
    assert wait(lambda: world.state(NODE) == "unconfigured")
    assert world.transition(NODE, "configure")
    assert world.state(NODE) == "inactive"
    assert world.transition(NODE, "activate")
    masks, camera = world.collect(Image, MASK), Camera(world)
    camera.until(masks)
    big = image(0, models.picture(1, 1080, 1920))
    for _ in range(10):
        camera.send(message=big)
    assert process.stop(signal.SIGTERM) == 0, process.log
    assert "Traceback" not in process.log


def test_impatient_user_does_not_break_off_the_end(world: World, tiny_run: Path) -> None:
    process = start(world, tiny_run)
    process.says(": active")
    camera, _ = Camera(world), world.collect(Image, MASK)
    assert camera.found()
    for _ in range(5):
        camera.send(message=image(0, models.picture(1, 1080, 1920)))
    for _ in range(30):
        process.interrupt()
        time.sleep(0.02)
    assert process.ends() == 0
    assert "Traceback" not in process.log


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"overlay_strength": 3.0}, "overlay_strength"),
        ({"qos.reliability": "perhaps"}, "'perhaps' must be one of best_effort, reliable"),
        ({"threads": "many"}, "threads"),
        ({"label_info_period": 0.0}, "label_info_period"),
    ],
)
def test_wrong_parameters_cost_one_line(world: World, parameters: dict[str, Any], told: str) -> None:
    process = world.run("segmenter", parameters=parameters)
    assert process.ends() == 1
    (line,) = [line for line in process.log.splitlines() if line.strip()]
    assert told in line


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        (("-p", "threads"), "Couldn't parse parameter override rule: '-p threads'"),
        (("--params-file", "none.yaml"), "none.yaml"),
        (("-r", "__node:=1st"), "__node:=1st"),
        (("--no-such",), "--no-such"),
    ],
)
def test_wrong_ros_arguments_cost_one_line(world: World, argument: Sequence[str], told: str) -> None:
    process = world.run("segmenter", *argument)
    assert process.ends() == 1
    (line,) = [line for line in process.log.splitlines() if "[rcl]" not in line]  # rcl writes to the log itself
    assert line.startswith("ROS does not start")
    assert told in line


def test_problems_are_told_by_the_topics_name(world: World, tiny_run: Path) -> None:
    process = start(world, tiny_run, qos__reliability="reliable", image_transport="raw")
    health = world.diagnostics()

    def told(text: str) -> bool:
        return bool(wait(lambda: text in health[STATUS]["message"]))

    assert told("nobody publishes /image"), health
    other = world.python("-c", OF_ANOTHER_TYPE)
    assert told("/image carries geometry_msgs/msg/PoseStamped"), health
    process.says("/image carries geometry_msgs")
    other.kill()
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    shy = Camera(world, qos=best_effort)
    assert told("/image: a publisher's reliability does not fit; set qos.reliability to best_effort"), health
    world.node.destroy_publisher(shy._publisher)
    camera, masks = Camera(world), world.collect(Image, MASK)

    def well() -> bool:
        status = health[STATUS]
        return status["level"] == "0" and "images/s, latency" in status["message"]

    def silent() -> bool:
        status = health[STATUS]
        return status["level"] == "1" and "/image: no message for" in status["message"]

    assert camera.sending(lambda: masks and well()), health
    assert wait(silent), "the camera died, and nobody said so"
    assert camera.sending(well), "the camera is back"
    for problem in ("nobody publishes /image", "carries geometry_msgs", "incompatible QoS"):
        assert problem in process.log


def test_images_of_no_use_are_left_out_and_counted(world: World, tiny_run: Path) -> None:
    process = start(world, tiny_run)
    masks, camera, health = world.collect(Image, MASK), Camera(world), world.diagnostics()

    def bad() -> int:
        return sum(int(value) for key, value in health.get(STATUS, {}).items() if key.startswith("bad: "))

    camera.until(masks)
    strange = image(0, models.picture(1))
    strange.encoding = "32FC7"
    for length in (100, 200, 300):
        short = image(0, models.picture(1))
        short.data = short.data[:length]
        for message in (strange, short):
            before = bad()
            assert camera.sending(lambda before=before: bad() > before, message=message), health
    camera.until(masks)
    assert sum("bad: " in key for key in health[STATUS]) == 2, health
    log = process.says("image left out")
    assert (log.count("32FC7"), log.count("does not fit")) == (1, 1), "once for each reason"
    assert "Traceback" not in log


def test_points_are_painted_while_somebody_wants_them(
    world: World, tiny_run: Path, predictor: Predictor, tmp_path: Path
) -> None:
    (tmp_path / "mounting.yaml").write_text(
        f"transforms: [{{parent: lidar, child: {FRAME_ID}, translation: [0, 0, 0], "
        "quaternion: [-0.5, 0.5, -0.5, 0.5]}]\n"
    )
    start(world, tiny_run, calibration=tmp_path / "mounting.yaml")
    camera, clouds_out = Camera(world), world.collect(PointCloud2, f"{NODE}/points")
    infos = world.node.create_publisher(CameraInfo, "/camera_info", 10)
    lidar = world.node.create_publisher(PointCloud2, "/points", 10)
    assert camera.found()
    assert wait(lidar.get_subscription_count), "nobody subscribes to the points"
    assert wait(infos.get_subscription_count)
    info = CameraInfo(height=models.HEIGHT, width=models.WIDTH, distortion_model="plumb_bob", d=[0.0] * 5)
    info.header.frame_id = FRAME_ID
    info.k = [60.0, 0.0, 60.5, 0.0, 60.0, 37.0, 0.0, 0.0, 1.0]
    info.r = np.eye(3).ravel().tolist()
    info.p = [60.0, 0.0, 60.5, 0.0, 0.0, 60.0, 37.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    # A wall 10 m ahead, seen at every 4th pixel, and a point behind the vehicle. x forward, y left, z up.
    u, v = (axis.ravel() for axis in np.meshgrid(np.arange(2, 120, 4), np.arange(2, 74, 4)))
    wall = np.stack([np.full(u.shape, 10.0), -(u - 60.5) / 60 * 10, -(v - 37.0) / 60 * 10], axis=1)
    xyz = np.concatenate([wall, [[-5.0, 0.0, 0.0]]]).astype(np.float32)
    from dseg_ros.conversions import cloud_to_ros

    def once() -> bool:
        infos.publish(info)
        stamp = camera.send(seed=2)
        lidar.publish(cloud_to_ros(header(stamp + 5_000_000, "lidar"), dict(zip("xyz", xyz.T, strict=True))))
        return bool(wait(lambda: clouds_out, 0.3))

    assert wait(once)
    mask = predictor.predict(models.picture(2)).mask
    columns = columns_from_cloud(clouds_out[-1])
    np.testing.assert_array_equal(columns["x"], xyz[:, 0])
    np.testing.assert_array_equal(columns["class"], [*mask[v, u], 255])
    colors = columns["rgb"].view(np.uint32)
    shown = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], axis=1)
    np.testing.assert_array_equal(shown[:-1], predictor.classes.palette()[mask[v, u]])
    assert clouds_out[-1].header.frame_id == "lidar"
    assert stamp_of(clouds_out[-1]) % 10**9 == 5_000_000


def test_calibration_of_no_use_is_told(world: World, tiny_run: Path, tmp_path: Path) -> None:
    process, health = start(world, tiny_run, calibration=tmp_path / "none.yaml"), world.diagnostics()
    points = world.collect(PointCloud2, f"{NODE}/points")
    assert wait(lambda: "cannot paint points" in health[STATUS]["message"]), health
    assert health[STATUS]["level"] == "2"
    assert "none.yaml" in health[STATUS]["message"]
    time.sleep(1.0)
    assert process.log.count("cannot paint points") == 1
    assert not points


def test_car_needs_neither_torch_nor_what_learning_needs() -> None:
    code = (
        "import sys, dseg_ros.segmenter_node, dseg_core.runtime.onnxruntime_backend\n"
        "heavy = ('torch', 'timm', 'open3d', 'sklearn', 'numba', 'rosbags', 'mcap', 'scipy', 'av', 'faiss')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_image_comes_back_as_it_was_sent() -> None:
    from dseg_ros.conversions import image_to_ros

    rgb = models.picture(4)
    back = image_from_message(image_to_ros(header(7, "optical"), rgb))
    np.testing.assert_array_equal(back.rgb, rgb)
    assert (back.stamp_ns, back.frame_id) == (7, "optical")


def test_classes_are_told_also_to_who_comes_later(world: World, tiny_run: Path, predictor: Predictor) -> None:
    vision_msgs = pytest.importorskip("vision_msgs.msg", reason="vision_msgs comes with ROS, not from PyPI")
    from dseg_ros.topic_watch import LATCHED

    start(world, tiny_run, label_info_period=100.0)
    assert wait(lambda: world.state(NODE) == "active")
    told = world.collect(vision_msgs.LabelInfo, f"{NODE}/label_info", LATCHED)
    assert wait(lambda: told)
    names = {entry.class_id: entry.class_name for entry in told[0].class_map}
    assert names == {entry.id: entry.name for entry in predictor.classes.entries}


def test_clouds_follow_the_vehicle_by_tf_and_wait_for_it(world: World, tiny_run: Path, predictor: Predictor) -> None:
    tf2_msgs = pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs comes with ROS, not from PyPI")
    from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3

    from dseg_ros.conversions import cloud_to_ros
    from dseg_ros.topic_watch import LATCHED

    def moved(stamp: int, parent: str, child: str, xyz: tuple[float, ...], turned: tuple[float, ...]) -> Any:
        x, y, z = xyz
        qx, qy, qz, qw = turned
        transform = Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw))
        return TransformStamped(header=header(stamp, parent), child_frame_id=child, transform=transform)

    start(world, tiny_run, tf_timeout=60.0)
    camera, clouds_out = Camera(world), world.collect(PointCloud2, f"{NODE}/points")
    masks, health = world.collect(Image, MASK), world.diagnostics()
    infos = world.node.create_publisher(CameraInfo, "/camera_info", 10)
    lidar = world.node.create_publisher(PointCloud2, "/points", 10)
    static = world.node.create_publisher(tf2_msgs.TFMessage, "/tf_static", LATCHED)
    motion = world.node.create_publisher(tf2_msgs.TFMessage, "/tf", 100)
    optical = (-0.5, 0.5, -0.5, 0.5)
    static.publish(
        tf2_msgs.TFMessage(
            transforms=[
                moved(0, "base", FRAME_ID, (0.0, 0.0, 0.0), optical),
                moved(0, "base", "lidar", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
            ]
        )
    )
    assert wait(lambda: lidar.get_subscription_count() and motion.get_subscription_count())
    assert camera.found()
    info = CameraInfo(height=models.HEIGHT, width=models.WIDTH, distortion_model="plumb_bob", d=[0.0] * 5)
    info.header.frame_id = FRAME_ID
    info.k = [60.0, 0.0, 60.5, 0.0, 60.0, 37.0, 0.0, 0.0, 1.0]
    info.r = np.eye(3).ravel().tolist()
    info.p = [60.0, 0.0, 60.5, 0.0, 0.0, 60.0, 37.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    camera.beside = lambda: infos.publish(info)
    # 10 m ahead when the image is taken. The sweep is 50 ms later, and the vehicle drives 20 m/s: 9 m ahead by then.
    u, v = (axis.ravel() for axis in np.meshgrid(np.arange(2, 120, 4), np.arange(2, 74, 4)))
    wall = np.stack([np.full(u.shape, 9.0), -(u - 60.5) / 6, -(v - 37.0) / 6], axis=1).astype(np.float32)

    def drive(stamps: Sequence[int]) -> None:
        for t in stamps:
            ahead = max(t / 1e9 - BEGAN_S, 0.0) * 20.0  # of stamp 0 as well, on the planet: others are left out
            at = moved(t, "odom", "base", (ahead, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
            motion.publish(tf2_msgs.TFMessage(transforms=[at]))

    def once() -> bool:
        stamp = camera.send(seed=2)
        later = stamp + 50_000_000
        lidar.publish(cloud_to_ros(header(later, "lidar"), dict(zip("xyz", wall.T, strict=True))))
        wait(lambda: masks and stamp_of(masks[-1]) == stamp, 2.0)
        camera.send(seed=2)  # a later image decides the cloud's pair
        time.sleep(0.2)  # /tf comes last, as it does where odometry is slow
        drive((stamp - 100_000_000, stamp, later, later + 10**8))
        return bool(wait(lambda: clouds_out, 1.0))

    drive([0])  # from now on it is known that the vehicle may move
    time.sleep(1.0)
    assert wait(once)
    mask = predictor.predict(models.picture(2)).mask
    columns = columns_from_cloud(clouds_out[-1])
    np.testing.assert_array_equal(columns["class"], mask[v, u])
    assert wait(lambda: health.get(STATUS, {}).get("clouds painted", "0") != "0")
    assert health[STATUS]["clouds without the vehicle's motion"] == "none"


def test_simulated_time_that_stands_still_or_jumps_back(world: World, tiny_run: Path) -> None:
    """As `ros2 bag play --clock --loop` makes it: latency is told in the bag's time, and nothing waits for it."""
    from builtin_interfaces.msg import Time
    from rosgraph_msgs.msg import Clock

    start(world, tiny_run, use_sim_time=True)
    health, masks, camera = world.diagnostics(), world.collect(Image, MASK), Camera(world)
    assert wait(lambda: health), "without /clock nothing is told"
    camera.until(masks)
    clock = world.node.create_publisher(Clock, "/clock", 10)
    latencies = world.collect(Float64, f"{NODE}/pipeline_latency_ms")

    def told(at_s: int, ahead_ms: int) -> bool:
        """Whether an image that is `ahead_ms` old at simulated time `at_s` says so."""
        clock.publish(Clock(clock=Time(sec=at_s, nanosec=ahead_ms * 1_000_000)))
        time.sleep(0.1)
        camera.first_s, camera.count = 0, at_s - 1
        camera.send()
        return bool(wait(lambda: latencies and abs(latencies[-1].data - ahead_ms) < 1e-3, 0.5))

    assert wait(lambda: told(1000, 250)), latencies[-1]
    before = len(masks)
    assert wait(lambda: told(10, 125)), "after the loop began anew"
    assert len(masks) > before


@pytest.fixture
def slow(tiny_run: Path, tmp_path: Path) -> Path:
    """A model that needs building, see `segmenter_that_builds`."""
    (tmp_path / "models").mkdir()
    return Path(shutil.copy(tiny_run / "model.onnx", tmp_path / "models" / "slow.onnx"))


def build(world: World, model: Path, *more: str) -> Process:
    """A segmenter with a model that may need building."""
    script = Path(__file__).with_name("segmenter_that_builds.py")
    arguments = ["-p", f"model:={model}", "-p", "diagnostics_period:=0.2", *more]
    return world.python(str(script), "--ros-args", *arguments)


def test_node_tells_how_far_its_engine_is_and_activates_itself_when_it_is_built(world: World, slow: Path) -> None:
    process = build(world, slow)
    health, masks, camera = world.diagnostics(), world.collect(Image, MASK), Camera(world)
    assert wait(lambda: health[STATUS]["message"].startswith("building, 0%"))
    (slow.parent / "share").write_text("0.4")
    told = "building, 40%: an engine for this GPU from slow.onnx"
    assert wait(lambda: health[STATUS]["message"] == told)
    assert health[STATUS]["level"] == "1"
    assert world.state(NODE) == "inactive", "and it answers"
    (slow.parent / "done").touch()
    assert wait(lambda: world.state(NODE) == "active")
    camera.until(masks)
    assert process.stop() == 0
    assert "cannot" not in process.log


def test_activated_while_it_builds_it_follows_when_it_can(world: World, slow: Path) -> None:
    process = build(world, slow, "-p", "autostart:=false")
    assert world.transition(NODE, "configure")
    (slow.parent / "share").write_text("0.25")
    assert wait(lambda: not world.transition(NODE, "activate") and "cannot activate: building, 25%" in process.log)
    (slow.parent / "done").touch()
    assert wait(lambda: world.state(NODE) == "active")


def test_old_model_runs_on_while_another_is_built(world: World, tiny_run: Path, slow: Path) -> None:
    build(world, tiny_run / "model.onnx")
    health, masks, camera = world.diagnostics(), world.collect(Image, MASK), Camera(world)
    camera.until(masks)
    assert world.set_parameter(NODE, "model", str(slow)).successful
    assert wait(lambda: health[STATUS]["message"].startswith("building, 0%"))
    camera.until(masks)
    assert health[STATUS]["model"].startswith("model.onnx")
    (slow.parent / "done").touch()
    assert wait(lambda: health[STATUS]["model"].startswith("slow.onnx"))
    camera.until(masks)


def test_engine_that_cannot_be_built_is_told_and_another_model_taken(world: World, tiny_run: Path, slow: Path) -> None:
    process, health = build(world, slow), world.diagnostics()
    process.says("the building begins")
    (slow.parent / "broken").touch()
    assert wait(lambda: health[STATUS]["level"] == "2")
    assert health[STATUS]["message"].startswith(f"there is no model: {slow}: no engine can be built of it")
    assert not world.transition(NODE, "activate")
    assert world.set_parameter(NODE, "model", str(tiny_run / "model.onnx")).successful
    assert wait(lambda: world.state(NODE) == "active")


def test_node_ends_where_the_gpu_is_lost(world: World, slow: Path) -> None:
    """Nothing of CUDA works in that process any more, so only another one can go on."""
    (slow.parent / "done").touch()
    process, masks, camera = build(world, slow), world.collect(Image, MASK), Camera(world)
    camera.until(masks)
    (slow.parent / "lost").touch()
    assert camera.sending(lambda: "GpuLostError" in process.log)
    assert process.ends() == 1 and "misaligned address" in process.log


def test_building_is_broken_off_by_the_end_and_by_another_model(world: World, tiny_run: Path, slow: Path) -> None:
    process, masks, camera = build(world, slow), world.collect(Image, MASK), Camera(world)
    process.says("the building begins")
    refused = world.set_parameter(NODE, "model", str(slow.with_name("missing.onnx")))
    assert not refused.successful and "does not exist" in refused.reason
    assert "broken off" not in process.log, "for nothing"
    assert world.set_parameter(NODE, "model", str(tiny_run / "model.onnx")).successful
    process.says("the building is broken off")
    camera.until(masks)
    assert world.set_parameter(NODE, "model", str(slow)).successful
    assert process.stop(signal.SIGTERM) == 0
    assert process.log.count("the building is broken off") == 2
    assert "Traceback" not in process.log


def test_node_answers_while_a_model_loads_and_takes_it_when_it_is_there(
    world: World, tiny_run: Path, slow: Path
) -> None:
    heavy = slow.rename(slow.with_name("heavy.onnx"))
    process, health = build(world, heavy), world.diagnostics()
    assert wait(lambda: health[STATUS]["message"] == "loading heavy.onnx")
    assert health[STATUS]["level"] == "1" and world.state(NODE) == "inactive"
    (heavy.parent / "done").touch()
    assert wait(lambda: world.state(NODE) == "active")
    assert wait(lambda: health[STATUS]["model"].startswith("heavy.onnx"))
    (heavy.parent / "done").unlink()
    masks, camera = world.collect(Image, MASK), Camera(world)
    # Another one loads while this runs on, and is not what it seems; then it is given up for a third.
    heavy.with_name("heavy_bad.onnx").write_bytes(b"no model")
    assert world.set_parameter(NODE, "model", str(heavy.with_name("heavy_bad.onnx"))).successful
    assert wait(lambda: health[STATUS]["message"] == "loading heavy_bad.onnx")
    camera.until(masks)
    (heavy.parent / "done").touch()
    assert wait(lambda: "heavy_bad.onnx: is no ONNX model" in health[STATUS]["message"])
    told = process.says(f"refused: {heavy.with_name('heavy_bad.onnx')}: is no ONNX model")
    assert "heavy.onnx (" in told and "runs on" in told
    assert health[STATUS]["model"].startswith("heavy.onnx")
    (heavy.parent / "done").unlink()
    assert world.set_parameter(NODE, "model", str(heavy)).successful
    assert world.set_parameter(NODE, "model", str(tiny_run / "model.onnx")).successful
    (heavy.parent / "done").touch()
    assert wait(lambda: health[STATUS]["model"].startswith("model.onnx") and "loading" not in health[STATUS]["message"])
    assert process.stop() == 0 and "Traceback" not in process.log


def test_model_without_a_confidence(world: World, own_run: Path, tmp_path: Path) -> None:
    """Masks as ever; what cannot be had without is told to who asks for it."""
    from dseg_core.model_from_student import export
    from dseg_core.stage_options import ExportOptions

    model = tmp_path / "plain.onnx"
    export(own_run, ExportOptions(out=model, confidence=False, check_frames=1))
    start(world, None, model=model)
    health, masks, camera = world.diagnostics(), world.collect(Image, MASK), Camera(world)
    camera.until(masks)
    assert wait(lambda: "why this backend" in health[STATUS])
    assert "confidence" not in health[STATUS]["message"]
    assert world.set_parameter(NODE, "min_confidence", 0.5).successful
    sure = world.collect(Image, f"{NODE}/confidence")
    told = "no min_confidence and ~/confidence: the model was exported with --confidence false"
    assert camera.sending(lambda: told in health[STATUS]["message"]), health
    camera.until(masks)
    assert not sure


def test_ids_that_no_class_has_are_told(world: World, tmp_path: Path) -> None:
    model = write_model(tmp_path / "foreign.onnx", classes=ClassTable.of_names(["dark"], [(9, 9, 9)]))
    process = start(world, None, model=model)
    health, colors, camera = world.diagnostics(), world.collect(Image, f"{NODE}/color_mask"), Camera(world)
    bright = image(0, np.full((6, 8, 3), 200, np.uint8))
    told = "the model's masks have ids of none of its 1 classes: 1 ("
    assert camera.sending(lambda: told in health[STATUS]["message"], message=bright), health
    assert health[STATUS]["level"] == "1" and process.log.count(told) == 1
    assert wait(lambda: bool(colors)) and not any(colors[-1].data)


def test_images_that_look_squeezed_to_the_model_are_told(world: World, tiny_run: Path) -> None:
    process, health, masks = start(world, tiny_run), world.diagnostics(), world.collect(Image, MASK)
    camera, side = Camera(world), models.HEIGHT
    camera.until(masks)
    assert "aspect" not in process.log
    told = f"{side}x{side} stretched to {models.WIDTH}x{side} changes the aspect by "
    square = image(0, models.picture(1, side, side))
    assert camera.sending(lambda: told in health[STATUS]["message"], message=square), health
    assert process.log.count(told) == 1
