"""What both nodes share, with a node that does nothing but what the test tells it to."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS's wheels are not installed")

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_domain import own_domain
from ros_world import LIMIT

from dseg_core.errors import DsegError
from dseg_core.options import Options, option
from dseg_ros.diagnostics import Health
from dseg_ros.managed_node import ACTIVE, FINALIZED, INACTIVE, UNCONFIGURED, ManagedNode, run

SUCCESS, FAILURE, ERROR = (getattr(TransitionCallbackReturn, name) for name in ("SUCCESS", "FAILURE", "ERROR"))


@dataclass(frozen=True)
class Some(Options):
    """Of a node."""

    autostart: bool = option(True, "starts by itself")
    speed: float = option(1.0, "may change", minimum=0)
    place: str = option("here", "may not change")
    diagnostics_period: float = option(1.0, "of diagnostics", unit="s", minimum=0.1)


class Node(ManagedNode[Some]):
    """Notes what it is asked for, and fails where it is told to."""

    kind, task, live = Some, "testing", ("speed",)

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.errors: dict[str, Exception] = {}
        super().__init__("some")

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.errors:
            raise self.errors[name]

    def set_up(self) -> None:
        self._called("set_up")

    def begin(self) -> None:
        self._called("begin")

    def end(self) -> None:
        self._called("end")

    def tear_down(self) -> None:
        self._called("tear_down")

    def change(self, options: Some, changed: Any) -> None:
        self._called(f"change {','.join(changed)} {options.speed}")

    def health(self) -> Health:
        return Health(self.state)


@pytest.fixture
def make() -> Iterator[Callable[..., Node]]:
    """Makes a node with arguments of the command line, in a ROS of its own."""
    nodes = []

    def made(*arguments: str) -> Node:
        rclpy.init(args=["--ros-args", *arguments], domain_id=domain)
        nodes.append(Node())
        return nodes[-1]

    with own_domain() as domain:
        yield made
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()


def test_every_transition_calls_what_belongs_to_it(make: Callable[..., Node]) -> None:
    node = make()
    node.start()
    assert (node.state, node.calls) == (ACTIVE, ["set_up", "begin"])
    for transition, state, call in (
        (node.trigger_deactivate, INACTIVE, "end"),
        (node.trigger_activate, ACTIVE, "begin"),
        (node.trigger_deactivate, INACTIVE, "end"),
        (node.trigger_cleanup, UNCONFIGURED, "tear_down"),
        (node.trigger_configure, INACTIVE, "set_up"),
        (node.trigger_shutdown, FINALIZED, "tear_down"),
    ):
        node.calls.clear()
        assert transition() == SUCCESS
        assert (node.state, node.calls) == (state, [call])


def test_autostart_off(make: Callable[..., Node]) -> None:
    node = make("-p", "autostart:=false")
    node.start()
    assert (node.state, node.calls) == (UNCONFIGURED, [])


def test_end_tears_down_what_there_is_once(make: Callable[..., Node]) -> None:
    node = make()
    node.start()
    node.close()
    node.close()
    assert node.calls == ["set_up", "begin", "end", "tear_down"]


@pytest.mark.parametrize(("name", "state"), [("set_up", UNCONFIGURED), ("begin", INACTIVE)])
def test_what_a_user_can_mend_fails_the_transition(make: Callable[..., Node], name: str, state: str) -> None:
    node = make()
    node.errors[name] = DsegError("no luck", fix="Try again")
    node.start()
    assert (node.state, node.problem) == (state, "no luck. Try again")
    assert node.failure is None
    node.errors.clear()
    node.start()
    assert (node.state, node.problem) == (ACTIVE, "")


@pytest.mark.parametrize("name", ["set_up", "begin", "end", "tear_down"])
def test_what_nobody_foresaw_ends_the_process(make: Callable[..., Node], name: str) -> None:
    """rclpy takes any exception of a transition and says nothing; the node would stand there for ever."""
    node = make()
    error = node.errors[name] = ValueError("a bug")
    node.start()
    if node.failure is None:
        node.trigger_deactivate()
    if node.failure is None:
        node.trigger_cleanup()
    assert node.failure is error
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    with contextlib.suppress(ExternalShutdownException):
        ends = time.monotonic() + LIMIT
        while rclpy.ok() and time.monotonic() < ends:
            executor.spin_once(timeout_sec=0.1)
    assert not rclpy.ok()


def test_error_of_a_thread_ends_the_process_unless_it_ends_already(make: Callable[..., Node]) -> None:
    """On Ctrl-C rclpy shuts the context first; what a thread publishes after that raises."""
    node = make()
    error = ValueError("a bug")
    node.fail(error)
    assert node.failure is error
    assert not rclpy.ok()
    node.failure = None
    node.fail(error)
    assert node.failure is None


class Late(Node):
    """Asks ROS for something in a callback that a signal comes in the middle of."""

    signalled = True

    def begin(self) -> None:
        def ask() -> None:
            if self.signalled:
                rclpy.shutdown()
            raise RuntimeError("rcl node's context is invalid")

        self.every(0.0, ask)


def test_signal_in_the_middle_of_a_callback_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with own_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        try:
            assert run(Late, ["--ros-args"]) == 0
            monkeypatch.setattr(Late, "signalled", False)
            with pytest.raises(RuntimeError, match="context is invalid"):
                run(Late, ["--ros-args"])
        finally:
            signal.signal(signal.SIGINT, handler)


def test_parameters_that_may_not_change_may_be_set_to_what_they_are(make: Callable[..., Node]) -> None:
    """As `ros2 param load` does with a file of `ros2 param dump`."""
    node = make()
    node.start()
    node.calls.clear()
    results = node.set_parameters([Parameter("place", value="here"), Parameter("speed", value=2.0)])
    assert [result.successful for result in results] == [True, True]
    assert node.calls == ["change speed 2.0"]
    (refused,) = node.set_parameters([Parameter("place", value="there")])
    assert refused.reason.startswith("place cannot change while the node is active")
    assert node.options == Some(speed=2.0)


def test_parameters_that_the_node_does_not_have_are_told(make: Callable[..., Node], capfd: Any) -> None:
    make("-p", "sped:=2.0", "-p", "qos_overrides./image.depth:=3", "-p", "use_sim_time:=false", "-p", "speed:=2.0")
    assert "parameters that this node does not have: sped\n" in "".join(capfd.readouterr())


def test_what_to_do_is_said_of_a_node_that_is_not_active(make: Callable[..., Node]) -> None:
    node = make("-r", "__ns:=/front")
    assert node.idle() == "the node is unconfigured; `ros2 lifecycle set /front/some configure`"
    node.trigger_configure()
    assert node.idle() == "the node is inactive; `ros2 lifecycle set /front/some activate`"
    node.trigger_shutdown()
    assert node.idle() == "the node is finalized; start it anew"


def test_it_starts_by_itself_when_what_kept_it_from_that_is_mended(make: Callable[..., Node]) -> None:
    node = make()
    node.errors["set_up"] = DsegError("no place like that")
    node.start()
    node.errors.clear()
    assert node.set_parameters([Parameter("place", value="there")])[0].successful
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    ends = time.monotonic() + LIMIT
    while node.state != ACTIVE and time.monotonic() < ends:
        executor.spin_once(timeout_sec=0.1)
    assert (node.state, node.options.place) == (ACTIVE, "there")
    executor.shutdown()


def test_signal_while_the_node_is_made_is_the_end_and_no_failure() -> None:
    def ended() -> ManagedNode[Some]:
        rclpy.shutdown()  # as rclpy's handler of the signal does
        raise RuntimeError("failed to create a publisher: the context is invalid")

    def interrupted() -> ManagedNode[Some]:
        raise KeyboardInterrupt

    def broken() -> ManagedNode[Some]:
        raise RuntimeError("something else")

    assert [run(ended, []), run(interrupted, [])] == [0, 0]
    with pytest.raises(RuntimeError, match="something else"):
        run(broken, [])
    rclpy.try_shutdown()
