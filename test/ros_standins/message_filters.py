"""The names of ROS 2's message_filters that the nodes use, for machines where only PyPI's ROS wheels are.

`conftest.py` puts this folder on the path where the real package does not import; `test_ros_standins.py` compares them
where it does. Nothing of it is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_DEFAULT_DEPTH = 10


class SimpleFilter:
    """Hands what `signalMessage` is given to every registered callback, followed by the callback's own arguments."""

    def __init__(self) -> None:
        self.callbacks: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}

    def registerCallback(self, cb: Callable[..., Any], *args: Any) -> int:
        self.callbacks[number := len(self.callbacks)] = cb, args
        return number

    def signalMessage(self, *msg: Any) -> None:
        for function, more in self.callbacks.values():
            function(*msg, *more)


class Subscriber(SimpleFilter):
    """Takes (node, type, topic) and `create_subscription`'s keywords; what it has not itself, the subscription has."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.node, kind, self.topic = args
        self.sub = self.node.create_subscription(
            kind, self.topic, self.callback, **{"qos_profile": _DEFAULT_DEPTH, **kwargs}
        )

    def callback(self, msg: Any) -> None:
        self.signalMessage(msg)

    def getTopic(self) -> str:
        return str(self.topic)

    def __getattr__(self, key: str) -> Any:
        return getattr(self.sub, key)
