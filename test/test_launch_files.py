"""Launch files: what they declare, use and refer to; and, where ROS's launch is installed, what they start."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ros_world import EXECUTABLES, Process, World, wait

ROOT = Path(__file__).parents[1]
SHARE = "$(find-pkg-share dseg_ros)/"
FILES = sorted(path.name for path in (ROOT / "launch").iterdir())
REQUIRED = {("replay.launch.xml", "bag")}
OPTIONS = {"segmenter": "SegmenterOptions", "recorder": "RecorderOptions"}
ROS2 = "import sys; from ros2cli.cli import main; sys.exit(main())"


def tree(name: str) -> ET.Element:
    """A launch file's root."""
    return ET.parse(ROOT / "launch" / name).getroot()  # noqa: S314


def declared(name: str) -> dict[str, ET.Element]:
    """The arguments that a launch file declares."""
    return {str(arg.get("name")): arg for arg in tree(name).findall("arg")}


def texts(name: str) -> Iterator[str]:
    """Every attribute in a launch file."""
    for element in tree(name).iter():
        yield from element.attrib.values()


# What the files say.


@pytest.mark.parametrize("name", FILES)
def test_every_argument_is_described_and_has_a_default(name: str) -> None:
    for argument, element in declared(name).items():
        assert (element.get("default") is None) == ((name, argument) in REQUIRED), argument
        text = str(element.get("description"))
        assert text[0].isalnum() and text.endswith("."), argument


@pytest.mark.parametrize("name", FILES)
def test_arguments_are_declared_and_used(name: str) -> None:
    used = {found for text in texts(name) for found in re.findall(r"\$\(var ([a-z_]+)\)", text)}
    assert used == set(declared(name))


def test_an_argument_means_the_same_everywhere() -> None:
    said: dict[str, set[str]] = {}
    for name in FILES:
        for argument, element in declared(name).items():
            if argument not in ("params_file", "namespace", "name"):
                said.setdefault(argument, set()).add(str(element.get("description")))
    assert not {argument: found for argument, found in said.items() if len(found) > 1}


@pytest.mark.parametrize("name", FILES)
def test_what_is_referred_to_exists(name: str) -> None:
    for text in texts(name):
        for path in re.findall(re.escape(SHARE) + r"([\w./-]+)", text):
            assert (ROOT / path).is_file(), path
    package = ET.parse(ROOT / "package.xml").getroot()  # noqa: S314
    depends = {element.text for element in package.findall("exec_depend")}
    for node in tree(name).iter("node"):
        if node.get("pkg") == "dseg_ros":
            assert (EXECUTABLES / str(node.get("exec"))).is_file()
        else:
            assert node.get("pkg") in depends


@pytest.mark.parametrize("name", FILES)
def test_included_files_are_given_arguments_that_they_declare(name: str) -> None:
    for include in tree(name).iter("include"):
        other = str(include.get("file")).rpartition("/")[2]
        assert {arg.get("name") for arg in include.findall("arg")} <= set(declared(other))


@pytest.mark.parametrize("name", FILES)
def test_parameters_are_the_nodes(name: str) -> None:
    from dseg_ros import node_options

    for group in tree(name).iter("group"):
        parameters = {str(p.get("name")) for p in group.findall("set_parameter")} - {"use_sim_time"}
        for node in group.findall("node"):
            kind = getattr(node_options, OPTIONS[str(node.get("exec"))])
            assert parameters <= {field.path for field in kind.fields()}


