"""Fragments of objects, joined to what they are part of: mirrors, roofs over windows, clumps of leaves [ours]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.lidar.kind_from_field import HIGH

_ASIDE, _ABOVE, _HIGHEST = 8, 3, 10  # cells that are searched to both sides; up and down, at first and again
_ALL, _FEW = 16, 3  # cells that are searched from, of larger fragments every so many; the fewest that search again
_RISE = np.float32(0.01)  # of the largest gap with range: beams spread
_FARTHER = np.float32(1.5)  # times the gap more for what is higher over the ground than people are: clumps of leaves
_WINDOW, _LOWEST = np.float32(0.9), 16  # metres, and cells, from a roof down to what bears it
_SLANT, _ALMOST = np.float32(2.25), np.float32(0.99)  # squares: of how far aside that is; of what counts as the gap
_FEET, _TALL = np.float32(0.4), np.float32(0.6)  # metres
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


@compiled
def join_fragments(
    axes: NDArray[np.float32],
    distance: NDArray[np.float32],
    kinds: NDArray[np.uint8],
    labels: NDArray[np.int32],
    chains: tuple[NDArray[np.int32], NDArray[np.int32]],
    root: NDArray[np.int32],
    sizes: NDArray[np.int32],
    most: np.float32,
    gap: np.float32,
    down: np.float32,
    few: int,
    around: int,
) -> None:
    """Give each small component to the nearest larger one beside it, unless it stands on the ground by itself.

    What stands on the ground and is tall is a thing of its own, a post or a person, however near to others. What hangs
    over people's heads may be farther from what hangs there, too. Looked at are the cells to both sides, above and
    below; where they are no larger component's, also those aslant, and up and down as far as the gap reaches: windows
    are higher than beams are apart. What is steeply below, no farther than windows are high, bears a roof.

    Args:
        axes: float32 (3, R, C), x, y and z of each cell's point, metres, z up.
        distance: float32 (R, C), metres, 0 where a cell is empty.
        kinds: uint8 (R, C), of the ground's kinds: HIGH tells what hangs.
        labels: int32 (R, C), -1 where there is no object.
        chains: The cells of each label, so that large ones need not be looked through: int32 (L,) its last cell, and
            int32 (R * C,) the cell of the same label before each, -1 before the first; row * C + column.
        root: int32 (L,), the component that each label is part of, one of its labels; is changed.
        sizes: int32 (L,), cells of each component, at its root.
        most: Largest area of a small component as it is seen, square metres.
        gap: Largest distance to the other one, metres, and 1 % of the range more.
        down: Angle between beams, radians.
        few: Smaller components are nothing by themselves, so that they may be farther, and stand on the ground.
        around: Columns of a turn; those beyond are empty.
    """
    count, columns, cells = len(root), axes.shape[2], distance.size
    last, before = chains
    below = _ONE / down
    largest = most * below * np.float32(around / (2 * np.pi))  # of cells times square of range
    to, nearest = np.full(count, -1, np.int32), np.full(count, np.inf, np.float32)
    low, high = np.full(count, np.inf, np.float32), np.full(count, -np.inf, np.float32)
    stands, hangs, close = np.zeros(count, np.bool_), np.ones(count, np.bool_), np.zeros(count, np.bool_)
    done, joins = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    xs, ys, zs = axes[0].reshape(-1), axes[1].reshape(-1), axes[2].reshape(-1)
    found, reach, kind = labels.reshape(-1), distance.reshape(-1), kinds.reshape(-1)
    for again in range(2):
        for label in range(count):
            own = root[label]
            size, away = sizes[own], reach[last[own]]
            looked = np.float32(size) * away * away <= largest and not (again and (done[own] or size < _FEW))
            cell = np.int64(last[label]) if looked else -1
            best, other, on_ground, hanging = nearest[own], to[own], stands[own], hangs[own]  # of the component
            bottom, top, is_close = low[own], high[own], close[own]
            skipped = every = size // _ALL
            while cell >= 0:
                skipped += 1
                if skipped <= every:
                    cell = np.int64(before[cell])
                    continue
                skipped = 0
                x, y, z = xs[cell], ys[cell], zs[cell]
                bottom, top = min(bottom, z), max(top, z)
                is_high = kind[cell] == HIGH
                hanging &= is_high
                near = gap + _RISE * reach[cell]
                limit = near + (_FARTHER * gap if is_high or size < few else _ZERO)
                near *= near
                deep = min(max(int(limit * below / reach[cell]), _ABOVE), _HIGHEST) if again else _ABOVE
                limit = min(limit * limit, best)
                c = cell % columns
                window = 0 if is_high else min(int(_WINDOW * below / reach[cell]), _LOWEST)
                for way in range(2 * again, 4 + 4 * again):  # to both sides, up and down, aslant
                    turn = (-1 if way % 2 == 0 else 1) if way != 2 and way != 3 else 0
                    step = turn + (0 if way < 2 else columns if way == 3 or way > 5 else -columns)
                    seam = c + 1 if turn < 0 else around - c if turn > 0 else 0  # steps to the far side of the image
                    under = again and way == 3 and not is_high
                    far = _ASIDE if way < 2 else max(deep, window) if under else deep
                    k = cell
                    for steps in range(1, far + 1):
                        k += step
                        if steps == seam:
                            k -= turn * around
                        if k < 0 or k >= cells:
                            break
                        if found[k] < 0:
                            if way == 3 and not on_ground and reach[k] > 0:
                                dx, dy = x - xs[k], y - ys[k]
                                on_ground = dx * dx + dy * dy < _ONE and z - zs[k] < _FEET
                            continue
                        neighbour = root[found[k]]
                        if neighbour == own:
                            break  # that cell searches on
                        dx, dy, dz = x - xs[k], y - ys[k], z - zs[k]
                        apart = dx * dx + dy * dy + dz * dz
                        if under and apart > near and dz < _WINDOW and dx * dx + dy * dy < _SLANT * dz * dz:
                            apart = near * _ALMOST
                        nearer = apart < limit or (apart == best and neighbour < other)
                        if not nearer or not (apart < near or size < few or kind[k] == HIGH):
                            continue
                        if sizes[neighbour] > size or (sizes[neighbour] == size and neighbour < own):
                            best, other, limit, is_close = apart, neighbour, apart, apart < near
                cell = np.int64(before[cell])
            nearest[own], to[own], stands[own], hangs[own] = best, other, on_ground, hanging
            low[own], high[own], close[own] = bottom, top, is_close
        for k in range(count):
            alone = sizes[k] >= few and stands[k] and high[k] - low[k] > _TALL
            done[k] = alone or (to[k] >= 0 and (hangs[k] or close[k] or sizes[k] < few))
            joins[k] = done[k] and not alone
    for k in range(count):
        if joins[k]:
            root[k] = to[k]
    for k in range(count):  # each leads to a larger one, so there are no circles
        end = root[k]
        while root[end] != end:
            end = root[end]
        root[k] = end
