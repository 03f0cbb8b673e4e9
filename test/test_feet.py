"""Feet of objects, against the same rule in plain Python, and on objects before a plane."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lidars import cast, spinning

from dseg_core.lidar.feet import give_feet
from dseg_core.lidar.kind_from_field import GROUND, NONE, OBJECT
from dseg_core.proposals_from_sweep import proposals_from_sweep
from dseg_core.records import Sweep
from dseg_core.stage_options import ProposalOptions


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 40))
def test_feet_are_below_objects(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    axes = rng.normal([[[12.0]], [[3.0]], [[0.0]]], [[[1.0]], [[1.0]], [[3.0]]], (3, rows, columns)).astype(np.float32)
    index = rng.permutation(rows * columns).astype(np.int32).reshape(rows, columns)
    kinds = rng.choice([0, 1, 1, 2, 3], (rows, columns)).astype(np.uint8)
    index[(kinds == NONE) & (rng.random(kinds.shape) < 0.8)] = -1  # the others are measured, and noise
    kind = np.full(rows * columns, 9, np.uint8)
    expected = kinds.copy()
    for c in range(columns):
        for r in range(rows):
            above = [s for s in range(max(r - 3, 0), r) if expected[s, c] != NONE]
            if expected[r, c] == GROUND and above and expected[above[-1], c] >= OBJECT:
                x, y, z = (axes[:, above[-1], c] - axes[:, r, c]).astype(float)
                far = np.hypot(*axes[:2, r, c].astype(float)) > 12
                if far and z > 0 and np.degrees(np.arctan2(z, np.hypot(x, y))) > 60:
                    expected[r, c] = OBJECT

    before = kinds.copy()
    give_feet(axes, index, kinds, kind)

    np.testing.assert_array_equal(kinds, expected)
    changed = index[kinds != before]
    assert (kind[changed] == OBJECT).all()
    assert np.count_nonzero(kind != 9) == len(changed)


@pytest.mark.parametrize("beams", [24, 48, 96])
def test_far_people_have_feet(beams: int) -> None:
    """All of them that is seen is theirs, down to the ground; and ground before and behind them is ground."""
    people = tuple((x, x + 0.4, y, y + 0.6, 1.7) for x, y in ((12.0, -4.0), (18.0, 3.0), (24.0, -6.0), (31.0, 2.0)))
    ray, ring = spinning(np.linspace(2, -18, beams), 1800)
    xyz, truth = cast(ray, people, seed=1)
    kept = truth > 0

    found = proposals_from_sweep(Sweep(0, "lidar", xyz[kept], ring=ring[kept]), ProposalOptions())

    truth = truth[kept]
    assert np.mean(found[truth == 1] == 1) > 0.995
    assert np.mean(found[truth > 1] == 1) < 0.02
