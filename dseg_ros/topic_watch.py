"""What happens on a subscribed topic, in words: rates, what the network lost, publishers that do not fit."""

from __future__ import annotations

import re
from collections import deque
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from dseg_ros.compat import SubscriptionEventCallbacks
from dseg_ros.node_options import QosOptions
from dseg_ros.reasons import Reasons

_KEPT = 100  # latest messages that rates are told from
_LOSSY = 0.9  # share of the published rate below which it is worth a warning
_FEW = 10
_SILENCE = 2.0  # s
_OTHER_CLOCK = 3600.0  # s between a stamp and the node's clock, beyond which they are two clocks
_UNITS = ((365.25 * 86400, "years"), (86400, "days"), (3600, "hours"))
_CALM = 30.0  # s without a problem, after which it is news again
_MANY = 2**31 - 1
_FIXES = {
    "reliability": "set qos.reliability to best_effort",
    "durability": "the publisher must keep its last message for those who come later (transient local)",
}


def sensor_qos(options: QosOptions) -> QoSProfile:
    """The profile of a sensor's subscription."""
    reliable = options.reliability == "reliable"
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=options.depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )


LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""For what is published once and wanted by who comes later."""


class TopicWatch:
    """Counts one topic's messages.

    Times of arrival are on the steady clock, in seconds; stamps are header stamps in nanoseconds.

    Args:
        node: Whose subscription it is.
        topic: Its resolved name.
        kind: Its type's name, such as `sensor_msgs/msg/Image`.
        qos: The subscription's.
    """

    def __init__(self, node: Node, topic: str, kind: str, qos: QoSProfile) -> None:
        self.topic, self.kind = topic, kind
        self.received, self.lost, self.jumps = 0, 0, 0
        self.bad = Reasons()  # messages of no use
        self._node, self._qos = node, qos
        self._latest: deque[tuple[float, int]] = deque(maxlen=_KEPT)
        self._behind_s = 0.0  # the latest stamp, behind the node's clock
        self._said: dict[str, float] = {}  # when each kind of problem was last there
        self._asked: float | None = None  # when problems were first asked for

    def callbacks(self) -> SubscriptionEventCallbacks:
        """What the middleware tells: lost messages. Of what does not fit, rclpy's own callback writes to the log."""

        def lost(event: Any) -> None:
            # Not the total: Fast DDS was seen to tell one that had wrapped around.
            self.lost += event.total_count_change if 0 < event.total_count_change < _MANY else 0

        return SubscriptionEventCallbacks(message_lost=lost)

    def saw(self, now: float, stamp_ns: int) -> None:
        """A message has come."""
        self.received += 1
        clock_ns = self._node.get_clock().now().nanoseconds  # 0 as long as simulated time has not begun
        self._behind_s = (clock_ns - stamp_ns) / 1e9 if clock_ns else 0.0
        if self._latest and stamp_ns < self._latest[-1][1]:
            self.jumps += 1
            self._latest.clear()
        if self._has_gap(now, stamp_ns):  # what a sensor did not send was not lost on the way
            self._latest.clear()
        self._latest.append((now, stamp_ns))

    def age(self, now: float) -> float | None:
        """Seconds since the last message; None when none has come."""
        return now - self._latest[-1][0] if self._latest else None

    def rate(self, now: float) -> float:
        """Messages a second, lately; sinks while none come."""
        if len(self._latest) < 2:
            return 0.0
        return (len(self._latest) - 1) / max(now - self._latest[0][0] if self._is_late(now) else self._span(), 1e-9)

    def published_rate(self) -> float | None:
        """Messages a second that are published, by the stamps' usual distance; None while too few have come.

        A message that is lost leaves a gap of twice that distance, so the rate holds while fewer than half are lost.
        """
        if len(self._latest) < _FEW:
            return None
        gaps = np.diff([stamp for _, stamp in self._latest])
        usual = float(np.median(gaps[gaps <= 1.5 * np.percentile(gaps, 25)]))
        return 1e9 / usual if usual > 0 else None

    def problems(self, now: float, patience: float = _SILENCE) -> list[str]:
        """What is wrong with the topic, for people; empty when all is well."""
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        others = sorted({info.topic_type for info in publishers} - {self.kind})
        fitting = [info for info in publishers if info.topic_type == self.kind]
        if others and not fitting:
            return [f"{self.topic} carries {others[0]}, and {self.kind} was expected"]
        if not publishers:
            return [f"nobody publishes {self.topic}"]
        if misfits := {policy for info in fitting if (policy := self._misfit(info))}:
            policies = " and ".join(sorted(misfits))
            return [f"{self.topic}: a publisher's {policies} does not fit; {_FIXES[min(misfits)]}"]
        age = self.age(now)
        self._asked = now if self._asked is None else self._asked
        if age is None and now - self._asked < patience:
            return []
        if age is None:
            return [f"{self.topic} has a publisher, but no message has come yet"]
        if age > patience:
            return [f"{self.topic}: no message for {age:.1f} s"]
        if len(fitting) > 1:
            names = sorted({f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in fitting})
            return [f"{self.topic} has {len(fitting)} publishers, whose messages mix: {', '.join(names)}"]
        found = self._other_clock()
        published, arriving = self.published_rate(), self._share()
        if published is not None and arriving < _LOSSY and not self._is_late(now):
            lost = f"{100 * (1 - arriving):.0f} % of {published:.1f} messages/s do not arrive"
            found.append(f"{self.topic}: {lost}: the transport loses them, or CPU is short; see README, 'Transport'")
        return found

    def values(self, now: float) -> dict[str, str]:
        """Numbers for /diagnostics."""
        published = self.published_rate()
        found = {
            "topic": self.topic,
            "received": str(self.received),
            "rate": f"{self.rate(now):.1f} Hz",
            "published rate": "unknown" if published is None else f"{published:.1f} Hz",
            "lost before they were taken": str(self.lost),
            "stamps that ran backwards": str(self.jumps),
        }
        return found | {f"bad: {reason}": str(count) for reason, count in dict(self.bad).items()}

    def new_problems(self, now: float, patience: float = _SILENCE) -> list[str]:
        """Those problems that were not there when last asked; they are told again once they were gone for a while."""
        kinds = {re.sub(r"[\d.]+", "", problem): problem for problem in self.problems(now, patience)}
        fresh = [problem for kind, problem in kinds.items() if now - self._said.get(kind, -_CALM) >= _CALM]
        self._said |= dict.fromkeys(kinds, now)
        return fresh

    def _other_clock(self) -> list[str]:
        """Header stamps of another clock than the node's: of a bag, or of a sensor that counts since it was started."""
        if abs(self._behind_s) < _OTHER_CLOCK:
            return []
        size, unit = next((size, unit) for size, unit in _UNITS if abs(self._behind_s) >= size)
        where = "behind" if self._behind_s > 0 else "ahead of"
        fix = "set use_sim_time where a bag is played with --clock, else have the driver stamp by this machine's clock"
        return [f"{self.topic}: stamps are {abs(self._behind_s) / size:.0f} {unit} {where} the node's clock; {fix}"]

    def _share(self) -> float:
        """Which share of the messages came, by their stamps alone: a bag may be played at any speed."""
        published = self.published_rate()
        if published is None:
            return 1.0
        expected = (self._latest[-1][1] - self._latest[0][1]) / 1e9 * published
        return (len(self._latest) - 1) / expected if expected > 0 else 1.0

    def _span(self) -> float:
        return self._latest[-1][0] - self._latest[0][0]

    def _is_late(self, now: float) -> bool:
        """Whether the next message should have come by now."""
        return now - self._latest[-1][0] > 2 * self._span() / (len(self._latest) - 1)

    def _has_gap(self, now: float, stamp_ns: int) -> bool:
        """Whether the topic had stopped until this message, or its clock was set ahead."""
        if not self._latest:
            return False
        distances, (last, last_ns) = max(len(self._latest) - 1, 1), self._latest[-1]
        usual, usual_ns = self._span() / distances, (last_ns - self._latest[0][1]) / distances
        ahead = (stamp_ns - last_ns) / 1e9
        return now - last > max(_SILENCE, 10 * usual) or ahead > max(_SILENCE, 10 * usual_ns / 1e9)

    def _misfit(self, info: Any) -> str:
        """The policy for which a publisher's messages never come; nothing when they do."""
        offered, wanted = info.qos_profile, self._qos
        if wanted.reliability == ReliabilityPolicy.RELIABLE and offered.reliability == ReliabilityPolicy.BEST_EFFORT:
            return "reliability"
        latched = DurabilityPolicy.TRANSIENT_LOCAL
        return "durability" if wanted.durability == latched and offered.durability == DurabilityPolicy.VOLATILE else ""
