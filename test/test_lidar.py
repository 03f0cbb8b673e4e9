"""Beams, cells and components against plain implementations."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from dseg_core.lidar.clustering import components
from dseg_core.lidar.distinct import distinct
from dseg_core.lidar.euclidean import MOST_RISE, components_by_distance
from dseg_core.lidar.flat_cells import flat_cells
from dseg_core.lidar.flat_points import flat_points
from dseg_core.lidar.ground import GROUND, HIGH, NONE, OBJECT
from dseg_core.lidar.ground_field import refine
from dseg_core.lidar.ground_of_points import ground_of_points
from dseg_core.lidar.points import Points, points_of
from dseg_core.lidar.range_image import RangeImage, range_image
from dseg_core.lidar.rows import Rows, rows_of
from dseg_core.lidar.rows_by_order import rows_by_elevation
from dseg_core.lidar.seeds_from_points import Seeds
from dseg_core.lidar.tilt import street_plane
from dseg_core.records import Sweep


def cloud(seed: int, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    e, a = np.meshgrid(np.linspace(0.1, -0.3, rows), np.arange(columns) * 2 * np.pi / columns, indexing="ij")
    reach = rng.choice([4.0, 5.0, 9.0], (rows, columns)) + rng.normal(0, 0.05, (rows, columns))
    xyz = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=-1) * reach[..., None]
    return xyz.reshape(-1, 3).astype(np.float32), np.repeat(np.arange(rows), columns)


def test_polar_is_that_of_the_library() -> None:
    xyz = np.random.default_rng(0).normal(0, 20, (20000, 3)).astype(np.float32)
    points = points_of(xyz)
    azimuth, distance, tangent = points.azimuth, points.distance, points.tangent
    away = (azimuth - np.arctan2(xyz[:, 1], xyz[:, 0]) + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(away).max() < 5e-5
    np.testing.assert_allclose(distance, np.linalg.norm(xyz, axis=1), rtol=1e-5)
    np.testing.assert_allclose(tangent, xyz[:, 2] / np.hypot(xyz[:, 0], xyz[:, 1]), rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(4, 12),
    st.integers(90, 200),
    st.sampled_from(["ring", "ring by beams", "ring by firings", "rows", "order", "elevation"]),
)
def test_beams_by_every_way(seed: int, rows: int, columns: int, way: str) -> None:
    xyz, truth = cloud(seed, rows, columns)
    numbers = np.random.default_rng(seed).permutation(rows).astype(np.uint16)  # drivers number beams as they like
    order = np.arange(len(xyz))
    if way in ("ring", "elevation"):
        order = np.random.default_rng(seed).permutation(order)
    elif way == "ring by beams":
        order = np.roll(order, seed % columns)  # which cuts the last beam in two
    elif way == "ring by firings":
        order = order.reshape(rows, columns).T.ravel()
    ring = numbers[truth][order] if way.startswith("ring") else None
    found = rows_of(Sweep(0, "l", xyz[order], ring=ring, rows=rows if way == "rows" else 0))
    assert found is not None and len(found) == rows
    np.testing.assert_array_equal(found.row, truth[order])
    np.testing.assert_allclose(found.elevation, np.linspace(0.1, -0.3, rows), atol=1e-4)
    assert abs(found.step - 2 * np.pi / columns) < 1e-3
    image = range_image(points_of(xyz[order]), found)
    assert len(image.index) == rows and image.columns == columns
    assert (image.index[:, :columns] >= 0).all(), "each point has a cell of its own"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(64, 900), st.sampled_from([0.0, 0.6]), st.booleans())
def test_cells_hold_their_nearest_points_and_points_lie_in_mid_cell(
    seed: int, columns: int, misses: float, by_beams: bool
) -> None:
    """Cells as plain NumPy finds them; equally near points share some, of which the lowest stands for the rest."""
    rng = np.random.default_rng(seed)
    turn = 2 * np.pi / columns
    xyz, ring = cloud(seed, 4, columns)
    jitter = 1j * rng.uniform(-0.3, 0.3, len(xyz)) * turn
    xyz[:, 0], xyz[:, 1] = (f(np.exp(jitter) * (xyz[:, 0] + 1j * xyz[:, 1])) for f in (np.real, np.imag))
    copies = rng.choice(len(xyz), 100, replace=False)  # as far away, and above or below
    mirrored = xyz[copies] * [1, 1, -1]
    xyz, ring = np.concatenate([xyz, mirrored, 1.5 * xyz[copies]]), np.concatenate([ring, ring[copies], ring[copies]])
    away = rng.uniform(0, 1) * turn  # of the first column from where azimuths begin
    R = np.array([[np.cos(away), -np.sin(away), 0], [np.sin(away), np.cos(away), 0], [0, 0, 1]])
    order = np.argsort(ring, kind="stable") if by_beams else rng.permutation(len(xyz))
    xyz, ring = (xyz @ R.T)[order].astype(np.float32), ring[order]
    xyz[rng.random(len(xyz)) < misses] = np.nan
    points = points_of(xyz)
    rows = Rows(ring.astype(np.uint16), np.linspace(0.1, -0.3, 4).astype(np.float32), turn)
    image = range_image(points, rows, columns)
    measured = points.distance > 0
    assert points.measured == measured.sum() == np.isfinite(xyz[:, 0]).sum()
    column = np.mod(np.rint((np.arctan2(xyz[:, 1], xyz[:, 0])[measured] - away) / turn).astype(int), columns)
    found = image.cell[measured] % image.index.shape[1]
    assert len(set(zip(column.tolist(), found.tolist(), strict=True))) == len(set(column)), "a cell for each column"
    np.testing.assert_array_equal(image.cell[measured] // image.index.shape[1], ring[measured])
    assert (image.cell[~measured] == -1).all()
    expected = np.full(image.index.size, -1)
    for i in sorted(
        np.flatnonzero(measured), key=lambda i: (points.distance[i], *points.axes[[2, 0, 1], i]), reverse=True
    ):
        expected[image.cell[i]] = i
    np.testing.assert_array_equal(image.index.reshape(-1), expected)
    filled = image.index >= 0
    np.testing.assert_array_equal(image.axes[:, filled], points.axes[:, image.index[filled]])
    np.testing.assert_array_equal(image.distance[filled], points.distance[image.index[filled]])
    assert (image.distance[~filled] == 0).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.5, 0.9, 0.97]))
def test_misses_hide_no_heap_of_elevations(seed: int, misses: float) -> None:
    xyz, _ = cloud(seed, 8, 400)
    rng = np.random.default_rng(seed)
    xyz = rng.permutation(xyz)
    alone = rows_by_elevation(points_of(xyz)).copy()
    sent = np.zeros((int(len(xyz) / (1 - misses)), 3), np.float32)
    at = np.sort(rng.choice(len(sent), len(xyz), replace=False))
    sent[at] = xyz
    assert len(np.unique(alone)) == 8
    np.testing.assert_array_equal(rows_by_elevation(points_of(sent))[at], alone)


def test_misses_at_the_sensor_do_not_bend_beams() -> None:
    """nuScenes puts rays without an echo a few centimetres from the sensor; they are no measurements."""
    xyz, truth = cloud(0, 8, 100)
    xyz[::3] = [0.04, 0.0, -0.02]
    found = rows_of(Sweep(0, "l", xyz, ring=truth.astype(np.uint16)))
    assert found is not None
    np.testing.assert_allclose(found.elevation, np.linspace(0.1, -0.3, 8), atol=1e-4)
    assert (points_of(xyz).distance[::3] == 0).all()


def test_no_beams_in_random_directions() -> None:
    assert rows_of(Sweep(0, "l", np.random.default_rng(0).normal(0, 9, (5000, 3)).astype(np.float32))) is None


def sparse(seed: int, beams: int, objects: float) -> tuple[Sweep, Rows, RangeImage, np.ndarray]:
    """A cloud of which a fifth is missing, its range image of 90 columns, and a random share of it as objects."""
    rng = np.random.default_rng(seed)
    xyz, truth = cloud(seed, beams, 90)
    kept = rng.random(len(xyz)) < 0.8
    sweep = Sweep(0, "l", xyz[kept], ring=truth[kept].astype(np.uint16))
    rows = rows_of(sweep)
    assert rows is not None
    return sweep, rows, range_image(points_of(sweep.xyz), rows, 90), rng.random(len(sweep)) < objects


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(2, 60), st.floats(2, 60), st.floats(0, 1), st.floats(0.2, 6), st.integers(1, 3))
def test_components_are_those_of_the_criterion(
    seed: int, beside: float, between: float, near: float, gap: float, reach: int
) -> None:
    """The angle as the paper writes it, and scipy's components."""
    sweep, rows, image, is_object = sparse(seed, beams=6, objects=0.9)
    index = image.index
    things = (index >= 0) & is_object[index]
    angles = float(np.deg2rad(beside)), float(np.deg2rad(between))
    kinds = np.where(things, OBJECT, NONE).astype(np.uint8)
    labels, sizes = components(image.axes, image.distance, kinds, angles, near, gap, reach)
    edges = []
    for r, c in np.argwhere(index >= 0):
        for dr, dc in ((0, 1), (1, 0)):
            for k in range(1, reach + 1):
                if r + k * dr >= len(rows):
                    break
                j = index[r + k * dr, (c + k * dc) % 90]
                if j >= 0:
                    edges.append((index[r, c], j, angles[dr]))
                    break
    joined = []
    for i, j, angle in edges:
        p, q = sweep.xyz[i].astype(float), sweep.xyz[j].astype(float)
        d1, d2 = sorted((np.linalg.norm(p), np.linalg.norm(q)), reverse=True)
        a = np.arccos(np.clip(p @ q / (d1 * d2), -1, 1))
        beta = np.arctan2(d2 * np.sin(a), d1 - d2 * np.cos(a))
        joins = beta > angle or np.linalg.norm(p - q) < near
        if is_object[i] and is_object[j] and d1 - d2 <= gap and joins:
            joined.append((i, j))
    pairs = np.array(joined).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(sweep), len(sweep)))
    expected = connected_components(graph, directed=False)[1]
    assert (labels[~things] == -1).all()
    first = np.unique(labels[things], return_index=True)[1]
    assert labels.max() + 1 == len(sizes) == len(first) and (np.diff(first) > 0).all(), "numbered by their first cells"
    np.testing.assert_array_equal(sizes, np.bincount(labels[things]))
    both = set(zip(labels[things].tolist(), expected[index[things]].tolist(), strict=True))
    assert len(both) == len({a for a, _ in both}) == len({b for _, b in both})


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 1.5), st.floats(0.01, 0.2), st.floats(0, 1), st.integers(0, 5))
def test_fragments_join_the_nearest_larger_component(
    seed: int, gap: float, down: float, hanging: float, few: int
) -> None:
    """As plain loops over all pairs of cells find it; near ones first, then those aslant and farther up and down."""
    _, rows, image, is_object = sparse(seed, beams=7, objects=0.65)
    things = (image.index >= 0) & is_object[image.index]
    kinds = np.where(things, OBJECT, NONE).astype(np.uint8)
    kinds[things & (np.random.default_rng(seed).random(things.shape) < hanging)] = HIGH
    criterion = (image.axes, image.distance, kinds, (0.4, 0.4), 0.1, 1.0, 2)
    plain = components(*criterion)[0].copy()
    sizes = np.bincount(plain[plain >= 0])
    assume(np.sort(sizes)[:-1].max() <= 8)  # of larger ones not every cell is searched from
    joined, sizes_joined = components(*criterion, 1e9, gap, down, few)
    near_ways = [(0, -1), (0, 1), (-1, 0), (1, 0)]
    aslant = [(-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)]
    expected = {}
    for label in range(len(sizes)):
        hangs = (kinds[plain == label] == HIGH).all()
        height, wide = np.ptp(image.axes[2][plain == label]), np.ptp(image.axes[:2, plain == label], axis=1)
        stands, best = False, (np.inf, -1, False)
        for again in range(2):
            found = []
            for r, c in np.argwhere(plain == label):
                limit = gap + 0.01 * image.distance[r, c]
                farther = limit + (1.5 * gap if kinds[r, c] == HIGH or sizes[label] < few else 0)
                deep = min(max(int(farther / down / image.distance[r, c]), 3), 10) if again else 3
                for dr, dc in aslant if again else near_ways:
                    under = again and (dr, dc) == (1, 0) and kinds[r, c] != HIGH
                    window = min(int(0.9 / down / image.distance[r, c]), 16) if under else 0
                    wide_aside = 16 if sizes[label] < few else 8
                    for k in range(1, (max(deep, window) if dr else wide_aside) + 1):
                        i, j = r + dr * k, (c + dc * k) % 90
                        if not 0 <= i < len(rows) or plain[i, j] == label:
                            break
                        step = (image.axes[:, r, c] - image.axes[:, i, j]).astype(float)
                        if plain[i, j] < 0:
                            measured = (dr, dc) == (1, 0) and image.distance[i, j] > 0
                            stands |= bool(measured and np.hypot(step[0], step[1]) < 1 and step[2] < 0.4)
                            continue
                        hides = image.distance[i, j] < image.distance[r, c] - 0.7
                        is_low = kinds[r, c] != HIGH and (dr, dc) == (1, 0)
                        stands |= bool(is_low and hides and np.hypot(*wide) < 0.7)
                        apart = np.linalg.norm(step)
                        if under and apart > limit and step[2] < 0.9 and np.hypot(step[0], step[1]) < 1.5 * step[2]:
                            apart = limit * 0.99**0.5
                        larger = (sizes[plain[i, j]], -plain[i, j]) > (sizes[label], -label)
                        if larger and apart < (farther if kinds[i, j] == HIGH or sizes[label] < few else limit):
                            found.append((apart, plain[i, j], apart < limit))
            best = min([best, *found])
            alone = stands and height > 0.6 and sizes[label] >= few
            joins = np.isfinite(best[0]) and (hangs or best[2] or sizes[label] < few) and not alone
            if alone or joins:
                break
        if joins:
            expected[label] = best[1]
    ends = []
    for label in range(len(sizes)):
        end = label
        while end in expected:
            end = expected[end]
        ends.append(end)
    whole = np.array(ends)[plain[plain >= 0]]
    pairs = set(zip(joined[plain >= 0].tolist(), whole.tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(sizes_joined)
    np.testing.assert_array_equal(sizes_joined, np.bincount(joined[things]))
    first = np.unique(joined[things], return_index=True)[1]
    assert (joined[~things] == -1).all() and (np.diff(first) > 0).all(), "numbered by their first cells"


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([128, 256]))
def test_rows_that_are_made_longer_change_nothing(seed: int, columns: int) -> None:
    """Cells beyond the turn are empty, and components over the seam and fragments are those without them."""
    xyz, truth = cloud(seed, 7, columns)
    rng = np.random.default_rng(seed)
    kept = rng.random(len(xyz)) < 0.9
    sweep = Sweep(0, "l", xyz[kept], ring=truth[kept].astype(np.uint16))
    rows = rows_of(sweep)
    assert rows is not None
    image = range_image(points_of(sweep.xyz), rows, columns)
    assert image.columns == columns < image.index.shape[1]
    assert (image.index[:, columns:] == -1).all() and (image.distance[:, columns:] == 0).all()
    kinds = np.where(image.index >= 0, rng.choice([GROUND, OBJECT, HIGH], image.index.shape), NONE).astype(np.uint8)
    how = ((0.4, 0.4), 0.1, 1.0, 3, 4.0, 2.0, rows.apart(), 5)
    labels, sizes = components(image.axes, image.distance, kinds, *how, columns)
    labels = labels.copy()
    plain = (np.ascontiguousarray(a[..., :columns]) for a in (image.axes, image.distance, kinds))
    expected, as_many = components(*plain, *how)
    np.testing.assert_array_equal(sizes, as_many)
    assert (labels[:, columns:] == -1).all()
    np.testing.assert_array_equal(labels[:, :columns], expected)


def blobs(seed: int, count: int = 400) -> np.ndarray:
    """Points near and far, dense and sparse, some at the same place; float32 (N, 3)."""
    rng = np.random.default_rng(seed)
    xyz = rng.normal(0, 1, (count, 3)) * rng.choice([1, 6, 25], (count, 1))
    return np.concatenate([xyz, xyz[:20]]).astype(np.float32)


def groups(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == k).tolist()) for k in np.unique(labels)}


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.floats(0.05, 3),
    st.sampled_from([0.0, 0.005, 0.02, MOST_RISE]),
    st.sampled_from([90, 600]),
)
def test_points_are_joined_exactly_when_they_are_near(seed: int, distance: float, rise: float, count: int) -> None:
    """All pairs by scipy, which knows no grid and no shells."""
    xyz = blobs(seed, count)
    exact = xyz.astype(np.float64)
    apart, reach = cdist(exact, exact), np.linalg.norm(exact, axis=1)
    limit = distance + rise * np.maximum(reach[:, None], reach[None])
    assume(np.abs(apart - limit).min() > 1e-5)
    expected = connected_components(coo_matrix(apart <= limit), directed=False)[1]
    found = components_by_distance(xyz, distance, rise)
    assert groups(found) == groups(expected)
    assert (np.diff(np.unique(found, return_index=True)[1]) > 0).all(), "numbered by their first points"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_components_are_the_same_after_any_rigid_motion(seed: int, rises: bool) -> None:
    """With distances that grow with range: after any turn about the sensor."""
    xyz, rise = blobs(seed, 600).astype(np.float64), 0.02 if rises else 0.0
    apart, reach = cdist(xyz, xyz), np.linalg.norm(xyz, axis=1)
    assume(np.abs(apart - (0.8 + rise * np.maximum(reach[:, None], reach[None]))).min() > 1e-4)
    R = Rotation.random(random_state=seed % 2**32).as_matrix()
    shift = 0 if rises else np.random.default_rng(seed).uniform(-50, 50, 3)
    one, two = (components_by_distance(x.astype(np.float32), 0.8, rise) for x in (xyz, xyz @ R.T + shift))
    assert groups(one) == groups(two)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 500))
