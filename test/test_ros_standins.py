"""The stand-ins are as the real packages are, and hold every name that the nodes use of them."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
STANDINS = Path(__file__).parent / "ros_standins"
NOT_ON_PYPI = ("launch", "launch_ros", "message_filters", "rosbag2_py", "sensor_msgs_py", "tf2_ros")
"""Python packages of ROS that a machine with PyPI's wheels lacks."""
COMPILED = ("tf2_msgs", "vision_msgs")
"""Message packages, which nothing can stand in for."""


def load(where: list[str]) -> ModuleType:
    """message_filters from one place, without becoming what `import message_filters` gives."""
    spec = importlib.machinery.PathFinder.find_spec("message_filters", where)
    if spec is None or spec.loader is None:
        pytest.skip("the real message_filters is not installed")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def standin() -> ModuleType:
    """Ours."""
    return load([str(STANDINS)])


@pytest.fixture
def real() -> ModuleType:
    """ROS's."""
    return load([path for path in sys.path if Path(path) != STANDINS])


@pytest.fixture(params=["standin", "real"])
def module(request: pytest.FixtureRequest) -> ModuleType:
    """Each of the two, for what both must do."""
    found: ModuleType = request.getfixturevalue(request.param)
    return found


class FakeNode:
    """Remembers how it was asked for a subscription."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def create_subscription(self, *args: Any, **kwargs: Any) -> FakeNode:
        self.asked.append((args, kwargs))
        return self

    topic_name = "/resolved"


def used(package: str) -> set[tuple[str, str]]:
    """(file, name) of all that the product uses of a package: `package.name` and `from package import name`."""
    found = set()
    for path in sorted([*(ROOT / "dseg_ros").rglob("*.py"), *(ROOT / "resource" / "executables").iterdir()]):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        called = set()
        for part in ast.walk(tree):
            if isinstance(part, ast.Import):
                called |= {alias.asname or alias.name for alias in part.names if alias.name == package}
            elif isinstance(part, ast.ImportFrom) and part.module and part.module.split(".")[0] == package:
                found |= {(path.name, alias.name) for alias in part.names}
        for part in ast.walk(tree):
            if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in called:
                found.add((path.name, part.attr))
    return found


def test_every_name_that_the_nodes_use_is_there(standin: ModuleType) -> None:
    missing = {(file, name) for file, name in used("message_filters") if not hasattr(standin, name)}
    assert not missing, f"test/ros_standins/message_filters.py lacks {missing}"


@pytest.mark.parametrize("package", NOT_ON_PYPI)
def test_what_is_used_can_be_stood_in_for(package: str) -> None:
    assert not used(package) or (STANDINS / f"{package}.py").is_file(), f"{used(package)} without a stand-in"


@pytest.mark.parametrize("package", COMPILED)
def test_what_cannot_be_stood_in_for_is_imported_in_one_place(package: str) -> None:
    assert {file for file, _ in used(package)} <= {"compat.py"}


def test_calls_are_the_same(standin: ModuleType, real: ModuleType) -> None:
    ours = {name: kind for name, kind in vars(standin).items() if getattr(kind, "__module__", "") == standin.__name__}
    assert ours
    for name, kind in ours.items():
        for method, function in vars(kind).items():
            if inspect.isfunction(function):
                theirs = inspect.signature(getattr(getattr(real, name), method))
                shapes = [
                    [(p.name, p.kind, p.default) for p in s.parameters.values()]
                    for s in (inspect.signature(function), theirs)
                ]
                assert shapes[0] == shapes[1], f"{name}.{method}"
        assert [base.__name__ for base in kind.__mro__] == [base.__name__ for base in getattr(real, name).__mro__]


def test_callbacks_get_messages_and_then_their_own_arguments_in_order_of_registering(module: ModuleType) -> None:
    heard: list[Any] = []
    source = module.SimpleFilter()
    assert source.registerCallback(lambda *given: heard.append(given), "a", 1) == 0
    assert source.registerCallback(lambda *given: heard.append(given)) == 1
    source.signalMessage("one", "two")
    assert heard == [("one", "two", "a", 1), ("one", "two")]


def test_what_a_callback_raises_is_not_swallowed(module: ModuleType) -> None:
    source = module.SimpleFilter()
    source.registerCallback(lambda message: 1 / message)
    with pytest.raises(ZeroDivisionError):
        source.signalMessage(0)


def test_a_subscriber_asks_as_a_node_does(module: ModuleType) -> None:
    node, heard = FakeNode(), []
    plain = module.Subscriber(node, int, "image")
    module.Subscriber(node, int, "image", qos_profile="lossy", callback_group="own", raw=True)
    assert node.asked[0] == ((int, "image", plain.callback), {"qos_profile": 10})
    assert node.asked[1][1] == {"qos_profile": "lossy", "callback_group": "own", "raw": True}
    assert (plain.getTopic(), plain.topic, plain.node, plain.sub) == ("image", "image", node, node)
    assert plain.topic_name == "/resolved"  # the subscription's
    with pytest.raises(AttributeError):
        plain.nothing  # noqa: B018
    plain.registerCallback(heard.append)
    node.asked[0][0][2]("message")
    assert heard == ["message"]


def test_over_dds(module: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="ROS's wheels are not installed")
    from ros_world import World, wait
    from std_msgs.msg import Int32

    heard: list[int] = []
    with World(tmp_path) as world:
        subscriber = module.Subscriber(world.node, Int32, "number", qos_profile=5)
        subscriber.registerCallback(lambda message: heard.append(message.data))
        publisher = world.node.create_publisher(Int32, "number", 5)
        assert wait(publisher.get_subscription_count)
        publisher.publish(Int32(data=7))
        assert wait(lambda: heard)
    assert heard == [7]
