"""Scores of proposals against counts made by hand, plain loops and simulated worlds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dseg_core.class_table import ClassTable
from dseg_core.evaluation.box_scores import Box, score_boxes
from dseg_core.evaluation.hard_ground import BENEATH, KERB, SLOPE, ground_parts
from dseg_core.evaluation.overlaps import FOUND, MERGED, MISSED, SPLIT, overlaps
from dseg_core.evaluation.proposal_scores import ALL, CALLED, Share, score_pixels, score_points
from dseg_core.evaluation.proposal_tally import ProposalTally
from dseg_core.evaluation.proposal_truth import Truth

NAMES = ("road", "pavement", "car", "pole", "building", "noise")
ROAD, PAVEMENT, CAR, POLE, BUILDING, NOISE = range(6)
CLASSES = ClassTable.of_names(NAMES, [(0, 0, i) for i in range(6)])


def truth_of(*parts: tuple[int, int, int]) -> Truth:
    """Points in runs: (how many, class, instance)."""
    counts, semantic, instance = (np.array(column) for column in zip(*parts, strict=True))
    return Truth(np.repeat(semantic, counts).astype(np.uint8), np.repeat(instance, counts), CLASSES)


def at(truth: Truth, x: float = 5.0) -> np.ndarray:
    return np.tile(np.array([[x, 0, 0]], np.float32), (len(truth.semantic), 1))


def ids_of(*parts: tuple[int, int]) -> np.ndarray:
    return np.repeat([i for _, i in parts], [n for n, _ in parts]).astype(np.uint16)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 6), st.integers(1, 80))
def test_overlaps_are_those_of_plain_loops(seed: int, objects: int, proposals: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    instance = rng.integers(0, objects + 1, count) * 7
    ids = rng.integers(0, proposals + 1, count)
    found = overlaps(ids.astype(np.uint16), instance)
    assert found.objects.tolist() == sorted(set(instance[instance > 0].tolist()))
    assert found.ids.tolist() == sorted(set(ids[ids > 1].tolist()))
    for k, thing in enumerate(found.objects):
        mine = instance == thing
        pairs = {i: ((ids == i) & mine).sum() / ((ids == i) | mine).sum() for i in found.ids}
        shares = {i: ((ids == i) & mine).sum() / mine.sum() for i in found.ids}
        assert found.size[k] == mine.sum()
        assert found.iou[k] == pytest.approx(max(pairs.values(), default=0))
        assert found.proposal[k] == 0 if found.iou[k] == 0 else pairs[found.proposal[k]] == found.iou[k]
        assert found.held[k] == pytest.approx(max(shares.values(), default=0))
        assert found.covered[k] == pytest.approx((ids[mine] > 1).mean())
    for k, number in enumerate(found.ids):
        mine = ids == number
        most = max((((instance == t) & mine).sum() / ((instance == t) | mine).sum() for t in found.objects), default=0)
        assert found.proposal_size[k] == mine.sum() and found.matched[k] == pytest.approx(most)


def test_what_becomes_of_objects() -> None:
    """One found, two in one proposal of which neither is half, one in three pieces, one called ground."""
    instance = np.repeat([1, 2, 3, 4, 5], [20, 10, 11, 30, 10])
    ids = np.repeat([2, 3, 3, 4, 5, 6, 1], [20, 10, 11, 14, 14, 2, 10])
    found = overlaps(ids, instance)
    assert found.fates() == [FOUND, MERGED, FOUND, SPLIT, MISSED]
    assert found.iou[1:3].tolist() == pytest.approx([10 / 21, 11 / 21])


def test_entropies_by_hand() -> None:
    """An object in two equal halves has ln 2; a proposal of three quarters one thing has its entropy."""
    found = overlaps(np.repeat([2, 3, 4], [10, 10, 8]), np.repeat([1, 2, 3], [20, 6, 2]))
    assert found.over.tolist() == pytest.approx([np.log(2), 0, 0])
    assert found.under.tolist() == pytest.approx([0, 0, -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))])


def test_nothing_at_all() -> None:
    found = overlaps(np.zeros(5, np.uint16), np.zeros(5, np.int64))
    assert not len(found.objects) and not len(found.ids)
    empty = truth_of((0, ROAD, 0))
    scores = score_points(np.zeros((0, 3), np.float32), np.zeros(0, np.uint16), empty)
    assert scores.objects == () and scores.scored == ()
    assert np.isnan(ProposalTally().summary()["recall"])


def test_which_proposals_count_for_precision() -> None:
    """Houses do not, whatever is made of them; pieces of road and of rain count as wrong; small objects as right."""
    truth = truth_of((50, CAR, 1), (9, POLE, 2), (40, BUILDING, 3), (40, BUILDING, 4), (30, ROAD, 0), (30, NOISE, 0))
    ids = ids_of((50, 2), (9, 3), (60, 4), (20, 5), (30, 6), (30, 7))
    scores = score_points(at(truth), ids, truth)
    assert scores.scored == (2, 3, 6, 7) and scores.matched == (2, 3)
    assert [(o.name, o.size, o.fate) for o in scores.objects] == [("car", 50, FOUND)], "a pole of 9 points is too small"


def test_what_is_not_labelled_is_not_scored() -> None:
    truth = truth_of((50, CAR, 1), (500, 255, 0), (20, ROAD, 0))
    scores = score_points(at(truth), ids_of((450, 2), (120, 1)), truth)
    assert scores.objects[0].iou == 1.0 and scores.ground[CALLED] == Share(20, 20)


def test_ground_by_part() -> None:
    truth = truth_of((40, ROAD, 0), (60, PAVEMENT, 0), (10, CAR, 1))
    ids = ids_of((35, 1), (5, 2), (60, 1), (4, 1), (6, 3))
    scores = score_points(at(truth), ids, truth)
    assert scores.ground[ALL] == Share(95, 100) and scores.ground[CALLED] == Share(95, 99)
    assert scores.ground["road"] == Share(35, 40) and scores.ground["pavement"] == Share(60, 60)
    assert scores.lost == Share(4, 10) and scores.raised == Share(5, 100)


def test_a_sign_is_called_by_most_of_its_points_and_is_as_far_as_its_middle() -> None:
    truth = truth_of((20, POLE, 1), (19, CAR, 1))
    xyz = np.c_[np.linspace(10, 12, 39), np.zeros((39, 2))].astype(np.float32)
    (score,) = score_points(xyz, ids_of((39, 2)), truth).objects
    assert score.name == "pole" and score.distance == pytest.approx(11)


def plane(slope: float, step: float) -> tuple[np.ndarray, Truth]:
    """Road that rises with x, and from y = 3 on pavement higher by a step."""
    x, y = (v.ravel() for v in np.meshgrid(np.arange(-8, 8, 0.2), np.arange(-6, 6, 0.2)))
    z = slope * x + step * (y > 3)
    return np.c_[x, y, z].astype(np.float32), Truth((y > 3).astype(np.uint8), np.zeros(len(x), int), CLASSES)


def test_kerbs_and_slopes() -> None:
    xyz, truth = plane(0.0, 0.12)
    parts = ground_parts(xyz, truth)
    assert SLOPE not in parts and (np.abs(xyz[parts[KERB], 1] - 3) < 0.6).all() and parts[KERB].sum() > 100
    assert KERB not in ground_parts(*plane(0.0, 0.02))
    steep = ground_parts(*plane(0.1, 0.0))
    assert steep[SLOPE].mean() > 0.9 and KERB not in steep
    assert SLOPE not in ground_parts(*plane(0.03, 0.0))


def test_beneath_a_vehicle_that_stands_askew() -> None:
    """Its rectangle is turned as it is; the squares at its corners are not beneath it."""
    turn = np.array([[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]])
    corners = np.array([[2, 1], [2, -1], [-2, 1], [-2, -1], [0, 1], [0, -1], [2, 0], [-2, 0]]) @ turn.T
    ground = np.stack(np.meshgrid(np.arange(-3, 3, 0.25), np.arange(-3, 3, 0.25)), -1).reshape(-1, 2)
    xyz = np.c_[np.concatenate([corners, ground]), np.zeros(len(ground) + 8)].astype(np.float32)
    truth = truth_of((8, CAR, 1), (len(ground), ROAD, 0))
    local = ground @ turn
    expected = (np.abs(local[:, 0]) < 2) & (np.abs(local[:, 1]) < 1)
    sure = np.abs(np.abs(local) - [2, 1]).min(axis=1) > 0.01
    np.testing.assert_array_equal(ground_parts(xyz, truth)[BENEATH][8:][sure], expected[sure])


def test_pixels() -> None:
    semantic, instance = np.full((20, 30), 255, np.uint8), np.zeros((20, 30), np.uint16)
    semantic[10:], semantic[4:12, 5:15], instance[4:12, 5:15] = ROAD, CAR, 9
    regions = np.zeros((20, 30), np.uint16)
    regions[12:], regions[4:12, 5:14] = 1, 2
    scores = score_pixels(regions, Truth(semantic, instance, CLASSES), smallest=50, distances={9: 7.5})
    (car,) = scores.objects
    assert (car.iou, car.distance, car.size) == (pytest.approx(0.9), 7.5, 80)
    assert scores.ground[ALL] == Share(240, 280) and scores.ground[CALLED] == Share(240, 240)
    assert not score_pixels(regions, Truth(semantic, instance, CLASSES), smallest=81).objects


def test_boxes_without_their_lowest_part() -> None:
    """What lies within 15 cm of a box's bottom counts neither way; a box is turned by its yaw; two may overlap."""
    rng = np.random.default_rng(0)
    inside = rng.uniform([-2, -0.8, -0.75], [2, 0.8, 0.75], (400, 3))
    yaw, center = 0.7, np.array([10.0, 4.0, -0.9])
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    ground = np.c_[rng.uniform(5, 15, (300, 2)), np.full(300, -1.66)]
    xyz = np.concatenate([inside @ turn.T + center, ground]).astype(np.float32)
    ids = np.append(np.where(inside[:, 2] < -0.6, 1, 2), np.ones(300)).astype(np.uint16)
    box = Box("car", tuple(center), (4.02, 1.62, 1.5), yaw)
    (score,) = score_boxes(xyz, ids, [box])
    assert (score.name, score.iou, score.fate) == ("car", 1.0, FOUND)
    assert score.size == (inside[:, 2] >= -0.6).sum() and score.distance == pytest.approx(np.hypot(10, 4))
    assert score_boxes(xyz, ids, [Box("car", tuple(center), (4.02, 1.62, 1.5), yaw + 1.0)])[0].iou < 0.8
    head = Box("head", (10.0, 4.0, -0.4), (1.0, 1.0, 1.0), 0.0)
    pair = {s.name: s.size for s in score_boxes(xyz, ids, [head, box], smallest=1, foot=0.0)}
    assert pair["head"] > 0 and pair["car"] + pair["head"] == 400, "a point in both is the smaller box's"


def test_tally_adds_up() -> None:
    truth, tally = truth_of((50, CAR, 1), (20, POLE, 2), (30, ROAD, 0)), ProposalTally()
    tally.add(score_points(at(truth, 5), ids_of((50, 2), (20, 3), (30, 1)), truth))
    tally.add(score_points(at(truth, 25), ids_of((50, 2), (20, 2), (30, 1)), truth))
    values = tally.summary()
    assert (values["recall"], values["thin"], values["precision"]) == (0.75, 0.5, 1.0)
    assert (values[MERGED], values["ground recall"], values["lost"]) == (0.25, 1.0, 0.0)
    rows = {(r["class"], r["range"]): r for r in tally.by_class_and_band()}
    assert rows["pole", "0-10 m"][FOUND] == 1 and rows["pole", "20-30 m"][MERGED] == 1
    assert rows["pole", "all"]["objects"] == 2 and ("pole", "10-20 m") not in rows