def test_distinct_points_are_those_of_numpy(seed: int, count: int) -> None:
    xyz = np.random.default_rng(seed).integers(-2, 3, (count, 3)).astype(np.float32)
    first, copy_of = distinct(xyz)
    assert len(first) == len(np.unique(xyz, axis=0)) and (np.diff(first) > 0).all()
    np.testing.assert_array_equal(xyz[first][copy_of], xyz)
    assert (first[copy_of] <= np.arange(count)).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 0.9), st.integers(1, 40) | st.sampled_from([1024, 1030]))
def test_flat_cells_are_those_of_any_pair_at_a_small_angle(seed: int, empty: float, columns: int) -> None:
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 12))
    axes = (rng.normal(0, 1, (3, rows, columns)) * [[[9]], [[9]], [[1]]]).astype(np.float32)
    distance = np.sqrt((axes**2).sum(axis=0))
    distance[rng.random(distance.shape) < empty] = 0
    axes[:, distance == 0] = np.nan  # anything
    square, expected = np.float32(0.04), np.zeros((rows, columns), bool)
    for c in range(columns):
        measured = np.flatnonzero(distance[:, c])
        for r, b in pairwise(measured):
            (x, y, z), (u, v, w) = axes[:, r, c], axes[:, b, c]
            outwards = (x - u) * x + (y - v) * y > 0
            if b - r <= 4 and outwards and (z - w) ** 2 < square * ((x - u) ** 2 + (y - v) ** 2):
                expected[r, c] = expected[b, c] = True
    flat = np.ones((rows, columns), bool)
    flat_cells(axes, distance, square, flat)
    np.testing.assert_array_equal(flat, expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 600))