# What they start.


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A ROS domain for one test, with the package installed as `ros2 launch` looks for it."""
    for package in ("rclpy", "launch_ros", "launch_xml", "ros2launch"):
        pytest.importorskip(package, reason=f"ROS's {package} is not installed")
    installed = tmp_path / "installed"
    for folder, target in (("share", ROOT), ("lib", EXECUTABLES)):
        (installed / folder).mkdir(parents=True)
        (installed / folder / "dseg_ros").symlink_to(target)
    marker = installed / "share/ament_index/resource_index/packages/dseg_ros"
    marker.parent.mkdir(parents=True)
    marker.touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(installed), prepend=":")
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    with World(tmp_path) as found:
        yield found
        for process in found.processes:  # killed, `ros2 launch` would leave its nodes behind
            process.finish()


def launch(world: World, file: str, **arguments: object) -> Process:
    """`ros2 launch dseg_ros FILE.launch.xml ...`."""
    given = [f"{key}:={value}" for key, value in arguments.items()]
    return world.python("-c", ROS2, "launch", "dseg_ros", f"{file}.launch.xml", *given)


def subscribed(world: World, node: str, namespace: str = "/") -> set[str]:
    """The topics that a node subscribes to, once it does."""

    def look() -> set[str]:
        if (node, namespace) not in world.node.get_node_names_and_namespaces():
            return set()
        return {topic for topic, _ in world.node.get_subscriber_names_and_types_by_node(node, namespace)}

    found: set[str] = wait(look)
    return found


def parameter(world: World, node: str, name: str) -> object:
    """A parameter as `ros2 param get` shows it."""
    from rcl_interfaces.srv import GetParameters
    from rclpy.parameter import parameter_value_to_python

    return parameter_value_to_python(
        world.call(GetParameters, f"{node}/get_parameters", GetParameters.Request(names=[name])).values[0]
    )


def environment(process: Process) -> dict[str, str]:
    """The environment of the node that a launch has started."""
    pid = re.search(r"process started with pid \[(\d+)\]", process.says("process started with pid"))
    assert pid is not None
    assert wait(lambda: b"--ros-args" in Path(f"/proc/{pid[1]}/cmdline").read_bytes())
    entries = Path(f"/proc/{pid[1]}/environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def test_segment(world: World, tiny_run: Path) -> None:
    spaced = world.folder / "a model"
    spaced.mkdir()
    shutil.copy(tiny_run / "model.onnx", spaced)
    model = spaced / "model.onnx"
    process = launch(
        world, "segment", model=model, image="/front/image_raw", namespace="car", name="eye", log_level="debug"
    )
    process.says(": active")
    assert {"/front/image_raw", "/front/camera_info"} <= subscribed(world, "eye", "/car")
    assert parameter(world, "/car/eye", "model") == str(model)
    assert parameter(world, "/car/eye", "use_sim_time") is False
    assert "[DEBUG]" in process.log
    assert process.stop() == 0


def test_segment_as_its_parameter_file_says(world: World, tiny_run: Path) -> None:
    file = world.folder / "my parameters.yaml"
    mine = {"model": str(tiny_run / "model.onnx"), "image_transport": "compressed", "min_confidence": 0.25}
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": mine}}))
    launch(world, "segment", params_file=file, camera_info="elsewhere/info", use_sim_time="true").says(": active")
    assert {"/camera/image_raw/compressed", "/elsewhere/info"} <= subscribed(world, "segmenter")
    assert {name: parameter(world, "/segmenter", name) for name in mine} == mine
    assert parameter(world, "/segmenter", "use_sim_time") is True


def test_arguments_go_before_the_parameter_file(world: World, tiny_run: Path) -> None:
    file = world.folder / "parameters.yaml"
    file.write_text("/**: {ros__parameters: {model: /nowhere.onnx, image_transport: compressed}}")
    model = tiny_run / "model.onnx"
    launch(world, "segment", params_file=file, model=model, image_transport="raw", image="image").says(": active")
    assert {"/image", "/camera_info"} <= subscribed(world, "segmenter")


def test_two_cameras(world: World, tiny_run: Path) -> None:
    process = launch(world, "segment_two_cameras", model=tiny_run / "model.onnx", rear="/back/image")
    process.says("[segmenter_front]: active")
    process.says("[segmenter_rear]: active")
    assert {"/front/image_raw", "/front/camera_info"} <= subscribed(world, "segmenter_front")
    assert {"/back/image", "/back/camera_info"} <= subscribed(world, "segmenter_rear")


def test_record(world: World) -> None:
    out = world.folder / "my frames"
    process = launch(
        world, "record", out=out, cameras="/front/image_raw,/rear/image_raw", lidar="/points", other_lidars="/left"
    )
    process.says(": active")
    assert parameter(world, "/recorder", "out") == str(out)
    assert parameter(world, "/recorder", "topics.cameras") == ["/front/image_raw", "/rear/image_raw"]
    assert parameter(world, "/recorder", "topics.lidar") == "/points"
    assert parameter(world, "/recorder", "topics.other_lidars") == ["/left"]
    assert parameter(world, "/recorder", "topics.calibration") == ""
    assert process.stop() == 0


@pytest.mark.parametrize("name", ["segment", "record"])
def test_the_environments_dds_profile_stays_unless_another_is_given(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    mine, other = (str(ROOT / f"config/dds/fastdds_{role}.xml") for role in ("sender", "receiver"))
    assert not [key for key in environment(launch(world, name)) if "PROFILES_FILE" in key]
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", mine)
    found = environment(launch(world, name))
    assert {key: value for key, value in found.items() if "PROFILES_FILE" in key} == {
        "FASTRTPS_DEFAULT_PROFILES_FILE": mine
    }
    found = environment(launch(world, name, dds_profile=other))
    assert {value for key, value in found.items() if "PROFILES_FILE" in key} == {other}


@pytest.mark.parametrize("name", [name for name in FILES if name != "rviz.launch.xml"])
def test_show_args(world: World, name: str) -> None:
    shown = world.python("-c", ROS2, "launch", "dseg_ros", name, "--show-args")
    assert shown.ends() == 0
    assert all(f"'{argument}':" in shown.log for argument in declared(name))


def test_replay_plays_by_the_bags_clock(world: World, tiny_run: Path) -> None:
    """`ros2 bag` needs rosbag2, which may not be there: what it is asked is."""
    bag = world.folder / "my drive"
    process = launch(world, "replay", bag=bag, model=tiny_run / "model.onnx", rviz="false", rate="0.5", image="/image")
    process.says(": active")
    asked = f"ros2 bag play {bag} --clock 100 --rate 0.5 --start-offset 0.0 --delay 3.0"
    assert parameter(world, "/segmenter", "use_sim_time") is True
    process.says(asked)


def test_without_rviz_nothing_is_left_running(world: World) -> None:
    pytest.importorskip("ament_index_python")
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        get_package_prefix("rviz2")
        pytest.skip("RViz is installed")
    except PackageNotFoundError:
        pass
    process = launch(world, "segment", rviz="true")
    assert process.ends() != 0
    assert "rviz2" in process.log and "process started" not in process.log
