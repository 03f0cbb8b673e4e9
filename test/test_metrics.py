"""Counting, grouping, scores and matching, against scikit-learn, brute force and cases worked by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, jaccard_score

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.evaluation.matching import by_name, many_to_one, one_to_one
from dseg_core.evaluation.metrics import UNMATCHED, count_pixels, group_truth, score

TRUTH = ClassTable.of_names(["road", "pavement", "car", "sky"], [(0, 0, 0)] * 4)
ROLES = {"ground_classes": ("Road", "pavement"), "sky_classes": ("sky",)}


def random_masks(seed: int, clusters: int, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    random = np.random.default_rng(seed)
    predicted = random.choice([*range(clusters), 255], (40, 50)).astype(np.uint8)
    truth = random.choice([*range(classes), 255], (40, 50)).astype(np.uint8)
    return predicted, truth


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_sklearns(seed: int) -> None:
    predicted, truth = random_masks(seed, 6, 4)
    counts = count_pixels(predicted, truth, 6, 4)
    used = truth != 255
    whole = confusion_matrix(np.where(predicted == 255, 6, predicted)[used], truth[used], labels=range(7))
    np.testing.assert_array_equal(counts, whole[:, :4])
    assert counts.sum() == used.sum()


@pytest.mark.parametrize("seed", range(4))
def test_identity_scores_are_sklearns_jaccard(seed: int) -> None:
    predicted, truth = random_masks(seed, 4, 4)
    scores = score(count_pixels(predicted, truth, 4, 4), np.arange(4), TRUTH.names)
    used = truth != 255
    expected = jaccard_score(truth[used], predicted[used], labels=range(4), average=None)
    np.testing.assert_allclose(scores.iou, expected)
    assert scores.miou == pytest.approx(expected.mean())
    assert scores.accuracy == pytest.approx((truth == predicted)[used].mean())


def test_truth_id_outside_its_table_is_named() -> None:
    with pytest.raises(DsegError, match=r"truth holds id 7, but its class table ends at 3\. Pixels .* must be 255"):
        count_pixels(np.zeros((2, 2), np.uint8), np.full((2, 2), 7, np.uint8), 2, 4)


def test_both_conventions_by_hand() -> None:
    """Three clusters, two classes: cluster 2 is left over and covers 10 pixels of class 0 and 20 of class 1."""
    counts = np.array([[50, 5], [0, 40], [10, 20], [0, 0]])
    mapping = one_to_one(counts)
    assert mapping.tolist() == [0, 1, UNMATCHED]
    errors = score(counts, mapping, ("a", "b"))
    np.testing.assert_allclose(errors.iou, [50 / 65, 40 / 65])
    assert errors.accuracy == pytest.approx(90 / 125)
    assert errors.confusion.tolist() == [[50, 5], [0, 40], [10, 20]]
    ignored = score(counts, mapping, ("a", "b"), ignore_unmatched=True)
    np.testing.assert_allclose(ignored.iou, [50 / 55, 40 / 45])
    assert ignored.accuracy == pytest.approx(90 / 95)
    many = score(counts, many_to_one(counts, mapping), ("a", "b"))
    np.testing.assert_allclose(many.iou, [50 / 65, 60 / 75])


def test_pixels_without_a_prediction_are_errors_or_ignored() -> None:
    counts = np.array([[6, 0], [0, 8], [2, 2]])
    assert score(counts, np.array([0, 1]), ("a", "b")).iou.tolist() == [6 / 8, 8 / 10]
    assert score(counts, np.array([0, 1]), ("a", "b"), ignore_unmatched=True).miou == 1


def test_a_class_that_is_not_there_does_not_count_and_a_missed_one_does() -> None:
    counts = np.array([[10, 0, 0], [0, 4, 0], [0, 0, 0]])
    missed = score(counts, np.array([0, UNMATCHED]), ("a", "b", "c"), ignore_unmatched=True)
    assert missed.iou[:2].tolist() == [1, 0] and np.isnan(missed.iou[2])
    assert missed.miou == 0.5


counted = st.tuples(st.integers(1, 5), st.integers(1, 4)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(0, 30), min_size=shape[1], max_size=shape[1]), min_size=shape[0] + 1, max_size=shape[0] + 1
    )
)


def brute_force(gain: NDArray[np.float64]) -> float:
    clusters, classes = gain.shape
    if clusters < classes:
        return brute_force(gain.T)
    return max(
        sum(gain[cluster, column] for column, cluster in enumerate(chosen))
        for chosen in itertools.permutations(range(clusters), classes)
    )


@settings(max_examples=60, deadline=None)
@given(counted, st.sampled_from(["pixels", "iou"]))
def test_matching_is_the_best_of_all_one_to_one_mappings(rows: list[list[int]], by: str) -> None:
    counts = np.array(rows)
    mapping = one_to_one(counts, by)
    used = mapping[mapping != UNMATCHED]
    assert len(set(used.tolist())) == len(used)
    shared = counts[:-1]
    union = shared.sum(1)[:, None] + counts.sum(0)[None] - shared
    gain = shared / np.maximum(union, 1) if by == "iou" else shared.astype(float)
    reached = sum(gain[cluster, wanted] for cluster, wanted in enumerate(mapping) if wanted != UNMATCHED)
    assert reached == pytest.approx(brute_force(gain))
    assert all(shared[cluster, wanted] > 0 for cluster, wanted in enumerate(mapping) if wanted != UNMATCHED)


def test_pixels_without_a_prediction_are_in_unions() -> None:
    """7/16 + 1/20 as they are numbered, 8/26 + 1/9 the other way; without the 10 pixels it would be 8/16 + 1/9."""
    assert one_to_one(np.array([[7, 8], [1, 1], [0, 10]]), "iou").tolist() == [0, 1]


def test_a_cluster_without_a_pixel_stands_for_nothing() -> None:
    counts = np.array([[5, 1], [0, 0], [0, 2], [0, 3], [0, 0]])
    assert many_to_one(counts, one_to_one(counts)).tolist() == [0, UNMATCHED, 1, 1]


@settings(max_examples=40, deadline=None)
@given(counted)
def test_many_to_one_keeps_matches_and_never_has_less_right(rows: list[list[int]]) -> None:
    counts = np.array(rows)
    matched = one_to_one(counts)
    many = many_to_one(counts, matched)
    assert (many[matched != UNMATCHED] == matched[matched != UNMATCHED]).all()
    assert (many[counts[:-1].sum(axis=1) > 0] != UNMATCHED).all()
    names = tuple("abcd"[: counts.shape[1]])
    right = [np.trace(score(counts, mapping, names).confusion) for mapping in (matched, many)]
    assert right[1] >= right[0]


@settings(max_examples=40, deadline=None)
@given(counted, st.randoms(use_true_random=False))
def test_scores_do_not_depend_on_how_clusters_are_numbered(rows: list[list[int]], random) -> None:
    counts = np.array(rows)
    order = list(range(len(counts) - 1))
    random.shuffle(order)
    names = tuple("abcd"[: counts.shape[1]])
    shuffled = np.concatenate([counts[:-1][order], counts[-1:]])
    # Equal sums may be matched in several ways; what all of them share is how many pixels agree.
    right = [np.trace(score(c, one_to_one(c), names).confusion) for c in (counts, shuffled)]
    assert right[0] == right[1]


def test_ground_merged_and_sky_left_out() -> None:
    counts = np.array([[30, 20, 1, 0], [0, 5, 40, 2], [0, 0, 0, 60], [0, 0, 0, 0]])
    merged = group_truth(TRUTH, merge_ground=True, with_sky=False, **ROLES)
    assert merged.names == ("ground", "car")
    assert merged.apply(counts).tolist() == [[50, 1], [5, 40], [0, 0], [0, 0]]
    whole = group_truth(TRUTH, merge_ground=False, with_sky=True, **ROLES)
    assert whole.names == TRUTH.names and (whole.apply(counts) == counts).all()
    fit = merged.apply(counts)
    scores = score(fit, one_to_one(fit), merged.names)
    np.testing.assert_allclose(scores.iou, [50 / 56, 40 / 46])


def test_all_sky_is_nothing_to_score() -> None:
    with pytest.raises(DsegError, match="every truth class counts as sky"):
        group_truth(TRUTH, merge_ground=True, with_sky=False, ground_classes=(), sky_classes=TRUTH.names)


def test_names_match_the_truths_without_case() -> None:
    clusters = ClassTable.of_names(["ground", "Car", "heron", "SKY", "road"], [(0, 0, 0)] * 5)
    merged = group_truth(TRUTH, merge_ground=True, with_sky=False, **ROLES)
    assert by_name(clusters, merged, TRUTH).tolist() == [0, 1, UNMATCHED, UNMATCHED, 0]
    whole = group_truth(TRUTH, merge_ground=False, with_sky=True, **ROLES)
    assert by_name(clusters, whole, TRUTH).tolist() == [UNMATCHED, 2, UNMATCHED, 3, 0]
