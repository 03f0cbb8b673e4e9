"""Fragments of objects, joined to what they are part of: mirrors, roofs over windows, clumps of leaves [ours]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.fragment_memory import Found, Image, forget
from dseg_core.lidar.kind_from_field import HIGH
from dseg_core.lidar.runs import Runs
from dseg_core.lidar.slivers import join_slivers

_ABOVE, _HIGHEST = 3, 10  # cells that are searched up and down, at first and again
_BLOCK, _BLOCKS = 8, 2
"""Cells in a row that are looked at together, to both sides; and how many such blocks by components that are nothing by
themselves: wheels of one bicycle are a metre apart."""
_BITS = 32
_THINNED = 8  # cells of components all of which are searched from again
_ALL = 16  # cells that are searched from, of larger fragments every so many
_RISE = np.float32(0.01)  # of the largest gap with range: beams spread
_FARTHER = np.float32(1.5)  # times the gap more for what is higher over the ground than people are: clumps of leaves
_LOWEST = 16  # cells from a roof down to what bears it
_SLANT, _ALMOST = np.float32(2.25), np.float32(0.99)  # squares: of how far aside that is; of what counts as the gap
_WINDOW, _FEET, _TALL = np.array([0.9, 0.4, 0.6], np.float32)  # metres: from a roof down to that; of what stands
_WIDE, _HIDES = np.float32(0.49), np.float32(0.7)  # square of a person's width; steps in range that hide feet, metres
_UP, _DOWN, _ZERO, _ONE = 0, 1, np.float32(0.0), np.float32(1.0)  # of the ways to search; of floats


@compiled_within
def _choose(
    image: Image,
    runs: Runs,
    root: NDArray[np.int32],
    sizes: NDArray[np.int32],
    largest: np.float32,
    found: Found,
    chosen: NDArray[np.int32],
) -> int:
    """List the cells of small components that are searched from, and return how many; find out how high these are."""
    first, length, before, newest = runs
    xs, ys, zs, reach, kind, _ = image
    low, high, hangs, box = found.low, found.high, found.hangs, found.box
    count = 0
    for label, own in enumerate(root):
        size, last = sizes[own], newest[own]
        away = reach[first[last] + length[last] - 1]
        if np.float32(size) * away * away > largest:
            continue
        bottom, top, hanging = low[own], high[own], hangs[own]
        west, east, south, north = box[0, own], box[1, own], box[2, own], box[3, own]
        every, skipped, run = size // _ALL + 1, 0, newest[label]
        while run >= 0:
            start, cell = first[run], first[run] + length[run] - 1 - skipped
            while cell >= start:
                chosen[count] = cell
                count += 1
                bottom, top = min(bottom, zs[cell]), max(top, zs[cell])
                hanging &= kind[cell] == HIGH
                west, east = min(west, xs[cell]), max(east, xs[cell])
                south, north = min(south, ys[cell]), max(north, ys[cell])
                cell -= every
            skipped = start - 1 - cell
            run = before[run]
        low[own], high[own], hangs[own] = bottom, top, hanging
        box[0, own], box[1, own], box[2, own], box[3, own] = west, east, south, north
    return count


@compiled_within
def _keep(
    cells: NDArray[np.int32], image: Image, root: NDArray[np.int32], sizes: NDArray[np.int32], found: Found
) -> int:
    """Move cells of components that are not done to the front, of those of some size every other one; how many."""
    labels, done, count = image.label, found.done, 0
    for n in range(len(cells)):
        cell = cells[n]
        own = root[labels[cell]]
        cells[np.uint64(count)] = cell  # and the next one over it if it is not kept: no branch
        count += (not done[own]) & ((n % 2 == 0) | (sizes[own] <= _THINNED))
    return count


@compiled_within
def _rank(root: NDArray[np.int32], sizes: NDArray[np.int32]) -> NDArray[np.int64]:
    """Of each label + 1: larger for larger components, and of two as large for the smaller root; -1 for no label."""
    ranks = np.empty(len(root) + 1, np.int64)
    ranks[0] = -1
    for label, own in enumerate(root):
        ranks[label + 1] = (np.int64(sizes[own]) << _BITS) - own
    return ranks


@compiled_within
def _any_near(
    image: Image,
    start: np.int64,
    point: tuple[np.float32, np.float32, np.float32],
    ranks: NDArray[np.int64],
    rank: np.int64,
    low: np.float32,
    high: np.float32,
) -> bool:
    """Whether a larger component's cell is near among _BLOCK in a row from `start` on: with vector instructions.

    `low` and `high`: squares of the largest distance, the second of cells that are HIGH.
    """
    xs, ys, zs, _, kind, labels = image
    x, y, z = point
    found = np.int32(0)
    for m in range(_BLOCK):
        n = np.uint64(start + m)
        dx, dy, dz = x - xs[n], y - ys[n], z - zs[n]
        near = dx * dx + dy * dy + dz * dz <= (high if kind[n] == HIGH else low)
        found = np.int32(found + np.int32(near & (ranks[np.uint32(labels[n] + np.int32(1))] > rank)))
    return bool(found > 0)


@compiled_within
def _look(
    image: Image,
    chosen: NDArray[np.int32],
    root: NDArray[np.int32],
    sizes: NDArray[np.int32],
    found: Found,
    gap: np.float32,
    below: np.float32,
    few: int,
    turn: tuple[int, int],
    again: bool,
    ranks: NDArray[np.int64],
) -> None:
    """Look for what components may be part of, from the chosen cells. `turn`: its columns, and those of the image."""
    xs, ys, zs, reach, kind, labels = image
    around, columns = turn
    to, nearest, close, low, high, stands, _, _, _, box, _, _, _, sides = found
    for cell in chosen:
        own = root[np.uint32(labels[cell])]
        size, rank = sizes[own], ranks[own + 1]
        if size >= few and stands[own] and high[own] - low[own] > _TALL and not sides[own]:
            continue  # joins nothing
        x, y, z, is_high = xs[cell], ys[cell], zs[cell], kind[cell] == HIGH
        near = gap + _RISE * reach[cell]
        limit = near + (_FARTHER * gap if is_high or size < few else _ZERO)
        deep = window = _ABOVE
        if again:
            deep = min(max(int(limit * below / reach[cell]), _ABOVE), _HIGHEST)
            window = deep if is_high else max(min(int(_WINDOW * below / reach[cell]), _LOWEST), deep)
        near *= near
        wide, broad = box[1, own] - box[0, own], box[3, own] - box[2, own]
        may_stand = not is_high and wide * wide + broad * broad < _WIDE
        best, to_own, on_ground, is_close = nearest[own], to[own], stands[own], close[own]
        limit = min(limit * limit, best)
        least = limit if size < few else near  # of what is no higher than people
        c = np.int64(np.uint32(cell) % np.uint32(columns))
        for side in range(0 if again else 2):
            aside = 2 * side - 1
            beside = np.uint64(cell + (aside if 0 <= c + aside < around else -aside * (around - 1)))
            if ranks[np.uint32(labels[beside] + np.int32(1))] == rank:
                continue  # that cell searches on
            for block in range(_BLOCKS if size < few else 1):
                first = c + block * _BLOCK + 1 if side else c - (block + 1) * _BLOCK  # column
                inside = (first >= 0) & (first + _BLOCK <= around)
                start = np.int64(cell) - c + first
                if inside and not _any_near(image, start, (x, y, z), ranks, rank, min(least, limit), limit):
                    continue
                for m in range(_BLOCK):
                    column = first + m
                    column += around if column < 0 else -around if column >= around else 0
                    n = np.uint64(np.int64(cell) - c + column)
                    if ranks[np.uint32(labels[n] + np.int32(1))] <= rank:
                        continue
                    other = root[np.uint32(labels[n])]
                    dx, dy, dz = x - xs[n], y - ys[n], z - zs[n]
                    apart = dx * dx + dy * dy + dz * dz
                    nearer = apart < limit or (apart == best and other < to_own)
                    if nearer and (apart < near or size < few or kind[n] == HIGH):
                        best, limit, to_own, is_close = apart, apart, other, apart < near
        for way in range(6 if again else 2):
            step, aside = _way(way, columns)
            under = again and way == _DOWN and not is_high
            far = window if way == _DOWN else deep
            seam = c + 1 if aside < 0 else around - c if aside > 0 else 0
            k = np.int64(cell)
            for steps in range(1, far + 1):
                k += step
                if steps == seam:  # to the far side of the image
                    k -= aside * around
                if k < 0 or k >= len(labels):
                    break
                n = np.uint64(k)
                if labels[n] < 0:
                    if way == _DOWN and not on_ground and reach[n] > 0:
                        dx, dy = x - xs[n], y - ys[n]
                        on_ground = dx * dx + dy * dy < _ONE and z - zs[n] < _FEET
                    continue
                other = root[np.uint32(labels[n])]
                if other == own:
                    break  # that cell searches on
                on_ground |= way == _DOWN and may_stand and reach[n] < reach[cell] - _HIDES  # hides its feet
                dx, dy, dz = x - xs[n], y - ys[n], z - zs[n]
                flat = dx * dx + dy * dy
                apart = flat + dz * dz
                if under and apart > near and dz < _WINDOW and flat < _SLANT * dz * dz:
                    apart = near * _ALMOST
                nearer = apart < limit or (apart == best and other < to_own)
                if not nearer or not (apart < near or size < few or kind[n] == HIGH):
                    continue
                if ranks[np.uint32(other + 1)] > rank:
                    best, limit, to_own, is_close = apart, apart, other, apart < near
        nearest[own], to[own], stands[own], close[own] = best, to_own, on_ground, is_close


@compiled_within
def _way(way: int, columns: int) -> tuple[int, int]:
    """From cell to cell, and how much of it is aside: up and down, aslant."""
    aside = 0 if way in (_UP, _DOWN) else -1 if way % 2 == 0 else 1
    return aside + (columns if way == _DOWN or way > 3 else -columns), aside


@compiled_within
def _decide(found: Found, sizes: NDArray[np.int32], few: int) -> None:
    """Which components join another one, and which need not be looked at again."""
    to, _, close, low, high, stands, hangs, done, joins, _, _, _, _, sides = found
    for k in range(len(sizes)):
        alone = sizes[k] >= few and stands[k] and high[k] - low[k] > _TALL and not sides[k]
        done[k] = alone or (to[k] >= 0 and (hangs[k] or close[k] or sizes[k] < few))
        joins[k] = done[k] and not alone


@compiled_within
def _lead(root: NDArray[np.int32], sizes: NDArray[np.int32], found: Found) -> None:
    """Let those that join lead to the end of their way: each leads to a larger one, so there are no circles."""
    to, joins = found.to, found.joins
    for k in range(len(root)):
        if joins[k]:
            root[k] = to[k]
    for k in range(len(root)):
        end = root[k]
        while root[end] != end:
            end = root[end]
        root[k] = end
        if joins[k]:
            sizes[end] += sizes[k]


@compiled
def join_fragments(
    axes: NDArray[np.float32],
    distance: NDArray[np.float32],
    kinds: NDArray[np.uint8],
    labels: NDArray[np.int32],
    runs: Runs,
    root: NDArray[np.int32],
    sizes: NDArray[np.int32],
    most: np.float32,
    gap: np.float32,
    down: np.float32,
    few: int,
    around: int,
    found: Found,
    chosen: NDArray[np.int32],
) -> None:
    """Give each small component to the nearest larger one beside it, unless it stands on the ground by itself.

    What stands on the ground and is tall is a thing of its own, a post or a person, however near to others; so is
    what is no wider than people are, when something nearer hides what is below it. First, slivers become what they
    are pieces of, see `join_slivers`. What hangs over people's heads may be farther from what hangs there, too.
    Looked at are the cells to both sides, above and below; where they are no larger component's, also those aslant,
    and up and down as far as the gap reaches: windows are higher than beams are apart. What is steeply below, no
    farther than windows are high, bears a roof.

    Args:
        axes: float32 (3, R, C), x, y and z of each cell's point, metres, z up.
        distance: float32 (R, C), metres, 0 where a cell is empty.
        kinds: uint8 (R, C), of the ground's kinds: HIGH tells what hangs.
        labels: int32 (R, C), -1 where there is no object.
        runs: The cells of each label.
        root: int32 (L,), the component that each label is part of, one of its labels; is changed.
        sizes: int32 (L,), cells of each component, at its root; is changed, too.
        most: Largest area of a small component as it is seen, square metres.
        gap: Largest distance to the other one, metres, and 1 % of the range more.
        down: Angle between beams, radians.
        few: Smaller components are nothing by themselves, so that they may be farther, and stand on the ground.
        around: Columns of a turn; those beyond are empty.
        found: For L components, working memory.
        chosen: int32 (R * C,), working memory.
    """
    flat, columns, below = axes.reshape(3, -1), axes.shape[2], _ONE / down
    forget(found)
    image = Image(flat[0], flat[1], flat[2], distance.reshape(-1), kinds.reshape(-1), labels.reshape(-1))
    largest = most * below * np.float32(around / (2 * np.pi))  # of cells times square of range
    join_slivers(image.reach, image.kind, image.label, runs, root, sizes, largest, columns, around, found)
    cells = chosen[: _choose(image, runs, root, sizes, largest, found, chosen)]
    ranks = _rank(root, sizes)
    for again in (False, True):
        _look(image, cells, root, sizes, found, gap, below, few, (around, columns), again, ranks)
        _decide(found, sizes, few)
        cells = cells[: _keep(cells, image, root, sizes, found)]
    _lead(root, sizes, found)