def test_flat_points_are_those_of_thin_layers(seed: int, count: int) -> None:
    """As sorting each half cell says it."""
    rng = np.random.default_rng(seed)
    edges, sectors, slope = np.array([0.0, 1.0, 2.0, 4.0]), 4, 0.2
    planar = rng.uniform(0, 5, count).astype(np.float32)
    sector = rng.integers(0, sectors, count)
    z = (rng.choice([-1.8, -1.5, 0.3, 0.7], count) + rng.normal(0, 0.08, count)).astype(np.float32)
    b = np.searchsorted(edges, planar, side="right") - 1
    place = np.where(b < 3, b * sectors + sector, -1).astype(np.int32)
    expected = np.zeros(count, bool)
    for cell in np.unique(place[place >= 0]):
        low, high = edges[cell // sectors], edges[cell // sectors + 1]
        for outer in (False, True):
            mine = np.flatnonzero((place == cell) & ((planar > (low + high) / 2) == outer))
            if not len(mine):
                continue
            mine = mine[np.argsort(z[mine], kind="stable")]
            length = (high - low) / 2
            middle = low + (0.5 + outer) * length
            thin = 0.12 + slope * min(np.hypot(length, middle * 2 * np.pi / sectors), 3.0)
            for layer in np.split(mine, np.flatnonzero(np.diff(z[mine]) >= 0.15 + 0.01 * middle) + 1):
                expected[layer] = z[layer].max() - z[layer].min() <= thin
    found = flat_points(z, planar, place, sectors, edges, slope)
    np.testing.assert_array_equal(np.sort(found), np.flatnonzero(expected))
    shuffled = rng.permutation(count)
    again = flat_points(z[shuffled], planar[shuffled], place[shuffled], sectors, edges, slope)
    np.testing.assert_array_equal(z[shuffled][again], z[found], "and so in any order")


@pytest.mark.parametrize("base", [-1.7, -0.1, 0.0, 90.0])
def test_layers_are_parted_the_same_in_any_order(base: float) -> None:
    """Two points of one centimetre, one nearer to the lowest than layers are apart (15.75 cm), one farther."""
    z = (np.array([0, 0.156, 0.159, 0.18]) + base).astype(np.float32)
    planar, place, edges = np.full(4, 0.6, np.float32), np.zeros(4, np.int32), np.array([0.0, 1.0])
    found = {
        tuple(np.sort(z[list(order)][flat_points(z[list(order)], planar, place, 64, edges, 0.02)]))
        for order in permutations(range(4))
    }
    assert len(found) == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(-11, 11), st.floats(0, 2 * np.pi))
