"""Garbled messages raise what the reader skips them for; they do not hang, nor take memory that is not there."""

from __future__ import annotations

import contextlib
import resource
from functools import cache
from typing import Any

import pytest
from bag_kinds import ROS1, to_ros1
from bags import bag_rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dseg_core.bag.part import Channel, inflate
from dseg_core.bag.types import BROKEN, decoder, plain_type
from dseg_core.errors import DsegError
from dseg_core.messages import typestore

LENGTHS = [b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80"]
PATCHES = st.sampled_from(LENGTHS) | st.binary(max_size=9)


@cache
def encoded() -> list[tuple[Channel, bytes]]:
    """A message of each type, in ROS 2's and ROS 1's encoding."""
    found: dict[str, Any] = {data.__msgtype__: data for _, data, _ in bag_rows((0,), (4,))}
    pairs = []
    for kind, data in found.items():
        pairs.append((Channel("/t", kind, "cdr"), bytes(typestore().serialize_cdr(data, kind))[:4000]))
        text = ROS1.generate_msgdef(kind)[0]
        raw = bytes(ROS1.serialize_ros1(to_ros1(data), kind))[:4000]
        pairs.append((Channel("/t", kind, "ros1", "ros1msg", text), raw))
    return pairs


def garble(data: st.DataObject) -> None:
    channel, raw = data.draw(st.sampled_from(encoded()))
    content = bytearray(raw)
    for _ in range(data.draw(st.integers(0, 6))):
        position = data.draw(st.integers(0, len(content) - 1))
        patch = data.draw(
            st.sampled_from([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80"]) | st.binary(max_size=9)
        )
        content[position : position + len(patch)] = patch
    content = content[: data.draw(st.integers(0, len(content)))]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(BROKEN):
        decoder(channel)(bytes(content))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_garbled_messages(data: st.DataObject) -> None:
    garble(data)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_many_garbled_messages(data: st.DataObject) -> None:
    garble(data)


@pytest.mark.parametrize("compression", ["lz4", "zstd", "bz2", "none", "unheard of"])
@given(st.binary(max_size=200))
def test_garbage_is_never_decompressed_with_an_exception(compression: str, data: bytes) -> None:
    content, problem = inflate(data, compression)
    assert content == data if compression == "none" else not content or not problem or len(content) < 1 << 20


def test_types_have_the_names_of_ros_2() -> None:
    assert plain_type("sensor_msgs/Image") == plain_type("sensor_msgs/msg/Image") == "sensor_msgs/msg/Image"


@pytest.mark.parametrize("definition", ["no such thing at all", "odd_msgs/Other other\n", "odd_msgs/Odd again\n"])
def test_definitions_with_holes_are_refused(definition: str) -> None:
    with pytest.raises(DsegError, match="definition cannot be used"):
        decoder(Channel("/t", "odd_msgs/msg/Odd", "cdr", "ros2msg", definition))
