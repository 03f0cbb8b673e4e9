"""The angle between neighbouring points of a beam against a median of sorted azimuths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dseg_core.lidar.usual_step import usual_step


def plain(azimuth: np.ndarray) -> float:
    steps = np.diff(np.sort(azimuth.astype(np.float64)))
    steps = steps[steps > 5e-4]
    return float(np.median(steps)) if len(steps) else float(np.deg2rad(0.2))


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(0, 300),
    st.sampled_from(["turn", "turns back", "shuffled", "two turns", "some more than a turn"]),
)
def test_it_is_the_median(seed: int, count: int, order: str) -> None:
    """From any azimuth on, either way round, with gaps, second returns and jitter, or in no order at all."""
    rng = np.random.default_rng(seed)
    azimuth = np.sort(rng.uniform(0, 2 * np.pi, count) if seed % 2 else rng.choice(2000, count) * np.pi / 1000)
    if order == "some more than a turn":
        azimuth = np.concatenate([azimuth, azimuth[: seed % 40] + 1e-3])
    elif len(azimuth):
        azimuth = np.roll(azimuth, rng.integers(len(azimuth)))
    if order == "turns back":
        azimuth = azimuth[::-1].copy()
    elif order == "shuffled":
        azimuth = rng.permutation(azimuth)
    elif order == "two turns":
        azimuth = np.concatenate([azimuth, azimuth])
    azimuth = azimuth.astype(np.float32)
    before = azimuth.copy()
    assert usual_step(azimuth)[0] == pytest.approx(plain(azimuth), rel=1e-6, abs=1e-7)
    np.testing.assert_array_equal(azimuth, before)


@pytest.mark.parametrize("start", [0.0, 3.0])
@pytest.mark.parametrize("way", [1, -1])
def test_two_turns_are_more_than_one(start: float, way: int) -> None:
    """One turn and a little, with every tenth point twice, and some anywhere, is one; two are not, however mixed."""
    rng = np.random.default_rng(0)
    turn = np.arange(0, 2.04 * np.pi, 2 * np.pi / 720)

    def once(azimuth: np.ndarray) -> bool:
        return usual_step(((start + way * azimuth) % (2 * np.pi)).astype(np.float32))[1]

    assert once(turn[:720]) and once(turn)
    assert once(np.where(rng.random(len(turn)) < 0.05, rng.uniform(0, 6, len(turn)), turn))
    assert once(np.repeat(turn, 1 + (np.arange(len(turn)) % 10 == 0)))
    assert not once(np.concatenate([turn, turn])) and not once(np.concatenate([turn[:720], turn[:720] + 2e-3]))
    assert not once(np.stack([turn, turn + 1.0], axis=1).ravel()) and not once(rng.permutation(turn))
