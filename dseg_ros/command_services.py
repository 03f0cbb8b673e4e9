"""std_srvs/Trigger services whose work another thread does; meanwhile the node goes on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from typing import TypeAlias

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from std_srvs.srv import Trigger

from dseg_core.errors import DsegError

Ask: TypeAlias = Callable[[], "Future[str]"]
"""Has a command carried out; its future is a line for people. Both may raise DsegError."""


class CommandServices:
    """Offers services below the node's name.

    Args:
        node: Whose services these are.
        commands: What each does.
    """

    def __init__(self, node: Node, commands: Mapping[str, Ask]) -> None:
        self._node = node
        self._wake = node.create_guard_condition(lambda: None)
        group = MutuallyExclusiveCallbackGroup()  # of its own, so that messages are taken while a service waits
        for name, ask in commands.items():
            serve = functools.partial(self._serve, name, ask)
            node.create_service(Trigger, f"~/{name}", serve, callback_group=group)

    async def _serve(
        self, name: str, ask: Ask, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        try:
            future = ask()
            future.add_done_callback(lambda _: self._wake.trigger())
            while not future.done():
                await _Pause()
            response.message, response.success = future.result(), True
            self._node.get_logger().info(f"~/{name}: {response.message}")
        except DsegError as error:
            response.message, response.success = str(error), False
            self._node.get_logger().warning(f"~/{name}: {error}")
        return response


class _Pause:
    """Awaited, lets the executor do other things until something wakes it."""

    def __await__(self) -> Generator[None]:
        yield
