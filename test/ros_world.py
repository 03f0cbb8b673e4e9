"""Real nodes in processes of their own, over real DDS, and a node in the test's process that talks with them."""

from __future__ import annotations

import array
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ros_domain import own_domain, remove_ownerless, segments

ROOT = Path(__file__).parents[1]
EXECUTABLES = ROOT / "resource" / "executables"
LIMIT = 300.0
"""Seconds that anything may take on a machine that does much else as well; what is waited for comes sooner."""


class Process:
    """A node's process; `log` is what it wrote so far."""

    def __init__(self, command: list[str], env: Mapping[str, str], log: Path) -> None:
        self._path = log
        self.segments: set[Path] = set()
        """Of shared memory, that may be left behind when it was killed."""
        with log.open("wb") as out:
            self._popen = subprocess.Popen(
                command, env=dict(env), stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT
            )

    @property
    def log(self) -> str:
        """Both of its outputs so far."""
        return self._path.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._popen.pid

    def says(self, text: str, times: int = 1) -> str:
        """Wait until its log has a text so many times; the log."""
        wait(lambda: self.log.count(text) >= times or self._popen.poll() is not None)
        assert self.log.count(text) >= times, self.log
        return self.log

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """Send a signal, and wait for the end; the exit status."""
        self.segments |= segments(self.pid)
        self._popen.send_signal(how)
        return self._popen.wait(LIMIT)

    def answer(self) -> None:
        """Enter a line, for which it waits."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(b"\n")
        self._popen.stdin.flush()

    def interrupt(self) -> None:
        """Ctrl-C, without waiting."""
        self._popen.send_signal(signal.SIGINT)

    def ends(self) -> int:
        """Wait for the end; the exit status."""
        return self._popen.wait(LIMIT)

    def finish(self) -> None:
        """Have it end as by Ctrl-C, if it runs, so that it ends what it has started."""
        if self._popen.poll() is None:
            self.stop()

    def kill(self) -> None:
        """End it, if it runs."""
        if self._popen.poll() is None:
            self.segments |= segments(self.pid)
            self._popen.kill()
            self._popen.wait()
        if self._popen.stdin is not None:
            self._popen.stdin.close()


def wait(condition: Callable[[], Any], limit: float = LIMIT) -> Any:
    """Wait until a condition holds, at most so many seconds; what it returned last."""
    ends = time.monotonic() + limit
    while not (found := condition()) and time.monotonic() < ends:
        time.sleep(0.02)
    return found


class World:
    """A ROS domain of its own with a node, spun by a thread. A context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._own_domain = folder, own_domain()
        self.processes: list[Process] = []
        self._health: defaultdict[str, defaultdict[str, str]] | None = None

    def __enter__(self) -> World:
        import rclpy
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor

        self.domain = self._own_domain.__enter__()
        self._context = Context()
        rclpy.init(context=self._context, domain_id=self.domain, args=[])
        self.node = rclpy.create_node("test", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._spinning = True
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        import rclpy

        for process in self.processes:
            process.kill()
        self._spinning = False
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)
        for process in self.processes:
            remove_ownerless(process.segments)
        self._own_domain.__exit__(None, None, None)

    def _spin(self) -> None:
        while self._spinning:
            self._executor.spin_once(timeout_sec=0.05)

    def run(self, name: str, *arguments: str, parameters: Mapping[str, Any] | None = None) -> Process:
        """Start an executable of the package, as `ros2 run` does, with parameters and other ROS arguments."""
        command = [sys.executable, str(EXECUTABLES / name), "--ros-args"]
        for key, value in (parameters or {}).items():
            command += ["-p", f"{key}:={str(value).lower() if isinstance(value, bool) else value}"]
        return self.python(*command[1:], *arguments)

    def python(self, *arguments: str) -> Process:
        """Start a Python process in this domain."""
        paths = [str(ROOT), str(ROOT / "test"), os.environ.get("PYTHONPATH", "")]
        env = {
            **os.environ,
            "ROS_DOMAIN_ID": str(self.domain),
            "ROS_LOG_DIR": str(self.folder / "ros_log"),
            "PYTHONPATH": os.pathsep.join(p for p in paths if p),
            "RCUTILS_LOGGING_USE_STDOUT": "1",
        }
        process = Process([sys.executable, *arguments], env, self.folder / f"process_{len(self.processes)}.log")
        self.processes.append(process)
        return process

    def collect(self, kind: Any, topic: str, qos: Any = 10) -> list[Any]:
        """A list that fills with a topic's messages."""
        found: list[Any] = []
        self.node.create_subscription(kind, topic, found.append, qos)
        return found

    def call(self, kind: Any, service: str, request: Any = None) -> Any:
        """Call a service; its answer."""
        client = self.node.create_client(kind, service)
        assert client.wait_for_service(LIMIT), f"there is no service {service}"
        future = client.call_async(kind.Request() if request is None else request)
        assert wait(future.done), f"{service} does not answer"
        self.node.destroy_client(client)
        return future.result()

    def set_parameter(self, node: str, name: str, value: Any) -> Any:
        """Set a parameter as `ros2 param set` does; rcl_interfaces' result."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, f"{node}/set_parameters", request).results[0]

    def transition(self, node: str, label: str) -> bool:
        """Ask for a lifecycle transition as `ros2 lifecycle set` does; whether it succeeded."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        number = getattr(Transition, f"TRANSITION_{label.upper()}")
        request = ChangeState.Request(transition=Transition(id=number, label=label))
        return bool(self.call(ChangeState, f"{node}/change_state", request).success)

    def state(self, node: str) -> str:
        """A node's lifecycle state."""
        from lifecycle_msgs.srv import GetState

        return str(self.call(GetState, f"{node}/get_state").current_state.label)

    def diagnostics(self) -> defaultdict[str, defaultdict[str, str]]:
        """A dictionary that follows /diagnostics: status name -> its values, `level` and `message`; "" until told."""
        from diagnostic_msgs.msg import DiagnosticArray

        if self._health is not None:
            return self._health
        found: defaultdict[str, defaultdict[str, str]] = defaultdict(lambda: defaultdict(str))
        self._health = found

        def take(message: Any) -> None:
            for status in message.status:
                values = {value.key: value.value for value in status.values}
                values |= {"level": str(status.level[0]), "message": status.message}
                found[status.name] = defaultdict(str, values)

        self.node.create_subscription(DiagnosticArray, "/diagnostics", take, 10)
        return found


def header(stamp_ns: int, frame_id: str) -> Any:
    """std_msgs/Header."""
    from builtin_interfaces.msg import Time
    from std_msgs.msg import Header

    return Header(stamp=Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9), frame_id=frame_id)


def image(stamp_ns: int, rgb: NDArray[np.uint8], frame_id: str = "optical") -> Any:
    """sensor_msgs/Image, rgb8, made without the code under test."""
    from sensor_msgs.msg import Image

    height, width = rgb.shape[:2]
    message = Image(header=header(stamp_ns, frame_id), height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = array.array("B", rgb.tobytes())
    return message


def stamp_of(message: Any) -> int:
    """A message's header stamp in nanoseconds."""
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)
