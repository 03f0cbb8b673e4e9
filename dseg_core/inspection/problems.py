"""Why a recording could not work, each reason with its fix; and what it would lack though it works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dseg_core.errors import DsegError
from dseg_core.fixes_from_reasons import fix_of, most_frequent
from dseg_core.frames_from_pairs import NO_USABLE_SWEEP
from dseg_core.frames_from_regions import NO_TRANSFORM
from dseg_core.ledger import listed_reasons, reasons_in_words
from dseg_core.pairs_from_bag import NO_IMAGE, NO_SWEEP, TOO_FAR
from dseg_core.shares_from_frames import MOUNTING, told_of_unseen
from dseg_core.stage_options import PairingOptions
from dseg_core.words import count

_APART_NS = 1_000_000_000  # clocks that differ by more are not one clock
_LIDAR = "lidar"
_FOLLOWS = ("no usable image", NO_USABLE_SWEEP, NO_TRANSFORM)  # of another problem


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
    topics = {_LIDAR: account["lidar"], **account["cameras"]}
    for sensor, row in account["sensors"].items():
        listed, others, more = listed_reasons(row["dropped"])
        for reason, number in listed.items():
            if reason.startswith(_FOLLOWS) or (reason == TOO_FAR and (problems or sensor == _LIDAR)):
                continue
            whose = f"{sensor} ({topics[sensor]})" if sensor in topics else sensor
            what = f"{whose}: {number} of {count(row['messages'], 'message')} cannot be used: {reason}"
            if reason == TOO_FAR:
                problems.append(_too_far(sensor, what, nearest_ns.get(sensor, ()), pairing))
            elif reason in (NO_IMAGE, NO_SWEEP):
                consequences.append(Problem(what, fix_of(reason)))
            else:
                problems.append(Problem(what, fix_of(reason)))
        if more:
            what = f"{sensor}: {others} of {count(row['messages'], 'message')} cannot be used for other reasons"
            problems.append(Problem(what, "Mend those above first"))
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
    if blind and len(blind) == len(overlap):
        return [Problem(told_of_unseen(blind), MOUNTING)], []
    return [], [f"{told_of_unseen([camera])}. {MOUNTING}" for camera in blind]


def warnings(
    account: Mapping[str, Any],
    nearest_ns: Mapping[str, Sequence[int]],
    apart_ns: Mapping[str, int],
    pairing: PairingOptions,
) -> list[str]:
    """What a recording that works would lack; arguments as of `of_account`."""
    found = []
    if account["frames"]:
        for sensor, row in account["sensors"].items():
            if row["paired"] or account["reused"].get(sensor):
                continue
            reasons, main = reasons_in_words(row["dropped"]), most_frequent(row["dropped"])
            what = f"{sensor} gives nothing: {reasons or 'no messages'}"
            if main == TOO_FAR:
                found.append(str(_too_far(sensor, what, nearest_ns.get(sensor, ()), pairing)))
            else:
                found.append(str(Problem(what, fix_of(main) if main else "")))
        found += [str(clocks_apart(camera, apart)) for camera, apart in apart_ns.items() if abs(apart) > _APART_NS]
    for why, number in account["motion"]["not_compensated"].items():
        found.append(f"{count(number, 'view')} would be without motion compensation: {why}")
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