def test_the_plane_of_a_tilted_street(seed: int, tilt: float, way: float) -> None:
    """Among kerbs, cars' roofs and gaps; a level street, or one that is nearly, is left to itself."""
    rng = np.random.default_rng(seed)
    others, level = rng.choice([0.2, 0.4]), -1.8 + rng.choice([0.0, 0.5])  # what is highest may be most frequent
    edges = np.arange(0.0, 41.0)
    angle, middle = (np.arange(180) + 0.5) * np.pi / 90, edges[:-1, None] + 0.5
    slope = np.tan(np.deg2rad(tilt))
    truth = slope * (np.cos(angle - way) * middle) - 1.8
    low = truth + rng.normal(0, 0.02, truth.shape)
    low[rng.random(low.shape) < others] += rng.uniform(0.15, 1.5)
    low[rng.random(low.shape) < 0.4] = np.inf
    found = street_plane(low, edges, level, float(np.tan(np.deg2rad(12))))
    if abs(tilt) < 1.5:
        assert found is None
    elif abs(tilt) > 2.5:
        assert found is not None and np.abs(found - truth)[:20].max() < 0.15
    nothing = np.full_like(low, np.inf)
    assert street_plane(nothing, edges, np.nan, 0.2) is None


@pytest.mark.parametrize("begins", [-4.0, 2.0, 6.0])
def test_a_hill_is_no_tilt(begins: float) -> None:
    """The street begins to rise a little before the vehicle, or behind it: of its cells, many are level."""
    edges = np.arange(0.0, 41.0)
    angle, middle = (np.arange(180) + 0.5) * np.pi / 90, edges[:-1, None] + 0.5
    x = np.cos(angle) * middle
    low = -1.8 + 0.12 * np.maximum(x - begins, 0)
    assert street_plane(low, edges, -1.8, 0.2) is None


