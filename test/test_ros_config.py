"""What RViz, Foxglove, DDS and systemd are told agrees with what the nodes publish and what is installed."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ros_world import World, wait

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config"
KINDS = {
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/PointCloud2": "sensor_msgs/msg/PointCloud2",
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
}
OTHERS = {"rviz_default_plugins/Grid", "rviz_default_plugins/TF", "rviz_common/Group"}
"""Displays of rviz2, Humble and Jazzy, that have no topic."""
CAMERA = "/recorder/overlay/camera"
"""One of the topics that are there only once the cameras are known."""
DDS = {"d": "http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"}
LARGE = (1080, 1920)
"""Height and width of an image that default transports lose."""


def displays(found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All displays, those in groups as well."""
    for display in found:
        yield display
        yield from displays(display.get("Displays", []))


@pytest.fixture(scope="module")
def rviz() -> list[dict[str, Any]]:
    """The displays of config/dseg.rviz."""
    return list(displays(yaml.safe_load((CONFIG / "dseg.rviz").read_text())["Visualization Manager"]["Displays"]))


@pytest.fixture(scope="module")
def foxglove() -> dict[str, Any]:
    """config/foxglove_layout.json."""
    found: dict[str, Any] = json.loads((CONFIG / "foxglove_layout.json").read_text())
    return found


def foxglove_topics(layout: dict[str, Any]) -> set[str]:
    """Every topic that a panel shows."""
    text = json.dumps(layout["configById"])
    return {topic.partition(".")[0] for topic in re.findall(r'"(/(?:segmenter|recorder|diagnostics)[\w./]*)"', text)}


@pytest.fixture
def published(tmp_path: Path, tiny_run: Path) -> Iterator[dict[str, str]]:
    """Topic -> type of what both nodes publish."""
    pytest.importorskip("rclpy", reason="ROS's wheels are not installed")
    with World(tmp_path) as world:
        world.run("segmenter", parameters={"model": tiny_run / "model.onnx"}).says(": active")
        world.run("recorder", parameters={"out": tmp_path / "frames"}).says(": active")

        def look() -> dict[str, str]:
            names = [name for name, _ in world.node.get_node_names_and_namespaces()]
            return {
                topic: kinds[0]
                for node in ("segmenter", "recorder")
                if node in names
                for topic, kinds in world.node.get_publisher_names_and_types_by_node(node, "/")
            }

        assert wait(lambda: {"/segmenter/points", "/recorder/boxes"} <= set(look()))
        yield look()


def test_displays_show_what_the_nodes_publish(rviz: list[dict[str, Any]], published: dict[str, str]) -> None:
    for display in rviz:
        if display["Class"] in OTHERS:
            continue
        topic = display["Topic"]["Value"]
        if topic == CAMERA:
            published[topic] = KINDS["rviz_default_plugins/Image"]
        assert published.get(topic) == KINDS[display["Class"]], topic


def test_panels_show_what_the_nodes_publish(foxglove: dict[str, Any], published: dict[str, str]) -> None:
    assert foxglove_topics(foxglove) <= set(published)


def test_displays_take_what_comes_and_show_colours(rviz: list[dict[str, Any]]) -> None:
    shown = [display for display in rviz if display["Class"] in KINDS]
    assert all(display["Topic"]["Reliability Policy"] == "Best Effort" for display in shown)
    assert all(display["Value"] == display["Enabled"] for display in shown)
    assert {d["Color Transformer"] for d in shown if d["Class"].endswith("PointCloud2")} == {"RGB8"}


def test_rviz_follows_renamed_nodes(rviz: list[dict[str, Any]]) -> None:
    launch = ET.parse(ROOT / "launch/rviz.launch.xml").getroot()  # noqa: S314
    renamed = {str(remap.get("from")): str(remap.get("to")) for remap in launch.iter("remap")}
    assert set(renamed) == {d["Topic"]["Value"] for d in rviz if d["Class"] in KINDS} - {CAMERA}
    for old, new in renamed.items():
        node, name = old.strip("/").split("/")
        assert new == f"$(var {node})/{name}"


def test_every_panel_is_somewhere(foxglove: dict[str, Any]) -> None:
    def panels(layout: Any) -> list[str]:
        return [layout] if isinstance(layout, str) else [*panels(layout["first"]), *panels(layout["second"])]

    assert sorted(panels(foxglove["layout"])) == sorted(foxglove["configById"])


# Transport.


def number(profile: str, name: str) -> int:
    """A number in one of Fast DDS's profiles."""
    return int(str(ET.parse(CONFIG / f"dds/fastdds_{profile}.xml").findtext(f".//d:{name}", namespaces=DDS)))  # noqa: S314


