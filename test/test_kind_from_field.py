"""What points are by their heights over a field, against an interpolation in plain NumPy."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dseg_core.lidar.kind_from_field import GROUND, HIGH, NONE, OBJECT, kind_from_field
from dseg_core.lidar.points import points_of

EDGES = np.array([0.0, 1, 2, 3, 4.5, 6.5, 9, 12, 16, 21, 27, 34, 42])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 0.5), st.floats(0, 2.5), st.integers(3, 40))
def test_kinds_are_those_of_interpolated_heights(seed: int, rough: float, kerb: float, sectors: int) -> None:
    rng = np.random.default_rng(seed)
    bins = len(EDGES) - 1
    field = -1.8 + rough * rng.normal(size=(bins, sectors))
    azimuth, d = rng.uniform(0, 2 * np.pi, 3000), rng.uniform(0.5, 50, 3000)
    z = -1.8 + rng.choice([rng.normal(0, 0.3, 3000), rng.uniform(-4, 5, 3000)])
    xyz = np.stack([d * np.cos(azimuth), d * np.sin(azimuth), z], axis=1).astype(np.float32)
    xyz[:20] = 0  # no measurements
    points, is_flat = points_of(xyz), rng.random(3000) < 0.5
    z = xyz[:, 2].astype(float)
    measured, planar = points.distance > 0, np.hypot(xyz[:, 0], xyz[:, 1])
    turn = (points.azimuth * np.float32(sectors / (2 * np.pi))).astype(float)
    s = np.minimum(turn.astype(int), sectors - 1)
    b = np.minimum(np.searchsorted(EDGES, planar, side="right") - 1, bins - 1)
    place = np.where(measured & (planar < EDGES[-1]), b * sectors + s, -1).astype(np.int32)

    along, aside = (planar - EDGES[b]) / np.diff(EDGES)[b] - 0.5, turn - s - 0.5
    other, t = np.clip(b + np.sign(along).astype(int), 0, bins - 1), (s + np.where(aside > 0, 1, -1)) % sectors
    u, v = np.abs(along), np.abs(aside)
    height = (1 - v) * ((1 - u) * field[b, s] + u * field[other, s]) + v * ((1 - u) * field[b, t] + u * field[other, t])
    above, highest = z - height, np.where(is_flat, kerb, kerb / 2) + 0.002 * np.maximum(planar - 20, 0)
    noise = -0.5 - 0.02 * planar
    expected = np.where(above < noise, NONE, np.where(above < highest, GROUND, np.where(above > 2, HIGH, OBJECT)))
    expected = np.where(place >= 0, expected, np.where(measured, OBJECT, NONE))

    kind = kind_from_field(points, place, is_flat, field, EDGES, kerb)[:-1]
    far = np.min(np.abs([above - noise, above - highest, above - 2.0]), axis=0) > 1e-3  # from where it changes
    np.testing.assert_array_equal(kind[far | (place < 0)], expected[far | (place < 0)])
    assert far.mean() > 0.95


def test_without_a_field_or_beyond_it_what_is_measured_is_an_objects() -> None:
    xyz = np.array([[5, 1, -1.8], [0, 0, 0], [7, -2, 3], [60, 0, 0], 3 * [np.nan], 3 * [np.inf]], np.float32)
    place = np.array([30, -1, 50, -1, -1, -1], np.int32)
    for height in (np.nan, -9.0):
        field = np.full((len(EDGES) - 1, 12), height)
        kind = kind_from_field(points_of(xyz), place, np.ones(6, bool), field, EDGES, 0.2)
        high = OBJECT if np.isnan(height) else HIGH
        assert kind.tolist() == [high, NONE, high, OBJECT, NONE, NONE, NONE], "the last is for cells without a point"
