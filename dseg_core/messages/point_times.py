"""When each point of a cloud was measured, whatever unit and clock the driver writes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LONGEST_NS = 2**31 - 1
"""Points lie at most so far from their sweep's stamp: frames store their times as int32 nanoseconds."""

_UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
# How long a sweep may last. No number fits two units: 0.001 to 2.1 s, 5 to 300 ms and so on do not overlap.
_LASTING_NS, _LASTING_IN_OTHER_UNITS_NS = (1_000_000, 2 * LONGEST_NS), (5_000_000, 300_000_000)
_LARGEST = 1e20  # more than any time in any unit
_FINEST_NS = 1_000_000  # steps between times that are still of use


def times_from_column(column: NDArray[Any], stamp_ns: int) -> tuple[NDArray[np.int64] | None, str]:
    """Times of points relative to their sweep's stamp, from a column of any unit, relative or absolute.

    Drivers name neither unit nor clock, so both are told from magnitude. Relative floats are seconds and relative
    integers are nanoseconds where the sweep then lasts 1 ms to 2.1 s; else whichever of s, ms, us and ns makes it last
    5 to 300 ms, which at most one does. Absolute times are those that lie within 2.1 s of the stamp in one of these
    units. Where both readings are possible (the clock of a simulation that has just begun), the one nearer to the
    stamp counts. Times are dropped where they are all the same, not finite, too coarse (float32 holds seconds since
    1970 in steps of 128 s), of another clock than the stamp, or of a unit that nobody can tell.

    Args:
        column: (N,), as recorded, of measured points.
        stamp_ns: Header stamp.

    Returns:
        int64 (N,), nanoseconds after the stamp, at most `LONGEST_NS` from it, or None; and what people should know:
        why they are None, or that the unit is not the usual one; empty otherwise.
    """
    if not len(column):
        return None, ""
    low, high = column.min().item(), column.max().item()
    if not max(abs(low), abs(high)) < _LARGEST:
        return None, "point times are not finite or no times at all: not used"
    usual = "ns" if isinstance(low, int) else "s"
    step = 1.0 if usual == "ns" else float(np.spacing(column.dtype.type(max(abs(low), abs(high)))))
    found = []  # distance from the stamp, absolute or not, unit
    for unit, size in _UNITS.items():
        if low == high or step * size > _FINEST_NS:
            continue  # says nothing
        for start in (0, stamp_ns):
            first, last = _since(low, size, start), _since(high, size, start)
            if start:
                least, most = 0, 2 * LONGEST_NS
            else:
                least, most = _LASTING_NS if unit == usual else _LASTING_IN_OTHER_UNITS_NS
            if max(-first, last) <= LONGEST_NS and least <= last - first <= most:
                found.append((max(first, -last, 0), bool(start), unit))
    if not found:
        return None, _why_none(low, high, step, stamp_ns)
    _, absolute, unit = min(found)
    note = "" if unit == usual or absolute else f"point times are read as {unit} since the stamp"
    return _relative(column, _UNITS[unit], stamp_ns if absolute else 0), note


def _since(value: float, size: int, start_ns: int) -> int:
    """A time in units of `size` ns, as ns after `start_ns`. Exact for integers, and for floats as far as they are."""
    if isinstance(value, int):
        return value * size - start_ns
    whole = start_ns // size
    return round((value - whole) * size) - start_ns % size


def _relative(column: NDArray[Any], size: int, start_ns: int) -> NDArray[np.int64]:
    """`_since` for all of a column whose ends are known to fit."""
    whole, rest = divmod(start_ns, size)
    if np.issubdtype(column.dtype, np.integer):
        return np.asarray((column.astype(np.int64) - whole) * size - rest)
    return np.asarray(np.rint((column.astype(np.float64) - whole) * size).astype(np.int64) - rest)


def _why_none(low: float, high: float, step: float, stamp_ns: int) -> str:
    for size in _UNITS.values():
        seconds, away = step * size / 1e9, (low * size - stamp_ns) / 1e9
        if step * size > _FINEST_NS and abs(away) < seconds + 2:
            return f"point times come in steps of {seconds:g} s: too coarse, not used"
        # Nearer to the stamp than to zero: a clock, if another one.
        lasting = (high - low) * size
        if 0 < lasting <= 2 * LONGEST_NS and low * size > 0.5 * stamp_ns and high * size < 2 * stamp_ns:
            return f"point times are {away:+.1f} s from the header stamp, by another clock: not used"
    if low == high:
        return "all points have the same time: not used"
    return f"point times from {low:g} to {high:g} are of no known unit or clock: not used"