def terrain(begins: float, degrees: float) -> Points:
    """A street that rises from `begins` on."""
    rng = np.random.default_rng(0)
    reach, way = np.sqrt(rng.uniform(4, 3600, 40_000)), rng.uniform(0, 2 * np.pi, 40_000)
    x, y = reach * np.cos(way), reach * np.sin(way)
    rise = np.maximum(x - begins, 0) - max(-begins, 0)  # none under the sensor
    z = -1.8 + np.tan(np.deg2rad(degrees)) * rise + rng.normal(0, 0.01, 40_000)
    return points_of(np.stack([x, y, z], axis=1).astype(np.float32))


@pytest.mark.parametrize("begins", [-60.0, -8.0, -5.0, -2.0, 2.0, 6.0])
@pytest.mark.parametrize("degrees", [0.0, 3.0, 8.0])
def test_streets_are_ground_wherever_they_rise(begins: float, degrees: float) -> None:
    kind = ground_of_points(terrain(begins, degrees), np.deg2rad(9), 0.2)
    assert np.mean(kind == GROUND) > 0.96


def test_a_cell_may_hold_millions_of_points() -> None:
    """As a LiDAR without beams that looks at one place gives them: means of heights are sums of integers."""
    rng, count = np.random.default_rng(0), 3_000_000
    spots, heights = np.full(count, 2 * 5 + 2, np.int32), rng.uniform(-1.7, -1.55, count).astype(np.float32)
    low = np.full((4, 3), np.inf)
    low[1, 2] = heights.min()
    accepted, height = np.isfinite(low), np.where(np.isfinite(low), low, 0.0)
    refine(Seeds(np.zeros(0, np.bool_), spots, heights, low, np.nan), accepted, height)
    assert height[1, 2] == pytest.approx(heights.mean(dtype=np.float64), abs=2e-6)


