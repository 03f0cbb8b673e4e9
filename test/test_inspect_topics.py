"""Rates, gaps, order and delay of topics against brute force."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dseg_core import messages as ros
from dseg_core.bag import BagMessage
from dseg_core.inspection.topic_stats import TopicTimes

MS = 1_000_000
stamps_ms = st.lists(st.integers(0, 500), min_size=2, max_size=40)


def times_of(stamps: list[int], logs: list[int]) -> TopicTimes:
    times = TopicTimes()
    for stamp, log in zip(stamps, logs, strict=True):
        times.add(BagMessage("/t", log, SimpleNamespace(header=ros.header(stamp, "f"))))
    return times


@given(stamps_ms)
def test_order_is_that_of_brute_force(stamps: list[int]) -> None:
    found = times_of([s * MS for s in stamps], list(range(len(stamps)))).to_dict()["stamps"]
    known = [s for s in stamps if s]
    assert found["zero"] == len(stamps) - len(known)
    assert found["backwards"] == sum(s < max(known[:i]) for i, s in enumerate(known) if i)
    assert found["duplicates"] == sum(s == max(known[:i]) for i, s in enumerate(known) if i)


def test_rate_gaps_and_delay() -> None:
    stamps = [1000 + 100 * i for i in range(20) if i not in (7, 12, 13)]
    logs = [s + (30 if s < 2000 else 45) for s in stamps]
    found = times_of([s * MS for s in stamps], [s * MS for s in logs]).to_dict()
    assert found["gaps"] == 2 and found["longest_gap_s"] == pytest.approx(0.3)
    assert found["rate_hz"] == pytest.approx(16 / 1.9, abs=1e-3)
    assert found["delay_ms"]["min"] == 30 and found["delay_ms"]["max"] == 45


def test_messages_without_header_go_by_log_time() -> None:
    times = TopicTimes()
    for i in range(11):
        times.add(BagMessage("/tf", i * 20 * MS, SimpleNamespace(transforms=[])))
    found = times.to_dict()
    assert found["stamps"] is None and found["delay_ms"] is None and found["by"] == "log times"
    assert found["rate_hz"] == pytest.approx(50) and times.shift_ns() is None


def test_clocks_apart_show_as_shift() -> None:
    logs = [100 * MS * i for i in range(9)]
    assert times_of([log + 37_000 * MS for log in logs], logs).shift_ns() == 37_000 * MS
