"""Pairing against brute force over whole lists, whatever the arrival order; every message leaves exactly once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dseg_core.errors import OptionError
from dseg_core.pairs_from_bag import (
    DUPLICATE,
    NO_IMAGE,
    NO_SWEEP,
    OUT_OF_ORDER,
    TOO_FAR,
    Dropped,
    Pairing,
    Surplus,
    SweepDone,
    crossing_times,
)
from dseg_core.records import Sweep
from dseg_core.stage_options import PairingOptions

MS = 1_000_000
CAMERAS = ("left", "right")
BIG = PairingOptions(queue=10_000, patience=1e6)


def run(pairing: Pairing, arrivals: list[tuple[str, int]]) -> list[object]:
    """Push (sensor, stamp) in order of arrival; handles are the arrivals' numbers."""
    events: list[object] = []
    for number, (sensor, stamp) in enumerate(arrivals):
        if sensor == "lidar":
            events += pairing.push_sweep(stamp, number)
        else:
            events += pairing.push_image(sensor, stamp, number)
    return events + list(pairing.flush())


def pairs_of(events: list[object]) -> dict[tuple[int, str], tuple[int, int]]:
    done = (event for event in events if isinstance(event, SweepDone))
    return {(d.sweep_ns, c): (p.image_ns, p.offset_ns) for d in done for c, p in d.pairs.items()}


# On a coarse grid, so that images often lie as far on either side of a sweep.
stamps = st.lists(st.integers(0, 60).map(lambda v: 10 * v), unique=True, max_size=25).map(sorted)


@given(
    stamps, st.fixed_dictionaries(dict.fromkeys(CAMERAS, stamps)), st.randoms(use_true_random=False), st.integers(0, 80)
)
def test_equals_brute_force_in_any_interleaving(
    sweeps: list[int], images: dict[str, list[int]], shuffle: object, tolerance_ms: int
) -> None:
    queues = {"lidar": [s * MS for s in sweeps], **{c: [i * MS for i in images[c]] for c in CAMERAS}}
    expected = {}
    for sweep in queues["lidar"]:
        for camera in CAMERAS:
            best = min(queues[camera], key=lambda i: (abs(i - sweep), i), default=None)
            if best is not None and abs(best - sweep) <= tolerance_ms * MS:
                expected[sweep, camera] = (best, best - sweep)
    order = [sensor for sensor, queue in queues.items() for _ in queue]
    shuffle.shuffle(order)  # type: ignore[attr-defined]
    taken = {sensor: iter(queue) for sensor, queue in queues.items()}
    arrivals = [(sensor, next(taken[sensor])) for sensor in order]
    options = PairingOptions(tolerance=tolerance_ms / 1000, queue=10_000, patience=1e6)
    events = run(Pairing(CAMERAS, options), arrivals)
    assert pairs_of(events) == expected
    assert_everything_leaves_once(events, arrivals)


@given(
    st.fixed_dictionaries(dict.fromkeys(("lidar", *CAMERAS), st.lists(st.integers(0, 60), max_size=25))),
    st.randoms(use_true_random=False),
    st.integers(0, 80),
)
def test_what_becomes_of_each_message_does_not_depend_on_the_interleaving(
    sent: dict[str, list[int]], shuffle: object, tolerance_ms: int
) -> None:
    """Also where a sensor repeats stamps or sends them in the wrong order: DDS keeps the order within a topic only."""
    fates = []
    for _ in range(2):
        order = [sensor for sensor, values in sent.items() for _ in values]
        shuffle.shuffle(order)  # type: ignore[attr-defined]
        taken = {sensor: iter(values) for sensor, values in sent.items()}
        arrivals = [(sensor, 10 * MS * next(taken[sensor])) for sensor in order]
        options = PairingOptions(tolerance=tolerance_ms / 1000, queue=10_000, patience=1e6)
        events = run(Pairing(CAMERAS, options), arrivals)
        fates.append(
            Counter(
                (e.sensor, e.stamp_ns, e.reason if isinstance(e, Dropped) else "surplus", getattr(e, "nearest_ns", 0))
                for e in events
                if isinstance(e, Dropped | Surplus)
            )
        )
    assert fates[0] == fates[1]