def test_a_plane_that_the_street_does_not_follow_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(low: np.ndarray, edges: np.ndarray, *_: float) -> np.ndarray:
        angle = (np.arange(low.shape[1]) + 0.5) * 2 * np.pi / low.shape[1]
        return -1.8 + 0.1 * np.cos(angle) * (0.5 * (edges[1:] + edges[:-1]))[:, None]

    monkeypatch.setattr("dseg_core.lidar.ground.street_plane", other)
    assert np.mean(ground_of_points(terrain(0.0, 0.0), np.deg2rad(9), 0.2) == GROUND) > 0.98
    monkeypatch.setattr("dseg_core.lidar.ground.street_plane", lambda *_: None)
    assert np.mean(ground_of_points(terrain(-60.0, 8.0), np.deg2rad(4), 0.2) == GROUND) < 0.9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.01, MOST_RISE]), st.sampled_from([0.97, 1.03]))
def test_pairs_at_the_limit(seed: int, rise: float, factor: float) -> None:
    """Many pairs of points, a little nearer or a little farther apart than the limit, anywhere in their cells."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(-60, 61, 12.0)] * 3), axis=-1).reshape(-1, 3)
    place, way = grid + rng.uniform(-3, 3, grid.shape), rng.choice([-1.0, 1.0], grid.shape)  # cells' diagonals
    limit = (0.3 + rise * np.linalg.norm(place, axis=1)) * factor / (1 + rise)  # r grows by at most the distance
    other = place + way / np.linalg.norm(way, axis=1, keepdims=True) * limit[:, None]
    reach = np.maximum(np.linalg.norm(place, axis=1), np.linalg.norm(other, axis=1))
    joined = np.linalg.norm(other - place, axis=1) <= 0.3 + rise * reach
    labels = components_by_distance(np.concatenate([place, other]).astype(np.float32), 0.3, rise)
    np.testing.assert_array_equal(labels[: len(grid)] == labels[len(grid) :], joined)
