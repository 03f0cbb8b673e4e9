"""Why a recording could not work, each reason with its fix; and what it would lack though it works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dseg_core.errors import DsegError
from dseg_core.frames_from_regions import NO_TRANSFORM
from dseg_core.pairs_from_bag import NO_IMAGE, NO_SWEEP, TOO_FAR
from dseg_core.stage_options import PairingOptions

_APART_NS = 1_000_000_000  # clocks that differ by more are not one clock
_LIDAR = "lidar"
_FOLLOWS = ("no usable image", NO_TRANSFORM)  # of another problem
_FIXES = (
    ("header stamp is", "Let the driver set header.stamp"),
    ("encoding", "Record rgb8, bgr8, mono8 or a compressed image"),
    ("compressed image of format", "Record JPEG or PNG"),
    ("camera_info of", "Record the camera_info of these images, not of a cropped or other one"),
    ("cloud without points", "Check the LiDAR's driver"),
    ("point times", "Check the unit of the points' times"),
    ("duplicate stamp", "Remove the second publisher of the topic"),
    ("stamp runs backwards", "Record header stamps of the measurement, from one clock"),
    ("outside the chosen times", "Choose other --windows or --events"),
    ("slower than --min-speed", "Lower --min-speed"),
    (NO_IMAGE, "Record the cameras while the LiDAR runs"),
    (NO_SWEEP, "Record the LiDAR while the cameras run"),
)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and how to mend it."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}. {self.fix}" if self.fix else self.what

    @classmethod
    def of(cls, error: DsegError) -> Problem:
        """The same without the bag's path, which the report has already."""
        return cls(error.what, error.fix)


def of_account(
    account: Mapping[str, Any],
    nearest_ns: Mapping[str, Sequence[int]],
    apart_ns: Mapping[str, int],
    pairing: PairingOptions,
) -> list[Problem]:
    """What keeps every sweep from becoming a frame; nothing when one does.

    Args:
        account: Of the rehearsed drive.
        nearest_ns: Offsets of the nearest partners of what was dropped, by sensor [ns], constant ones taken off.
        apart_ns: How much later each camera's clock is than the LiDAR's, by camera [ns], the same.
        pairing: As the drive was rehearsed.
    """
    if account["frames"]:
        return []
    problems = [clocks_apart(camera, apart) for camera, apart in apart_ns.items() if abs(apart) > _APART_NS]
    consequences = []  # of something else, if anything else is wrong
    for sensor, row in account["sensors"].items():
        for reason, count in row["dropped"].items():
            if reason.startswith(_FOLLOWS) or (reason == TOO_FAR and (problems or sensor == _LIDAR)):
                continue
            what = f"{sensor}: {count} of {row['messages']} messages cannot be used: {reason}"
            if reason == TOO_FAR:
                problems.append(_too_far(sensor, what, nearest_ns.get(sensor, ()), pairing))
            elif reason in (NO_IMAGE, NO_SWEEP):
                consequences.append(Problem(what, _fix(reason)))
            else:
                problems.append(Problem(what, _fix(reason)))
    return problems or consequences


def clocks_apart(camera: str, apart_ns: int) -> Problem:
    """The camera's stamps are of another clock than the LiDAR's."""
    seconds = abs(apart_ns) / 1e9
    amount = f"{seconds:.3f} s" if seconds < 600 else f"{seconds:.0f} s ({seconds / 86400:.1f} days)"
    way = "later" if apart_ns > 0 else "earlier"
    what = f"{camera}: its stamps are {amount} {way} than the LiDAR's for messages logged together: two clocks"
    return Problem(what, "Synchronise the clocks (PTP, chrony) or let both drivers stamp with the host's time")


def of_overlap(overlap: Mapping[str, Mapping[str, float]]) -> tuple[list[Problem], list[str]]:
    """Problems and warnings of cameras in whose images no point lies."""
    blind = [camera for camera, share in overlap.items() if share["points_in_image"] == 0]
    fix = "Check the mounting in /tf_static: optical frames look along z, x to the right"
    if blind and len(blind) == len(overlap):
        return [Problem(f"no point of the sweeps lies in an image of {', '.join(blind)}", fix)], []
    return [], [f"{camera}: no point of the sweeps lies in its images. {fix}" for camera in blind]


def warnings(account: Mapping[str, Any], apart_ns: Mapping[str, int]) -> list[str]:
    """What a recording that works would lack."""
    found = []
    if account["frames"]:
        for sensor, row in account["sensors"].items():
            if not row["paired"]:
                reasons = "; ".join(f"{reason} ({count})" for reason, count in row["dropped"].items())
                found.append(f"{sensor} gives nothing: {reasons or 'no messages'}")
        found += [str(clocks_apart(camera, apart)) for camera, apart in apart_ns.items() if abs(apart) > _APART_NS]
    for why, count in account["motion"]["not_compensated"].items():
        found.append(f"{count} views would be without motion compensation: {why}")
    return found


def _too_far(camera: str, what: str, nearest_ns: Sequence[int], pairing: PairingOptions) -> Problem:
    tolerance, known = pairing.tolerance, pairing.known_offsets_ns([camera])[camera] / 1e9
    if not len(nearest_ns):
        return Problem(what, "Raise --pairing.tolerance")
    offsets = np.array(nearest_ns) / 1e9
    middle, spread = float(np.median(offsets)), float(np.ptp(np.percentile(offsets, [5, 95])))
    what = f"{what}: the nearest are {1e3 * middle:+.0f} ms (median) from their sweep, allowed are {1e3 * tolerance:g}"
    wider = f"--pairing.tolerance {np.ceil(100 * np.abs(offsets).max()) / 100:g}"
    if spread <= tolerance:
        return Problem(
            what, f"Give --pairing.offsets {camera}:{known + middle:.3f} if the stamps are late, else {wider}"
        )
    return Problem(what, f"Give {wider} if the street may move so much meanwhile, else trigger the camera")


def _fix(reason: str) -> str:
    return next((fix for start, fix in _FIXES if start in reason), "See the reason")
