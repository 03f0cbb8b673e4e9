"""Plays a bag into this ROS domain, as `ros2 bag play` does, but reliably: all of it arrives.

Run: python bag_player.py BAG [--speed 1] [--loops 1] [--hold S...] [--only TOPIC...] [--without TOPIC...]
    [--best-effort] [--clock]
It waits for a subscription to every topic that it plays before it begins, and says `began`. At the seconds of the bag
that are given, and between two loops, it says `held` and waits for a line. With --clock it tells the bag's time.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from mcap.reader import make_reader
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

_LONG = 300  # s; all of a bag is acknowledged much sooner


def rows_of(bag: Path) -> list[tuple[str, str, int, bytes]]:
    """(topic, type, log time, CDR) of every message whose type is installed, in order."""
    found = []
    for part in sorted(bag.glob("*.mcap")):
        with part.open("rb") as file:
            for schema, channel, message in make_reader(file).iter_messages():
                if schema is not None and message_class(schema.name) is not None:
                    found.append((channel.topic, schema.name, message.log_time, message.data))
    return found


def message_class(kind: str) -> Any:
    package, _, name = kind.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError):
        return None


def hold() -> None:
    """Wait for a line."""
    print("held", flush=True)
    sys.stdin.readline()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bag", type=Path)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--loops", type=int, default=1)
    parser.add_argument("--hold", nargs="*", type=float, default=[])
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--without", nargs="*", default=[])
    parser.add_argument("--best-effort", action="store_true")
    parser.add_argument("--clock", action="store_true")
    told = parser.parse_args()
    rows = [r for r in rows_of(told.bag) if r[0] not in told.without and (not told.only or r[0] in told.only)]
    rclpy.init(args=[])
    node = rclpy.create_node("player")
    reliability = ReliabilityPolicy.BEST_EFFORT if told.best_effort else ReliabilityPolicy.RELIABLE
    qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1000, reliability=reliability)
    latched = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publishers = {
        topic: node.create_publisher(message_class(kind), topic, latched if topic == "/tf_static" else qos)
        for topic, kind in {topic: kind for topic, kind, _, _ in rows}.items()
    }
    clock = node.create_publisher(Clock, "/clock", latched) if told.clock else None
    while not all(publisher.get_subscription_count() for publisher in publishers.values()):
        time.sleep(0.05)
    print("began", flush=True)
    first = rows[0][2]
    for loop in range(told.loops):
        if loop:
            hold()
        holds = sorted(told.hold)
        began = time.monotonic()
        for topic, _kind, log_ns, data in rows:
            if holds and log_ns - first >= holds[0] * 1e9:
                held = time.monotonic()
                hold()
                began += time.monotonic() - held
                holds.pop(0)
            time.sleep(max(0.0, began + (log_ns - first) / 1e9 / told.speed - time.monotonic()))
            if clock is not None:
                clock.publish(Clock(clock=Time(sec=log_ns // 10**9, nanosec=log_ns % 10**9)))
            publishers[topic].publish(data)
    if not all(publisher.wait_for_all_acked(Duration(seconds=_LONG)) for publisher in publishers.values()):
        return 1
    print("ended", flush=True)
    time.sleep(0.5)  # best effort is never acknowledged
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
