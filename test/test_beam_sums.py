"""Sums of beams, by runs of points or point by point, against NumPy's."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dseg_core.lidar.beam_sums import runs_of_labels, sums_of_labels, sums_of_runs
from dseg_core.lidar.points import points_of


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(1, 700), min_size=1, max_size=12), st.booleans())
def test_sums_are_those_of_numpy(seed: int, lengths: list[int], some_missed: bool) -> None:
    rng = np.random.default_rng(seed)
    beam = rng.integers(0, 6, len(lengths))
    labels = np.repeat(beam, lengths)
    xyz = rng.normal(0, 9, (len(labels), 3)).astype(np.float32)
    if some_missed:
        xyz[rng.random(len(xyz)) < 0.3] = np.nan
    points = points_of(xyz)
    sums = np.bincount(labels, points.tangent.astype(np.float64))
    counts = np.bincount(labels, points.distance > 0)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    for found in (
        sums_of_labels(labels.astype(np.int32), points),
        sums_of_runs(starts, beam.astype(np.int32), int(beam.max()) + 1, points),
    ):
        np.testing.assert_allclose(found[0], sums, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(found[1], counts)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(200, 900)), min_size=1, max_size=12))
def test_runs_give_the_labels_back(runs: list[tuple[int, int]]) -> None:
    labels = np.repeat([beam for beam, _ in runs], [length for _, length in runs]).astype(np.uint16)
    found = runs_of_labels(labels)
    assert found is not None
    starts, beam = found
    np.testing.assert_array_equal(np.repeat(beam, np.diff(starts)), labels)
    assert (beam[1:] != beam[:-1]).all()


def test_beams_that_take_turns_are_no_runs() -> None:
    assert runs_of_labels(np.tile(np.arange(32, dtype=np.uint16), 100)) is None
    late = np.concatenate([np.zeros(3000, np.uint16), np.tile(np.arange(32, dtype=np.uint16), 100)])
    assert runs_of_labels(late) is None