@given(stamps, st.integers(1, 12), st.integers(0, 9), st.integers(0, 80))
def test_what_is_not_paired_says_why_and_how_near_it_was(
    images: list[int], interval: int, shift: int, tolerance_ms: int
) -> None:
    """An image is too far when it is a sweep's nearest all the same; surplus when it lies between sweeps."""
    tolerance = tolerance_ms * MS
    sweeps = [(100 + shift + 10 * interval * i) * MS for i in range(-(-300 // (10 * interval)) + 2)]
    arrivals = sorted([("lidar", s) for s in sweeps] + [("left", i * MS) for i in images], key=lambda a: a[1])
    events = run(Pairing(("left",), PairingOptions(tolerance=tolerance_ms / 1000, queue=1000, patience=1e6)), arrivals)
    wanted = {min((i * MS for i in images), key=lambda i: (abs(i - s), i), default=None) for s in sweeps}
    for event in events:
        if isinstance(event, Dropped) and event.sensor == "lidar":
            near = min((i * MS - event.stamp_ns for i in images), key=abs, default=None)
            assert (event.reason, near is None) == ((NO_IMAGE, True) if not images else (TOO_FAR, False))
            assert near is None or abs(near) == abs(event.nearest_ns or 0) > tolerance
        elif isinstance(event, Dropped | Surplus):
            near = min((event.stamp_ns - s for s in sweeps), key=abs)
            beside = abs(near) <= max(tolerance, 10 * interval * MS)
            reason = TOO_FAR if event.stamp_ns in wanted else "surplus" if beside else NO_SWEEP
            if event.stamp_ns > sweeps[0] or reason == TOO_FAR:  # before, how often sweeps come is not known
                assert (event.reason if isinstance(event, Dropped) else "surplus") == reason
            assert isinstance(event, Surplus) or abs(near) == abs(event.nearest_ns or 0)


def test_how_often_sweeps_come_is_taken_as_known_at_the_images_time() -> None:
    """The same image is surplus whether or not the LiDAR was heard further already."""
    sweeps, images = [("lidar", t * MS) for t in (0, 240, 340)], [("left", t * MS) for t in (0, 120, 230, 340)]
    for arrivals in (sweeps + images, [*sweeps[:2], *images, sweeps[2]], images + sweeps):
        events = run(Pairing(("left",), BIG), arrivals)
        assert [e for e in events if not isinstance(e, SweepDone)] == [Surplus("left", 120 * MS)]


def test_sweeps_before_a_jump_are_near_to_nothing_after_it() -> None:
    arrivals = [*((sensor, t * 100 * MS) for t in range(20, 40) for sensor in ("lidar", "left")), ("left", 0)]
    (lost,) = (e for e in run(Pairing(("left",), BIG), arrivals) if not isinstance(e, SweepDone))
    assert lost == Dropped("left", 0, NO_SWEEP, None)


@pytest.mark.parametrize(("first", "late"), [("lidar", 0), ("left", 0), ("left", 250)])
@pytest.mark.parametrize("back", [1.001, 3600.0])
def test_a_clock_that_is_set_back_begins_anew(first: str, late: int, back: float) -> None:
    """As of a bag played in a loop: the second round pairs as the first, whichever sensor begins it."""
    once = [(sensor, t * 100 * MS) for t in range(20) for sensor in ("lidar", "left")]
    again = sorted(once, key=lambda a: (a[1] + late * MS * (a[0] != first), a[0] != first))
    shift = round(back * 1e9) - 1900 * MS  # of the last stamp of the first round to the first of the second
    events = run(
        pairing := Pairing(("left",), PairingOptions()),
        [*once, *((sensor, t - shift - 1900 * MS) for sensor, t in again)],
    )
    assert pairing.jumps == 1
    assert [e.pairs["left"].offset_ns for e in events if isinstance(e, SweepDone)] == [0] * 40
    assert not [e for e in events if isinstance(e, Dropped)]


def test_stamps_that_run_backwards_by_a_jump_at_most_are_out_of_order() -> None:
    late = [("lidar", 2000 * MS), ("left", 2000 * MS), ("lidar", 1000 * MS), ("left", 1000 * MS)]
    events = run(pairing := Pairing(("left",), PairingOptions(jump=1.0)), late)
    assert [e.reason for e in events if isinstance(e, Dropped)] == [OUT_OF_ORDER, OUT_OF_ORDER]
    assert pairing.jumps == 0


def assert_everything_leaves_once(events: list[object], arrivals: list[tuple[str, int]]) -> None:
    left: Counter[tuple[str, int]] = Counter()
    for event in events:
        if isinstance(event, SweepDone):
            assert arrivals[event.sweep] == ("lidar", event.sweep_ns)
            left["lidar", event.sweep_ns] += 1
            for name, pair in event.pairs.items():
                assert arrivals[pair.image] == (name, pair.image_ns)
                left[name, pair.image_ns] += not pair.reused
        elif isinstance(event, Surplus | Dropped):
            left[event.sensor, event.stamp_ns] += 1
    assert left == Counter(arrivals)


@given(
    st.lists(
        st.tuples(st.sampled_from(("lidar", *CAMERAS)), st.integers(0, 60).map(lambda v: v * 10 * MS)), max_size=60
    ),
    st.integers(2, 6),
    st.sampled_from([0.0, 0.05, 0.2, 10.0]),
)
def test_any_stream_with_short_queues_leaves_once(arrivals: list[tuple[str, int]], queue: int, patience: float) -> None:
    events = run(Pairing(CAMERAS, PairingOptions(queue=queue, patience=patience)), arrivals)
    assert_everything_leaves_once(events, arrivals)


def test_a_faster_camera_has_surplus() -> None:
    arrivals = sorted(
        [("lidar", t * 100 * MS) for t in range(10)] + [("left", round(t * 100 / 3 * MS) + 4 * MS) for t in range(30)],
        key=lambda a: a[1],
    )
    events = run(Pairing(("left",), BIG), arrivals)
    assert {offset for _, offset in pairs_of(events).values()} == {4 * MS}
    assert sum(isinstance(e, Surplus) for e in events) == 20
    assert not [e for e in events if isinstance(e, Dropped)]


def test_a_slower_camera_is_used_twice() -> None:
    arrivals = sorted(
        [("lidar", t * 50 * MS) for t in range(9)] + [("left", t * 100 * MS) for t in range(5)], key=lambda a: a[1]
    )
    events = run(Pairing(("left",), BIG), arrivals)
    done = [e for e in events if isinstance(e, SweepDone)]
    assert len(done) == 9 and sum(e.pairs["left"].reused for e in done) == 4


def test_drops_say_why() -> None:
    arrivals = [
        ("lidar", 0), ("left", 0), ("left", 0), ("lidar", 1000 * MS), ("left", 1080 * MS), ("lidar", 900 * MS),
        ("left", 5000 * MS), ("left", 5100 * MS),
    ]  # fmt: skip
    events = run(Pairing(("left",), BIG), arrivals)
    assert sorted((e.sensor, e.stamp_ns // MS, e.reason, e.nearest_ns) for e in events if isinstance(e, Dropped)) == [
        ("left", 0, DUPLICATE, None),
        ("left", 1080, TOO_FAR, 80 * MS),
        ("left", 5000, NO_SWEEP, 4000 * MS),
        ("left", 5100, NO_SWEEP, 4100 * MS),
        ("lidar", 900, OUT_OF_ORDER, None),
        ("lidar", 1000, TOO_FAR, 80 * MS),
    ]


def test_sweeps_without_any_image() -> None:
    events = run(Pairing(("left",), BIG), [("lidar", 0)])
    assert [(e.reason, e.nearest_ns) for e in events if isinstance(e, Dropped)] == [(NO_IMAGE, None)]


def test_a_dead_camera_does_not_hold_up_the_others() -> None:
    pairing = Pairing(CAMERAS, PairingOptions(patience=0.5))
    events: list[object] = list(pairing.push_image("right", 0, "last words"))
    for t in range(20):
        events += pairing.push_sweep(t * 100 * MS, t)
        events += pairing.push_image("left", t * 100 * MS + 1, t)
    done = [e for e in events if isinstance(e, SweepDone)]
    assert len(done) >= 14 and set(done[0].pairs) == {"left", "right"} and set(done[5].pairs) == {"left"}


@pytest.mark.parametrize("rate", [30, 60, 200])
def test_a_dead_camera_costs_the_others_nothing_however_fast_they_are(rate: int) -> None:
    """As long as sweeps wait for the dead one, images of a fast camera fill its queue."""
    arrivals = [("right", 0), *(("lidar", t * 100 * MS) for t in range(100))]
    arrivals += [("left", round(t * 1000 / rate * MS) + MS) for t in range(10 * rate)]
    events = run(Pairing(CAMERAS, PairingOptions()), sorted(arrivals, key=lambda a: a[1]))
    assert {offset for (_, camera), (_, offset) in pairs_of(events).items() if camera == "left"} == {MS}
    assert sum(isinstance(e, SweepDone) for e in events) == 100
    assert not [e for e in events if isinstance(e, Dropped)]


def test_constant_offsets_and_crossing_references() -> None:
    pairing = Pairing(CAMERAS, PairingOptions(tolerance=0.001, offsets=("left:0.04",)))
    events: list[object] = list(pairing.push_sweep(1000 * MS, "sweep", {"right": 1060 * MS}))
    for camera, stamp in (("left", 1040), ("left", 1140), ("right", 1000), ("right", 1060), ("right", 1100)):
        events += pairing.push_image(camera, stamp * MS, stamp)
    assert pairs_of(events) == {(1000 * MS, "left"): (1040 * MS, 0), (1000 * MS, "right"): (1060 * MS, 0)}


@pytest.mark.parametrize(("offset", "message"), [("rear:0.1", "no camera 'rear'"), ("left:soon", "CAMERA:SECONDS")])
def test_wrong_offsets(offset: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Pairing(CAMERAS, PairingOptions(offsets=(offset,)))


@pytest.mark.parametrize("constant", [-0.03, 0.03])
def test_a_sweep_waits_for_its_image_whatever_the_constant_offset(constant: float) -> None:
    """The camera's clock is ahead or behind: an image is later than the sweep only when it is by the true time."""
    pairing = Pairing(["camera"], PairingOptions(tolerance=0.02, offsets=(f"camera:{constant}",)))
    shift = round(constant * 1e9)
    sweep, near, far = 10**18, 10**18 + 5_000_000, 10**18 - 12_000_000
    assert pairing.push_sweep(sweep, "sweep") == []
    early = pairing.push_image("camera", far + shift, "far")
    assert not any(isinstance(event, SweepDone) for event in early), "a nearer one may come"
    (done,) = (e for e in pairing.push_image("camera", near + shift, "near") if isinstance(e, SweepDone))
    assert done.pairs["camera"].image == "near" and done.pairs["camera"].offset_ns == 5_000_000


def test_a_beam_crosses_an_axis_at_a_time_that_it_has() -> None:
    """At the seam of the turn both ends are on the axis, half a turn lies between, and there the beam looks away."""
    azimuth = np.linspace(np.pi, -np.pi, 720, endpoint=False) - np.pi / 720  # as many points on either side of 180 deg
    xyz = np.stack([np.cos(azimuth), np.sin(azimuth), 0 * azimuth], axis=1).astype(np.float32)
    sweep = Sweep(1000, "lidar", xyz, time_ns=np.arange(720) * 100_000)
    axes = {name: np.array(axis, np.float64) for name, axis in (("rear", (-1, 0, 0)), ("left", (0, 1, 0.5)))}
    found = crossing_times(sweep, axes)
    assert found["left"] - 1000 == pytest.approx(180 * 100_000, abs=100_000)
    assert min(found["rear"] - 1000, 1000 + 72_000_000 - found["rear"]) < 500_000
    assert crossing_times(Sweep(1000, "lidar", xyz), axes) == {}
