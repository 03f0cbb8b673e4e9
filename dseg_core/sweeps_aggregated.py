"""A sweep told together with earlier ones: objects that are too thin in one alone, pixels that one leaves unpainted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dseg_core.records import REGION_FIRST_OBJECT, REGION_NONE
from dseg_core.stage_options import ProposalOptions
from dseg_core.sweeps_merged import SweepPart, with_common_ids


def options_for(options: ProposalOptions, earlier: int) -> ProposalOptions:
    """How a sweep is split that is told with so many earlier ones: objects need their points in all of them."""
    if not earlier:
        return options
    return replace(options, min_points=max(-(-options.min_points // (earlier + 1)), 2))


def told_together(
    now: Sequence[SweepPart], earlier: Sequence[SweepPart], options: ProposalOptions
) -> tuple[list[SweepPart], list[SweepPart]]:
    """Ids that hold for a frame's sweeps and for those before them: objects that touch are one.

    Args:
        now: The frame's own, the trigger's first, split with `options_for`.
        earlier: Those before, moved by the vehicle's motion to where the trigger is now.
        options: As they are.

    Returns:
        Both with common ids: 0 none, 1 ground, 2.. objects. Objects have `min_points` points in all of them together,
        and at least one now: what has only been seen before is none.
    """
    parts = with_common_ids([*now, *earlier], options.merge)
    counts = _counts(parts)
    kept = (counts >= options.min_points) & (_counts(parts[: len(now)], len(counts)) > 0)
    kept[:REGION_FIRST_OBJECT] = False
    ids = np.zeros(len(counts), dtype=np.uint16)
    ids[1:REGION_FIRST_OBJECT] = np.arange(1, REGION_FIRST_OBJECT)
    ids[kept] = np.arange(REGION_FIRST_OBJECT, REGION_FIRST_OBJECT + np.count_nonzero(kept))
    parts = [replace(part, proposals=ids[part.proposals]) for part in parts]
    return parts[: len(now)], parts[len(now) :]


def filled(regions: NDArray[np.uint16], before: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Regions uint16 (H, W) of now, and of before where these are none: what has moved is where it is now."""
    return np.where(regions == REGION_NONE, before, regions)


def _counts(parts: Sequence[SweepPart], length: int = REGION_FIRST_OBJECT) -> NDArray[np.int64]:
    """Points of each id."""
    return np.bincount(np.concatenate([part.proposals for part in parts]), minlength=length)
