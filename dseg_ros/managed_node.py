"""What both nodes share: a lifecycle that starts by itself, parameters from options, one-line errors, a clean end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, ClassVar, Generic, TypeVar

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.timer import Timer
from rclpy.utilities import try_shutdown

from dseg_core.errors import DsegError
from dseg_core.options import Options
from dseg_core.words import one_line
from dseg_ros.diagnostics import Diagnostics, Health
from dseg_ros.parameters import changes_of, declare, read, undeclared

_Options = TypeVar("_Options", bound=Options)
UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED = "unconfigured", "inactive", "active", "finalized"


class ManagedNode(LifecycleNode, Generic[_Options]):
    """A lifecycle node whose parameters are an options class.

    Subclasses say what it takes to `set_up`, `begin`, `end` and `tear_down`; each may raise DsegError, which fails the
    transition with one line in the log. `state` is one of unconfigured, inactive, active, finalized; `problem` is why
    the last transition failed. Options named in `live` may change at any time, others while the node is unconfigured.
    """

    kind: ClassVar[type[Options]]
    task: ClassVar[str]
    live: ClassVar[Sequence[str]] = ()

    def __init__(self, name: str) -> None:
        super().__init__(name)
        declare(self, self.kind)
        if strangers := undeclared(self):
            self.get_logger().warning(f"parameters that this node does not have: {', '.join(strangers)}")
        self.options: _Options = read(self, self.kind)  # type: ignore[assignment]
        self.state, self.problem = UNCONFIGURED, ""
        self.failure: Exception | None = None
        self.add_on_set_parameters_callback(self._set)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = Diagnostics(self, self.task, self.health)
        self.every(self.options.diagnostics_period, self._diagnostics.publish)  # type: ignore[attr-defined]

    # What subclasses do.

    def set_up(self) -> None:
        """Unconfigured to inactive."""

    def begin(self) -> None:
        """Inactive to active."""

    def end(self) -> None:
        """Active to inactive. Also called when the node goes, so it must not fail."""

    def tear_down(self) -> None:
        """Inactive to unconfigured. Also called when the node goes, so it must not fail."""

    def change(self, options: _Options, changed: Sequence[str]) -> None:
        """Live options change. Raises DsegError to refuse, having changed nothing."""

    def waits(self) -> str:
        """Why the node cannot be activated yet, though nothing is wrong: it calls for that itself when it can."""
        return ""

    def health(self) -> Health:
        """For /diagnostics, in every state; subclasses add what they know."""
        found = Health(self.state, {"state": self.state})
        if self.problem:
            found.errors.append(self.problem)
        elif self.state != ACTIVE and not self.waits():
            found.warnings.append(self.idle())
        return found

    def idle(self) -> str:
        """What the state of a node that is not active means for who reads /diagnostics."""
        steps = {UNCONFIGURED: "configure", INACTIVE: "activate"}
        name = self.get_fully_qualified_name()
        then = f"`ros2 lifecycle set {name} {steps[self.state]}`" if self.state in steps else "start it anew"
        return f"the node is {self.state}; {then}"

    # The lifecycle.

    def start(self) -> None:
        """Configure and activate, where the node does so by itself. What fails is in the log."""
        if self.options.autostart and self.state == UNCONFIGURED:  # type: ignore[attr-defined]
            self.trigger_configure()
        if self.options.autostart and self.state == INACTIVE and not self.waits():  # type: ignore[attr-defined]
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `set_up`."""

        def step() -> None:
            self.options = read(self, self.kind)  # type: ignore[assignment]
            self.set_up()

        return self._go("configure", step, INACTIVE)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `begin`."""
        return self._go("activate", self.begin, ACTIVE)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `end`."""
        return self._go("deactivate", self.end, INACTIVE)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `tear_down`."""
        return self._go("clean up", self.tear_down, UNCONFIGURED)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """The end, from any state."""
        return self._go("shut down", self.close, FINALIZED)

    def close(self) -> None:
        """End and tear down what there is; more than once does no harm."""
        if self.state == ACTIVE:
            self.end()
            self.state = INACTIVE
        if self.state == INACTIVE:
            self.tear_down()
            self.state = UNCONFIGURED

    def every(self, period: float, callback: Callable[[], None]) -> Timer:
        """A timer of so many seconds that also runs while simulated time stands still, or jumps back."""
        return self.create_timer(period, callback, clock=self._steady)

    def fail(self, error: Exception) -> None:
        """An error that nobody foresaw, from any thread: the process ends, with status 1, so that it is noticed."""
        if self.context.ok():  # else the process ends already, and a thread that still publishes cannot
            self.failure = error
            try_shutdown(context=self.context)

    def _go(self, what: str, step: Callable[[], None], state: str) -> TransitionCallbackReturn:
        """One transition: a step, and the state that it leads to."""
        try:
            step()
        except DsegError as error:
            self.problem = str(error)
            self.get_logger().error(f"cannot {what}: {error}")
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # rclpy would not say a word of it
            self.failure = error
            self._soon(lambda: try_shutdown(context=self.context))  # rclpy still publishes the transition itself
            return TransitionCallbackReturn.ERROR
        self.state, self.problem = state, ""
        self.get_logger().info(state)
        return TransitionCallbackReturn.SUCCESS

    def _set(self, parameters: list[Parameter]) -> SetParametersResult:
        changed = given = list(changes_of(parameters, self.kind))
        try:
            options = read(self, self.kind, parameters)
            # `ros2 param load` sets all of them, and most are as they were.
            fixed = [n for n in changed if n not in self.live and attrgetter(n)(options) != attrgetter(n)(self.options)]
            if fixed and self.state != UNCONFIGURED:
                fix = "Deactivate and clean up the node first, then configure it anew"
                raise DsegError(f"{fixed[0]} cannot change while the node is {self.state}", fix=fix)
            changed = [name for name in changed if name in self.live]
            if changed and self.state != UNCONFIGURED:
                self.change(options, changed)  # type: ignore[arg-type]
        except DsegError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.options = options  # type: ignore[assignment]
        if given and self.state == UNCONFIGURED and self.problem:
            self._soon(self.start)  # what kept the node from starting may be mended, once the parameter is really set
        return SetParametersResult(successful=True)

    def _soon(self, callback: Callable[[], object]) -> None:
        """Call something once, after the callback that runs now."""

        def once() -> None:
            timer.cancel()
            self.destroy_timer(timer)
            callback()

        timer = self.every(0.0, once)


def run(node_type: Callable[[], ManagedNode[Any]], args: Sequence[str] | None = None) -> int:
    """Run a node until it is told to stop; the process's exit status."""
    try:
        rclpy.init(args=args)
    except RuntimeError as error:  # rcl's: arguments or a parameter file that it cannot read
        print(f"ROS does not start: {one_line(error)}", file=sys.stderr)
        return 1
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # a closed terminal ends it as SIGTERM, which ROS takes, does
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    node: ManagedNode[Any] | None = None
    with _ended_by_signals():
        try:
            node = node_type()
        except (DsegError, ParameterException) as error:
            print(error, file=sys.stderr)
            try_shutdown()
            return 1
    if node is None:
        try_shutdown()
        return 0
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    heard = _Log(node.get_logger())
    try:
        with _ended_by_signals():
            node.start()
            executor.spin()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # another Ctrl-C does not break off what must be closed
        node.close()
        heard.close()
        node.destroy_node()
        try_shutdown()
    if node.failure is not None:
        traceback.print_exception(node.failure)
    return int(node.failure is not None)


class _Log(logging.Handler):
    """What dseg_core logs becomes the node's own log, from its making to `close`."""

    def __init__(self, logger: Any) -> None:
        super().__init__(logging.INFO)
        self._logger, self._heard = logger, logging.getLogger("dseg")
        self._heard.setLevel(logging.INFO)
        self._heard.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Log it."""
        if record.levelno >= logging.WARNING:  # rclpy wants a line of its own for each severity
            self._logger.warning(record.getMessage())
        else:
            self._logger.info(record.getMessage())

    def close(self) -> None:
        """Listen no longer."""
        self._heard.removeHandler(self)
        if not any(isinstance(handler, type(self)) for handler in self._heard.handlers):
            self._heard.setLevel(logging.NOTSET)  # as it was before the first of this process's nodes
        super().close()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """What Ctrl-C, or another signal to end, breaks off is no failure."""
    try:
        yield
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RuntimeError:  # rcl's, where the signal came in the middle of a call: ROS cannot be asked any more
        if rclpy.ok():
            raise