def test_profiles_hold_several_large_images() -> None:
    image = 3 * LARGE[0] * LARGE[1]
    assert number("sender", "maxMessageSize") > image
    assert number("sender", "segment_size") > 10 * image
    assert number("receiver", "receiveBufferSize") > 10 * image


def test_the_kernel_allows_the_receivers_buffer() -> None:
    lines = [line for line in (CONFIG / "dds/60-dseg.conf").read_text().splitlines() if line and line[0] != "#"]
    settings = dict(re.fullmatch(r"([a-z0-9_.]+) = (\d+)", line).groups() for line in lines)  # type: ignore[union-attr]
    assert int(settings["net.core.rmem_max"]) == number("receiver", "receiveBufferSize")


def test_cyclone_dds_is_well_formed() -> None:
    root = ET.parse(CONFIG / "dds/cyclonedds.xml").getroot()  # noqa: S314
    assert root.tag == "{https://cdds.io/config}CycloneDDS"


_SENDS = """
import array, sys, time, rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
rclpy.init()
height, width, count = map(int, sys.argv[1:])
node = rclpy.create_node("camera")
publisher = node.create_publisher(Image, "image", QoSProfile(depth=count, reliability=ReliabilityPolicy.POLICY))
data = array.array("B", bytes(3 * height * width))
while not publisher.get_subscription_count():
    time.sleep(0.05)
time.sleep(1)  # the other side matches later
for number in range(count):
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width, data=data)
    message.header.stamp.sec = number
    publisher.publish(message)
    print("sent", flush=True)
    sys.stdin.readline()
rclpy.spin(node)
"""


def test_large_images_arrive_by_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Best effort: the default transport loses most; here only what is sent before all have matched.

    Each is sent when the one before it has come, or was long waited for, so that no slow machine loses any.
    """
    pytest.importorskip("rclpy", reason="ROS's wheels are not installed")
    if shutil.disk_usage("/dev/shm").free < 2 * number("sender", "segment_size"):  # noqa: S108
        pytest.skip("there is little shared memory")
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    count = 30
    with World(tmp_path) as world:
        got = world.collect(Image, "image", QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT))
        monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(CONFIG / "dds/fastdds_sender.xml"))
        process = world.python("-c", _SENDS.replace("POLICY", "BEST_EFFORT"), *map(str, LARGE), str(count))
        for image in range(count):
            process.says("sent", times=image + 1)
            wait(lambda image=image: got and got[-1].header.stamp.sec == image, 10.0)
            process.answer()
        assert len(got) >= 0.8 * count, f"{len(got)} of {count}; {process.log}"
        stamps = [message.header.stamp.sec for message in got]
        assert stamps == sorted(stamps)
        assert "Error" not in process.log


def test_a_receiver_with_its_profile_hears_a_plain_sender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rclpy", reason="ROS's wheels are not installed")
    from sensor_msgs.msg import Image

    with World(tmp_path) as world:
        got = world.collect(Image, "image", 1)
        monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(CONFIG / "dds/fastdds_receiver.xml"))
        process = world.python("-c", _SENDS.replace("POLICY", "RELIABLE"), *map(str, LARGE), "1")
        assert wait(lambda: got), process.log
        assert "Error" not in process.log


# Starting with the machine.


def test_the_unit_starts_what_is_installed() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(CONFIG / "systemd/dseg-recorder.service")
    service = unit["Service"]
    launched = re.search(r"ros2 launch dseg_ros ([\w.]+)((?: \w+:=\S+)*)'", service["ExecStart"])
    assert launched is not None
    launch = ET.parse(ROOT / "launch" / launched[1]).getroot()  # noqa: S314
    given = dict(argument.split(":=") for argument in launched[2].split())
    assert set(given) <= {arg.get("name") for arg in launch.findall("arg")}
    assert given["out"].startswith(f"/var/lib/{service['StateDirectory']}/")
    grace = next(int(str(let.get("value"))) for let in launch.iter("let") if let.get("name") == "sigterm_timeout")
    assert int(service["TimeoutStopSec"]) > grace
    assert service["KillSignal"] == "SIGINT"
    if shutil.which("systemd-analyze"):
        told = subprocess.run(
            ["systemd-analyze", "verify", CONFIG / "systemd/dseg-recorder.service"], capture_output=True, text=True
        )
        assert not [line for line in told.stderr.splitlines() if "dseg-recorder" in line]


def test_the_container_recipe_tells_what_it_is() -> None:
    recipe = (ROOT / "Dockerfile").read_text()
    assert "NOT BUILT" in recipe
    for name in re.findall(r"[\w]+\.launch\.xml", recipe):
        assert (ROOT / "launch" / name).is_file()
