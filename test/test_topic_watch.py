"""Rates and losses of a topic, by arrival and stamps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS's wheels are not installed")

from dseg_ros.node_options import QosOptions
from dseg_ros.topic_watch import TopicWatch, sensor_qos

KIND = "sensor_msgs/msg/Image"


def watch(publishers: int = 1, clock_s: float = 0.0) -> TopicWatch:
    """Of a node whose clock stands; at 0 no simulated time has come yet."""
    qos = sensor_qos(QosOptions())
    names = [f"driver_{number}" for number in range(publishers)]
    found = [SimpleNamespace(topic_type=KIND, qos_profile=qos, node_namespace="/", node_name=name) for name in names]
    clock = SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=round(clock_s * 1e9)))
    node: Any = SimpleNamespace(get_publishers_info_by_topic=lambda topic: found, get_clock=lambda: clock)
    return TopicWatch(node, "/image", KIND, qos)


@settings(max_examples=50, deadline=None)
@given(
    rate=st.floats(1, 60),
    loss=st.floats(0, 0.4),
    jitter=st.floats(0, 0.1),
    seed=st.integers(0, 1000),
)
def test_published_rate_is_found_though_messages_are_lost(rate: float, loss: float, jitter: float, seed: int) -> None:
    random, seen = np.random.default_rng(seed), watch()
    times = np.arange(300) / rate + random.uniform(-jitter / 2, jitter / 2, 300) / rate
    kept = times[random.random(300) >= loss]
    for time in kept:
        seen.saw(time, round(time * 1e9))
    published = seen.published_rate()
    assert published == pytest.approx(rate, rel=0.08)
    now, latest = kept[-1], kept[-100:]
    assert seen.rate(now) == pytest.approx((len(latest) - 1) / (latest[-1] - latest[0]), rel=1e-6)
    told = seen.problems(now)
    share = 1 - seen.rate(now) / rate
    if share > 0.2:
        assert told and "do not arrive" in told[0]
    if loss == 0:
        assert not told


@pytest.mark.parametrize("speed", [0.2, 1.0, 5.0])
def test_slow_or_fast_playing_is_no_loss(speed: float) -> None:
    seen = watch()
    for number in range(60):
        seen.saw(number * 0.1 / speed, number * 100_000_000)
    assert seen.published_rate() == pytest.approx(10)
    assert seen.problems(59 * 0.1 / speed) == []


def test_silence_is_told_once_until_it_is_over() -> None:
    seen = watch()
    for number in range(20):
        seen.saw(number * 0.1, number * 100_000_000)
    assert seen.new_problems(1.95) == []
    assert "no message for 3.1 s" in seen.new_problems(5.0)[0]
    assert seen.new_problems(6.0) == []
    seen.saw(6.1, 2_000_000_000)
    back = seen.new_problems(6.15)
    assert back == [] or "arrive" in back[0]
    assert seen.rate(30.0) < 1


def test_what_a_sensor_did_not_send_is_not_lost_on_the_way() -> None:
    seen = watch()
    for number in [*range(20), *range(120, 140)]:
        seen.saw(number * 0.1, number * 100_000_000)
    assert seen.problems(13.95) == []
    assert seen.rate(13.95) == pytest.approx(10)
    for number in range(140, 160):  # a clock that is set ahead by half a minute
        seen.saw(number * 0.1, (300 + number) * 100_000_000)
    assert seen.problems(15.95) == []


def test_stamps_that_run_backwards_begin_anew() -> None:
    seen = watch()
    for stamp in (10, 20, 30, 5, 15):
        seen.saw(stamp / 10, stamp * 10**8)
    assert seen.jumps == 1
    assert seen.rate(1.5) == pytest.approx(1.0), "of the two since the jump"
    assert seen.received == 5


def test_nobody_publishes() -> None:
    assert watch(publishers=0).problems(0.0) == ["nobody publishes /image"]
    seen = watch()
    assert seen.problems(0.0) == [] == seen.problems(1.9)  # the first message takes a while
    assert seen.problems(2.0) == ["/image has a publisher, but no message has come yet"]


def test_two_drivers_on_one_topic_are_told() -> None:
    seen = watch(publishers=2)
    seen.saw(0.1, 1)
    assert seen.problems(0.2) == ["/image has 2 publishers, whose messages mix: /driver_0, /driver_1"]


def test_losses_are_counted_by_their_steps() -> None:
    """Fast DDS was seen to begin with a total of 2 ** 64 - 2147483636, as rclpy has it."""
    seen = watch()
    lost = seen.callbacks().message_lost
    for total, change in ((2**64 - 2**31, 2**64 - 2**31), (2**64 - 2**31 + 1, 1), (2**64 - 2**31 + 4, 3), (7, -5)):
        lost(SimpleNamespace(total_count=total, total_count_change=change))
    assert seen.lost == 4


def test_problem_that_comes_and_goes_does_not_fill_the_log() -> None:
    seen, told, stamp = watch(), [], 0
    for second in range(100, 200):  # two of three images of 10 Hz come for 12 s, all of them for the next 12
        for tenth in range(10):
            stamp += 100_000_000
            if second // 12 % 2 or tenth % 3:
                seen.saw(second + tenth / 10, stamp)
        told += seen.new_problems(second + 0.95)
    assert len(told) == 1, told
    assert "do not arrive" in told[0]
    assert "no message for" in seen.new_problems(300.0)[0]
    assert seen.new_problems(301.0) == []


@pytest.mark.parametrize(
    ("behind_s", "told"),
    [
        (0.5, ""),
        (-3599.0, ""),
        (7200.0, "2 hours behind"),
        (-86400.0 * 3, "3 days ahead of"),
        (365.25 * 86400 * 2, "2 years behind"),
    ],
)
def test_stamps_of_another_clock_are_told_with_what_to_do(behind_s: float, told: str) -> None:
    now_s = 1_700_000_000.0
    seen = watch(clock_s=now_s)
    seen.saw(0.1, round((now_s - behind_s) * 1e9))
    found = seen.problems(0.2)
    assert bool(found) == bool(told)
    if told:
        (line,) = found
        assert line.startswith(f"/image: stamps are {told} the node's clock; set use_sim_time")
        assert seen.new_problems(0.3) == found
        seen.saw(0.4, round((now_s - behind_s * 1.3) * 1e9))
        assert seen.new_problems(0.5) == [], "once"


def test_stamps_are_not_compared_with_simulated_time_that_has_not_begun() -> None:
    seen = watch(clock_s=0.0)
    seen.saw(0.1, 1_700_000_000 * 10**9)
    assert seen.problems(0.2) == []
