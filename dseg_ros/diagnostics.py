"""/diagnostics: a node's health in words and numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass
class Health:
    """What a node says of itself. `summary`: how it is when nothing is wrong; the worst problem replaces it."""

    summary: str
    values: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Diagnostics:
    """Publishes a node's health.

    Args:
        node: The node.
        task: What it does, for the status's name.
        health: Asked each time.
    """

    def __init__(self, node: Node, task: str, health: Callable[[], Health]) -> None:
        self._node, self._health = node, health
        self._name = f"{node.get_fully_qualified_name().lstrip('/')}: {task}"
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self) -> None:
        """Publish now."""
        health = self._health()
        level = ERROR if health.errors else WARN if health.warnings else OK
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        status = DiagnosticStatus(level=level, name=self._name, hardware_id=self._node.get_fully_qualified_name())
        status.message = "; ".join([*health.errors, *health.warnings]) or health.summary
        status.values = [KeyValue(key=key, value=value) for key, value in health.values.items()]
        message.status = [status]
        self._publisher.publish(message)


class Spread:
    """The latest values of something measured in milliseconds."""

    def __init__(self, kept: int = 300) -> None:
        self._values: deque[float] = deque(maxlen=kept)

    def add(self, milliseconds: float) -> None:
        """One more value."""
        self._values.append(milliseconds)

    def words(self) -> str:
        """The median and the 99th percentile; `none yet` before the first value."""
        if not self._values:
            return "none yet"
        p50, p99 = np.percentile(list(self._values), [50, 99])
        return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"


def numbered(values: Mapping[str, int]) -> str:
    """Counts by reason, as words; `none` without any. Copied first, as another thread may count meanwhile."""
    return ", ".join(f"{count} {reason}" for reason, count in dict(values).items() if count) or "none"
