"""ROS parameters against the options classes they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS's wheels are not installed")

import rclpy
from rclpy.context import Context
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.parameter import Parameter
from ros_domain import own_domain

from dseg_core.errors import OptionError
from dseg_core.options import Options, option
from dseg_ros.node_options import NODES
from dseg_ros.parameters import declare, parameter_file, read

CONFIG = Path(__file__).parents[1] / "config"


@dataclass(frozen=True)
class Inner(Options):
    """A group within a group."""

    many: tuple[float, ...] = option((), "numbers", unit="m")
    names: tuple[str, ...] = option((), "names")


@dataclass(frozen=True)
class Group(Options):
    """A group."""

    share: float = option(0.5, "a share", minimum=0, maximum=1)
    inner: Inner = Inner()
    file: Path | None = option(None, "a file")


@dataclass(frozen=True)
class Every(Options):
    """An option of every kind."""

    flag: bool = option(True, "a flag")
    count: int = option(3, "a count", unit="px", minimum=1)
    group: Group = Group()
    kind: str = option("one", "a kind", choices=("one", "two"))


@pytest.fixture
def context() -> Iterator[Context]:
    """ROS, initialised for one test."""
    found = Context()
    with own_domain() as domain:
        rclpy.init(context=found, domain_id=domain, args=[])
        yield found
        rclpy.try_shutdown(context=found)


def node(context: Context, *arguments: str) -> Any:
    """A node with such arguments of the command line."""
    return rclpy.create_node("some", context=context, cli_args=["--ros-args", *arguments])


def test_defaults_come_back(context: Context) -> None:
    made = node(context)
    declare(made, Every)
    assert read(made, Every) == Every()


def test_what_is_given_comes_back(context: Context, tmp_path: Path) -> None:
    file = tmp_path / "given.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    count: 7\n    kind: two\n    group:\n      share: 0.25\n      file: /a/b\n"
        "      inner: {many: [1.0, 2.5], names: [left, right]}\n"
    )
    made = node(context, "--params-file", str(file), "-p", "flag:=false")
    declare(made, Every)
    expected = Every(False, 7, Group(0.25, Inner((1.0, 2.5), ("left", "right")), Path("/a/b")), "two")
    assert read(made, Every) == expected


def test_home_is_found_in_paths(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/driver")
    made = node(context, "-p", "group.file:=~/model.onnx", "-p", "kind:=two")
    declare(made, Every)
    assert read(made, Every) == Every(group=Group(file=Path("/home/driver/model.onnx")), kind="two")


@pytest.mark.parametrize("given", ["group.share:=1.5", "group.share:=-0.1", "count:=0"])
def test_out_of_range_is_refused(context: Context, given: str) -> None:
    with pytest.raises(InvalidParameterValueException, match=given.split(":")[0]):
        declare(node(context, "-p", given), Every)


@pytest.mark.parametrize("given", ["count:=many", "flag:=7", "group.share:=text", "kind:=3"])
def test_another_type_is_refused(context: Context, given: str) -> None:
    with pytest.raises(InvalidParameterTypeException, match=given.split(":")[0]):
        declare(node(context, "-p", given), Every)


def test_choices_are_checked_by_the_options(context: Context) -> None:
    made = node(context, "-p", "kind:=three")
    declare(made, Every)
    with pytest.raises(OptionError, match="kind = 'three' must be one of one, two"):
        read(made, Every)
    assert read(made, Every, [Parameter("kind", value="two")]).kind == "two"


def test_descriptors_tell_unit_range_and_choices(context: Context) -> None:
    made = node(context)
    declare(made, Every)
    count, share, kind = (made.describe_parameter(name) for name in ("count", "group.share", "kind"))
    assert count.description == "a count [px]"
    assert (count.integer_range[0].from_value, count.integer_range[0].to_value) == (1, 2**63 - 1)
    assert (share.floating_point_range[0].from_value, share.floating_point_range[0].to_value) == (0.0, 1.0)
    assert kind.additional_constraints == "one of one, two"


@pytest.mark.parametrize("name", NODES)
def test_parameter_file_is_the_nodes(context: Context, name: str) -> None:
    """The file in config/ is what the options make, and declares exactly what the node does, with its defaults."""
    kind, path = NODES[name], CONFIG / f"{name}.yaml"
    assert path.read_text() == parameter_file(kind, name), "run `make config`"
    made = node(context, "--params-file", str(path))
    declare(made, kind)
    assert read(made, kind) == kind()
    assert set(made._parameter_overrides) <= set(made._parameters), "a parameter that the node does not have"
    every = made.get_parameters([field.path for field in kind.fields()])  # as `ros2 param dump` asks: all have a value
    assert Parameter.Type.NOT_SET not in {parameter.type_ for parameter in every}

    def flat(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
        for key, value in values.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"

    written = set(flat(yaml.safe_load(path.read_text())["/**"]["ros__parameters"]))
    unset = {field.path for field in kind.fields() if field.path not in written}
    assert all(f"# {path.rpartition('.')[2]}: []" in (CONFIG / f"{name}.yaml").read_text() for path in unset)
    assert written | unset == {field.path for field in kind.fields()}
