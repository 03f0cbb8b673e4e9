"""Options classes as ROS parameters: declared with type, range and description, read back, checked when set.

What YAML calls null is an empty string as a ROS parameter; an empty list of texts is `[""]`, since ROS cannot tell the
type of an empty list; an empty list of numbers in a file is a parameter that is not set, which is empty then.
"""

from __future__ import annotations

import os
import sys
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from dseg_core.options import OptionField, Options

_Options = TypeVar("_Options", bound=Options)
_LARGEST = 2**63 - 1


def declare(node: Node, kind: type[Options]) -> None:
    """Declare every option of a class.

    Raises:
        rclpy.exceptions.InvalidParameterTypeException: The parameter file, or the command line, has another type.
        rclpy.exceptions.InvalidParameterValueException: The same for the range.
    """
    for field in kind.fields():
        value = _default(field)
        declared = node.declare_parameter(field.path, _type(field) if value is None else value, descriptor(field))
        if declared.type_ == Parameter.Type.NOT_SET:  # of one that is not, `ros2 param dump` gets no value of any
            node.set_parameters([Parameter(field.path, _type(field), [])])


def read(node: Node, kind: type[_Options], changes: Iterable[Parameter] = ()) -> _Options:
    """The options as the node has them, with `changes` that are not set yet.

    Raises:
        OptionError: A value that the options class refuses.
    """
    values = {}
    changed = {parameter.name: parameter.value for parameter in changes}
    for field in kind.fields():
        unset = Parameter(field.path, Parameter.Type.NOT_SET)
        value = changed[field.path] if field.path in changed else node.get_parameter_or(field.path, unset).value
        values[field.path] = _value(field, value)
    return kind.from_mapping(values, where=node.get_fully_qualified_name())


def undeclared(node: Node) -> list[str]:
    """Parameters that were given to a node, in a file or on the command line, and that it does not have: typing errors.

    Those of QoS overrides are left out: they are declared with their topic.
    """
    given: Iterable[str] = node._parameter_overrides  # what there is no public name for, in Humble and Jazzy alike
    return sorted(n for n in given if not node.has_parameter(n) and not n.startswith("qos_overrides."))


def descriptor(field: OptionField) -> ParameterDescriptor:
    """Description, unit, choices and range of an option for `ros2 param describe`."""
    text = f"{field.help} [{field.unit}]" if field.unit else field.help
    found = ParameterDescriptor(description=text, additional_constraints=_constraints(field))
    if field.minimum is None and field.maximum is None:
        return found
    kind = _type(field)
    if kind is Parameter.Type.INTEGER:
        low, high = field.minimum, field.maximum
        limits = IntegerRange(
            from_value=-_LARGEST if low is None else int(low), to_value=_LARGEST if high is None else int(high)
        )
        found.integer_range = [limits]
    elif kind is Parameter.Type.DOUBLE:
        low = -sys.float_info.max if field.minimum is None else float(field.minimum)
        high = sys.float_info.max if field.maximum is None else float(field.maximum)
        found.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    return found


def parameter_file(kind: type[Options], executable: str) -> str:
    """A ROS parameter file of a node: every option with its help, unit, range and default."""
    import yaml

    about = f"# Parameters of `ros2 run dseg_ros {executable} --ros-args --params-file FILE`, with their defaults."
    lines = [about, "/**:", "  ros__parameters:"]
    group = ""
    for field in kind.fields():
        prefix, _, name = field.path.rpartition(".")
        if prefix != group:
            lines += _opened(group, prefix)
            group = prefix
        indent = "    " + "  " * (prefix.count(".") + 1 if prefix else 0)
        lines += _commented(field.describe(default=False), indent)
        value = _default(field)
        if value is None:
            lines.append(f"{indent}# {name}: []")
        else:
            text = yaml.safe_dump([value], default_flow_style=True, width=sys.maxsize, allow_unicode=True)
            lines.append(f"{indent}{name}: {text.strip()[1:-1]}")
    return "\n".join(lines) + "\n"


def _opened(before: str, group: str) -> list[str]:
    """The keys that lead from one group of options into another."""
    old, new = before.split(".") if before else [], group.split(".") if group else []
    common = 0
    while common < min(len(old), len(new)) and old[common] == new[common]:
        common += 1
    return [f"    {'  ' * depth}{new[depth]}:" for depth in range(common, len(new))]


def _commented(text: str, indent: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 110, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _constraints(field: OptionField) -> str:
    return f"one of {', '.join(field.choices)}" if field.choices else ""


def _inner(field: OptionField) -> tuple[bool, type]:
    """Whether an option is a list, and the type of its values."""
    if typing.get_origin(field.type) is tuple:
        return True, typing.get_args(field.type)[0]
    given = [kind for kind in typing.get_args(field.type) if kind is not type(None)]
    return False, given[0] if given else field.type


def _type(field: OptionField) -> Parameter.Type:
    many, inner = _inner(field)
    single = {bool: Parameter.Type.BOOL, int: Parameter.Type.INTEGER, float: Parameter.Type.DOUBLE}
    several = {bool: Parameter.Type.BOOL_ARRAY, int: Parameter.Type.INTEGER_ARRAY, float: Parameter.Type.DOUBLE_ARRAY}
    if many:
        return several.get(inner, Parameter.Type.STRING_ARRAY)
    return single.get(inner, Parameter.Type.STRING)


def _default(field: OptionField) -> Any:
    """The default as a ROS parameter has it; None where it is not set."""
    many, inner = _inner(field)
    value = field.default
    if many:
        texts = [str(v) if inner in (str, Path) else v for v in value]
        return texts or ([""] if inner in (str, Path) else None)
    if inner in (str, Path):
        return "" if value is None else str(value)
    return value


def _value(field: OptionField, value: Any) -> Any:
    """A parameter's value as the options class takes it."""
    many, inner = _inner(field)
    if many:
        value = () if value is None else tuple(v for v in value if v != "")
    if inner is not Path:
        return value
    # A shell leaves the ~ of `-p model:=~/model.onnx` as it is. Path's own would raise where there is no such user.
    return tuple(map(os.path.expanduser, value)) if many else os.path.expanduser(value or "")  # noqa: PTH111


def changes_of(parameters: Iterable[Parameter], kind: type[Options]) -> Mapping[str, Any]:
    """Those of the parameters that are options of a class, by their path."""
    paths = {field.path for field in kind.fields()}
    return {parameter.name: parameter.value for parameter in parameters if parameter.name in paths}


def main() -> None:
    """`python -m dseg_ros.parameters`: write the nodes' parameter files into config/."""
    from dseg_ros import node_options

    for name, kind in node_options.NODES.items():
        Path("config", f"{name}.yaml").write_text(parameter_file(kind, name), encoding="utf-8")


if __name__ == "__main__":
    main()
