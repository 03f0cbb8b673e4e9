"""Which cells of a range image are joined with those before them: loops over a row, done with vector instructions.

Such loops have no branches and write to one array each; those that look at more than eight others are not vectorised.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled_within
from dseg_core.lidar.kind_from_field import OBJECT

WIDEST = 2**14 + 64
"""Columns that rows may have. Of what is kept for each column, one thing lies so far behind another in one array: that
is known when it is compiled, so that a loop that changes all of them needs not ask whether they overlap."""

_Y, _Z, _FAR = WIDEST, 2 * WIDEST, 3 * WIDEST
_ZERO = np.float32(0.0)


@compiled_within
def is_joined(
    x: np.float32,
    y: np.float32,
    z: np.float32,
    distance: np.float32,
    u: np.float32,
    v: np.float32,
    w: np.float32,
    other: np.float32,
    square: np.float32,
    near: np.float32,
    gap: np.float32,
) -> bool:
    """Whether two points, at x, y, z and u, v, w, are near, or beta is large enough, see `components`.

    With the line d from the near to the far point f: cos beta = d.f / (|d| |f|), and beta > angle when
    |d|^2 |f|^2 > (1 + tan(angle)^2) (d.f)^2, which needs no root.

    `square` is 1 + tan(angle)^2, `near` the square of the distance at which points are joined at any angle, `gap` the
    largest depth step.
    """
    dx, dy, dz = x - u, y - v, z - w
    apart = dx * dx + dy * dy + dz * dz
    is_nearer = distance < other
    outer, inner = dx * x + dy * y + dz * z, -dx * u - dy * v - dz * w
    along, far = inner if is_nearer else outer, other if is_nearer else distance
    seen = (apart < near) | (along <= _ZERO) | (apart * far * far > square * along * along)
    return bool(seen & (abs(distance - other) <= gap))


@compiled_within
def link(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    z: NDArray[np.float32],
    distance: NDArray[np.float32],
    u: NDArray[np.float32],
    v: NDArray[np.float32],
    w: NDArray[np.float32],
    other: NDArray[np.float32],
    square: np.float32,
    near: np.float32,
    gap: np.float32,
    joined: NDArray[np.bool_],
) -> None:
    """`is_joined` for many pairs; any where one is not measured."""
    for c in range(len(joined)):
        joined[c] = is_joined(x[c], y[c], z[c], distance[c], u[c], v[c], w[c], other[c], square, near, gap)


@compiled_within
def link_up(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    z: NDArray[np.float32],
    distance: NDArray[np.float32],
    kept: NDArray[np.float32],
    square: np.float32,
    near: np.float32,
    gap: np.float32,
    joined: NDArray[np.bool_],
) -> None:
    """`link` with the points that are `kept`."""
    for c in range(len(joined)):
        u, v, w, other = kept[c], kept[c + _Y], kept[c + _Z], kept[c + _FAR]
        joined[c] = is_joined(x[c], y[c], z[c], distance[c], u, v, w, other, square, near, gap)


@compiled_within
def mark_objects(kinds: NDArray[np.uint8], things: NDArray[np.bool_]) -> None:
    """Cells of objects, high or not."""
    for c in range(len(things)):
        things[c] = kinds[c] >= np.uint8(OBJECT)


@compiled_within
def keep_links(
    things: NDArray[np.bool_],
    label_above: NDArray[np.int32],
    row_above: NDArray[np.int32],
    first: np.int32,
    upwards: NDArray[np.bool_],
) -> None:
    """Leave those `upwards` links that are between objects' cells; the upper one not above the `first` row."""
    for c in range(len(upwards)):
        upwards[c] &= things[c] & (label_above[c] >= 0) & (row_above[c] >= first)


@compiled_within
def keep_beside(things: NDArray[np.bool_], beside: NDArray[np.bool_]) -> None:
    """Leave those links to the cell to the left that are between objects' cells."""
    for c in range(1, len(beside)):
        beside[c] &= things[c - 1] & things[c]


@compiled_within
def mark_changes(
    things: NDArray[np.bool_],
    beside: NDArray[np.bool_],
    upwards: NDArray[np.bool_],
    label_above: NDArray[np.int32],
    marks: NDArray[np.bool_],
) -> None:
    """Cells of which the label may not be that of the cell before, and those behind the last of an object's."""
    marks[0] = True
    for c in range(1, len(marks)):
        same = upwards[c - 1] & (label_above[c - 1] == label_above[c])
        begins = things[c] & (~beside[c] | (upwards[c] & ~same))
        marks[c] = begins | (things[c - 1] & ~things[c])


@compiled_within
def list_marks(marks: NDArray[np.bool_], chosen: NDArray[np.int32]) -> int:
    """The marked cells, with the row's end behind them, and how many they are.

    Each cell is written, and the next one over it if it is not marked: a branch would often be guessed wrong.
    """
    count = 0
    for c in range(len(marks)):
        chosen[np.uint64(count)] = c
        count += marks[c]
    chosen[np.uint64(count)] = len(marks)
    return count


@compiled_within
def keep_points(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    z: NDArray[np.float32],
    distance: NDArray[np.float32],
    kept: NDArray[np.float32],
) -> None:
    """What was measured replaces what is kept: of one array, in places that are known not to overlap."""
    for c in range(len(x)):
        is_new = distance[c] > _ZERO
        u, v, w, far = kept[c], kept[c + _Y], kept[c + _Z], kept[c + _FAR]  # all are read, else there were branches
        new_u, new_v, new_w, new_far = x[c], y[c], z[c], distance[c]
        kept[c] = new_u if is_new else u
        kept[c + _Y] = new_v if is_new else v
        kept[c + _Z] = new_w if is_new else w
        kept[c + _FAR] = new_far if is_new else far


@compiled_within
def keep_labels(
    distance: NDArray[np.float32], label: NDArray[np.int32], row: np.int32, kept: NDArray[np.int32]
) -> None:
    """The same for labels, and the number of the row, `WIDEST` behind them."""
    for c in range(len(distance)):
        is_new = distance[c] > _ZERO
        before, last, new = kept[c], kept[c + WIDEST], label[c]
        kept[c] = new if is_new else before
        kept[c + WIDEST] = row if is_new else last
