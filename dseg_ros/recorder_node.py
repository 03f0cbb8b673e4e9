"""`ros2 run dseg_ros recorder`: camera images and LiDAR sweeps in, a folder of frames out, live."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import Future

from rclpy.utilities import try_shutdown

from dseg_core.compiling_helpers import help_compiling
from dseg_core.errors import DsegError
from dseg_core.live.folder import LiveFolder
from dseg_core.live.messages import Memory
from dseg_core.live.recorder import LiveRecorder
from dseg_core.live.worker import Command, LiveWorker
from dseg_core.sensors_from_bag import LIDAR
from dseg_ros.command_services import CommandServices
from dseg_ros.diagnostics import Health
from dseg_ros.frame_outputs import FrameOutputs
from dseg_ros.managed_node import ManagedNode, run
from dseg_ros.node_options import RecorderOptions
from dseg_ros.odometry_subscriber import OdometrySubscriber
from dseg_ros.pairing import SensorSubscribers
from dseg_ros.recorder_health import FreshProblems, add_disk, add_recording, add_topics
from dseg_ros.sensors_from_graph import SensorsFromGraph
from dseg_ros.topic_watch import TopicWatch, sensor_qos
from dseg_ros.transform_subscriber import TransformSubscriber

_LOOK_PERIOD = 0.2  # s, between two looks for sensors
_COMMANDS = {
    "start": LiveRecorder.start,
    "stop": LiveRecorder.stop,
    "split": LiveRecorder.split,
    "trigger": LiveRecorder.trigger,
}


class RecorderNode(ManagedNode[RecorderOptions]):
    """Pairs sweeps with images as `dseg record` does, and writes the same frames.

    Subscribes the LiDAR, the cameras and their camera_info, named by parameters or found by their types; /tf and
    /tf_static. Publishes ~/points, ~/boxes and ~/overlay/CAMERA of the newest frame, and /diagnostics. Services, all
    std_srvs/Trigger: ~/start, ~/stop, ~/split, ~/trigger.
    """

    kind, task, live = RecorderOptions, "recording", RecorderOptions.LIVE

    def __init__(self) -> None:
        self._folder: LiveFolder | None = None
        self._transforms: TransformSubscriber | None = None
        self._outputs: FrameOutputs | None = None
        self._worker: LiveWorker | None = None
        self._memory = Memory(0)
        self._graph: SensorsFromGraph | None = None
        self._sensors: SensorSubscribers | None = None
        self._odometry: OdometrySubscriber | None = None
        self._problems, self._waiting_for = FreshProblems(), ""
        super().__init__("recorder")
        CommandServices(self, {name: functools.partial(self._ask, command) for name, command in _COMMANDS.items()})

    # Lifecycle.

    def set_up(self) -> None:
        """Take the folder, mend what a kill left in it, and listen to transforms."""
        options = self.options
        if options.out is None:
            raise DsegError("the parameter out is not set", fix="Name the folder of frames: -p out:=/data/frames")
        self._transforms = TransformSubscriber(self, options.topics.calibration)
        try:
            self._folder = LiveFolder(options.out, options.record_options())
        except DsegError:
            self._transforms.close()
            raise
        for line in self._folder.rescued:
            self.get_logger().warning(line)
        self._outputs = FrameOutputs(self, self.fail)
        if help_compiling():
            self.get_logger().info("compiling once for this machine, some 10 s: frames begin after it")

    def begin(self) -> None:
        """Look for the sensors; recording begins as soon as they are known."""
        self._memory = Memory(round(self.options.memory * 1e6))
        self._worker = LiveWorker(self._memory, self._lost)
        self._graph = SensorsFromGraph(self, self.options.topics, self.options.odometry)
        self._ticks = [
            self.every(_LOOK_PERIOD, self._look),
            self.every(self.options.diagnostics_period, self._warn),
        ]

    def end(self) -> None:
        """Let go of the sensors, and finish the drive."""
        for timer in self._ticks:
            self.destroy_timer(timer)
        if self._graph is not None:
            self._graph.close()
        if self._sensors is not None:
            self._sensors.close()
        if self._odometry is not None:
            self._odometry.close()
        if self._worker is not None:
            self._worker.end()
        self._graph = self._sensors = self._odometry = self._worker = None

    def tear_down(self) -> None:
        """Let go of the folder and the topics."""
        if self._outputs is not None:
            self._outputs.close()
        if self._transforms is not None:
            self._transforms.close()
        if self._folder is not None:
            self._folder.close()
        self._outputs = self._transforms = self._folder = None

    def _lost(self, error: Exception) -> None:
        """The recorder's thread has ended, perhaps while the process ends: what it had not written is lost."""
        self.failure = error
        try_shutdown(context=self.context)

    # The sensors.

    def _look(self) -> None:
        """One step towards knowing the sensors."""
        graph, worker = self._graph, self._worker
        if graph is None or worker is None:
            return
        if worker.recorder is not None:
            self._take_in(graph, worker)
            return
        qos = sensor_qos(self.options.qos)
        try:
            if self._sensors is None:
                if not graph.choose():
                    return
                if graph.odometry and self._transforms is not None and self._odometry is None:
                    self._odometry = OdometrySubscriber(self, graph.odometry, self._transforms, qos)
                self._sensors = SensorSubscribers(self, graph.topics, qos, worker.offer)
            self._record(graph, worker, self._sensors)
        except DsegError as error:
            graph.problem = str(error)

    def _record(self, graph: SensorsFromGraph, worker: LiveWorker, subscribers: SensorSubscribers) -> None:
        if self._folder is None or self._transforms is None or self._outputs is None:
            return
        sensors = graph.sensors(self._transforms.tree)
        if sensors is None:
            return
        names = [camera.name for camera in sensors.cameras]
        subscribers.keep({LIDAR, *sensors.others, *names})
        say = self.get_logger().info
        recorder = LiveRecorder(self._folder, sensors, self.options, self._memory, say, self._outputs.show)
        self._outputs.offer_cameras(names)
        for note in sensors.notes:
            self.get_logger().warning(note)
        found = [
            sensors.lidar,
            *sensors.others.values(),
            *(camera.topic for camera in sensors.cameras),
            *([graph.odometry] if graph.odometry else []),
        ]
        say(f"sensors: {', '.join(found)}")
        worker.begin(recorder, None if self.options.paused else LiveRecorder.start)

    def _take_in(self, graph: SensorsFromGraph, worker: LiveWorker) -> None:
        """Cameras that were silent at first."""
        if self._sensors is None or self._outputs is None or self._transforms is None:
            return
        sensors = graph.late(self._transforms.tree)
        if sensors is None:
            return
        names = [camera.name for camera in sensors.cameras]
        self._outputs.offer_cameras(names)
        done = worker.ask(lambda recorder: recorder.widen(sensors))
        done.add_done_callback(self._told)
        self._sensors.add({name: graph.topics[name] for name in names})

    def _told(self, done: Future[str]) -> None:
        """What became of a command that nobody waits for."""
        error = done.exception()
        if error is None:
            self.get_logger().info(done.result())
        else:
            self.get_logger().error(str(error))

    def _ask(self, command: Command) -> Future[str]:
        """Have the recorder's thread carry out a command. Raises DsegError while there is none."""
        if self._worker is None or self._worker.recorder is None:
            raise DsegError(self._graph.problem if self._graph else f"the node is {self.state}")
        return self._worker.ask(command)

    # Health.

    def _watches(self) -> dict[str, TopicWatch]:
        """Of everything that is listened to, by sensor."""
        found = dict(self._sensors.watches) if self._sensors is not None else {}
        return found if self._odometry is None else found | {"odometry": self._odometry.watch}

    def _warn(self) -> None:
        """Tell what is wrong, each thing once."""
        recorder = self._worker.recorder if self._worker else None
        for line in self._problems.lines(recorder, self._watches().values()):
            self.get_logger().warning(line)
        if self._graph is not None and self._graph.problem != self._waiting_for:
            self._waiting_for = self._graph.problem
            self.get_logger().info(self._waiting_for or "all sensors are known")

    def health(self) -> Health:
        """What is recorded, what is dropped and why, and what is left of disk and memory."""
        found = super().health()
        if self._graph is not None and self._graph.problem:
            found.warnings.append(self._graph.problem)
        if self._folder is not None:
            add_disk(found, self._folder)
        if self._worker is not None and self._worker.recorder is not None:
            add_recording(found, self._worker.recorder, self._memory)
            found.warnings += self._problems.lately()
        add_topics(found, self._watches())
        if self._transforms is not None and self._transforms.mounted:
            found.values["never moved on /tf, taken as mounted"] = ", ".join(self._transforms.mounted)
        return found


def main(args: Sequence[str] | None = None) -> int:
    """The executable."""
    return run(RecorderNode, args)
