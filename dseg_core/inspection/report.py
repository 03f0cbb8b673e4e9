"""The report on the terminal: 80 columns, no colour."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from dseg_core.inspection.calibration_check import MEANING
from dseg_core.ledger import listed_reasons
from dseg_core.measured_share import NOT_MEASURED
from dseg_core.sensors_from_bag import LIDAR
from dseg_core.words import count

_WIDTH = 79
_BLOCKS = " ▏▎▍▌▋▊▉█"
_BARS = 40
_MOST_BINS = 15


def report_text(found: Mapping[str, Any]) -> str:
    """All sections of an inspection, as `inspect` collects them."""
    parts = [_head(found), _topics(found["topics"]), _sensors(found)]
    if found["account"]:
        parts += [_pairing(found["account"])]
    parts += [_lidar(found["lidar"]), _overlap(found["overlap"]), _motion(found["motion"])]
    parts += [_calibration(found["calibration"], found["picture"]), _disk(found["disk"])]
    parts += [_listed("WARNINGS", found["warnings"])]
    if found["problems"]:
        parts += [f"RECORD CANNOT WORK, for {len(found['problems'])} reason(s):"]
    return "\n\n".join(part for part in parts if part)


def histogram(rows: Sequence[Sequence[float]], unit: str) -> list[str]:
    """A signed histogram of [lower edge, count] in bins of 1, as lines; bins are joined until they are few."""
    if not rows:
        return []
    counts = {int(edge): int(count) for edge, count in rows}
    low, high = min(counts), max(counts)
    size = next(
        s * 10**e for e in range(10) for s in (1, 2, 5) if high // (s * 10**e) - low // (s * 10**e) < _MOST_BINS
    )
    joined: dict[int, int] = dict.fromkeys(range(low // size, high // size + 1), 0)
    for edge, number in counts.items():
        joined[edge // size] += number
    most = max(joined.values())
    lines = []
    for number, height in joined.items():
        eighths = max(round(8 * _BARS * height / most), int(height > 0))
        bar = "█" * (eighths // 8) + (_BLOCKS[eighths % 8] if eighths % 8 else "")
        lines.append(f"  {number * size:+6d}..{(number + 1) * size:+d} {unit}".ljust(22) + f"{bar} {height}".rstrip())
    return lines


def _head(found: Mapping[str, Any]) -> str:
    start = datetime.fromtimestamp(found["start_ns"] / 1e9, timezone.utc)
    messages = count(found["messages"], "message")
    return f"{found['bag']}\n{found['seconds']:.1f} s from {start:%Y-%m-%d %H:%M:%S} UTC, {messages}"


def _topics(topics: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"{'TOPICS':<28} messages      Hz   longest gap  stamps  delay ms"]
    for topic in topics:
        rate = "-" if topic["rate_hz"] is None else f"{topic['rate_hz']:.2f}"
        gap = "-" if topic["longest_gap_s"] is None else f"{topic['longest_gap_s']:.3f} s"
        gap += f" x{topic['gaps']}" if topic["gaps"] else ""
        delay = topic["delay_ms"]
        late = "-" if delay is None else f"{_short(delay['median'])} ({_short(delay['min'])}..{_short(delay['max'])})"
        row = f"{topic['messages']:>8} {rate:>7}  {gap:>12}  {_stamps(topic['stamps']):<6}  {late}"
        name = f"  {topic['name']} {topic['type'].rpartition('/')[2]}"
        lines.append(f"{name:<28} {row}" if len(name) <= 28 else f"{name}\n{'':28} {row}")
    return "\n".join(line.rstrip() for line in lines)


def _stamps(order: Mapping[str, int] | None) -> str:
    if order is None:
        return "none"
    words = {"zero": "zero", "backwards": "back", "duplicates": "twice"}
    bad = [f"{order[name]} {word}" for name, word in words.items() if order[name]]
    return ", ".join(bad) or "ok"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) < 1e5 else f"{value:.1e}"


def _sensors(found: Mapping[str, Any]) -> str:
    lines = ["WHAT RECORD USES" if not found["problems"] else "WHAT RECORD WOULD USE"]
    sensors = found["sensors"]
    if sensors["lidar"]:
        lines.append(f"  LiDAR   {sensors['lidar']['topic']} [{sensors['lidar']['frame']}]: {sensors['lidar']['why']}")
    for other in sensors.get("other_lidars", ()):
        lines.append(f"  LiDAR   {other['topic']} -> {other['name']}: chosen by --topics.other-lidars")
    for camera in sensors["cameras"]:
        lines.append(f"  camera  {camera['topic']} -> {camera['name']} [{camera['frame']}]")
        lines.append(f"          {camera['size'][0]}x{camera['size'][1]}, {camera['model']}: {camera['why']}")
        if camera["position"]:
            x, y, z = camera["position"]
            lines.append(f"          at {x:+.2f} {y:+.2f} {z:+.2f} m from the LiDAR, {camera['looks']}")
    lines += _wrapped(sensors["notes"], "  note    ")
    return "\n".join(lines) if len(lines) > 1 else ""


def _pairing(account: Mapping[str, Any]) -> str:
    lines = [f"PAIRING: {count(account['frames'], 'frame')} with {count(account['views'], 'view')}"]
    for sensor, row in account["sensors"].items():
        surplus = f", {row['surplus']} surplus" if row["surplus"] else ""
        lines.append(f"  {sensor}: {count(row['messages'], 'message')}, {row['paired']} paired{surplus}")
        listed, others, more = listed_reasons(row["dropped"])
        lines += [f"    {number} dropped: {reason}" for reason, number in listed.items()]
        lines += [f"    {others} dropped: {count(more, 'more reason')}"] * (more > 0)
    for camera, spread in account["offsets_ms"].items():
        reused = account["reused"].get(camera, 0)
        what = "image minus sweep" if camera in account["cameras"] else f"its sweep minus that of {LIDAR}"
        lines.append(
            f"  {camera}: {what}, median {spread['median']:+.1f} ms, 5 to 95 %: {spread['p5']:+.1f} to "
            f"{spread['p95']:+.1f}" + (f", {reused} with one that an earlier sweep had" if reused else "")
        )
        lines += histogram(spread["histogram"], "ms")
    return "\n".join(lines)


def _lidar(lidar: Mapping[str, Any] | None) -> str:
    if lidar is None:
        return ""
    lines = [f"LIDAR: {count(lidar['points'], 'point')} a sweep"]
    for name, share in lidar["not_measured"].items():
        whose = "" if name == LIDAR else f"{name}: "
        lines.append(f"  {whose}{100 * share:.1f} % of the points not measured" + f" ({NOT_MEASURED})" * (share > 0))
    if lidar["rows"]:
        low, high = lidar["elevation_deg"]
        lines.append(f"  {lidar['rows']} beams, from {lidar['rows_from']}")
        lines.append(f"  they look from {low:+g} to {high:+g} deg, a point every {lidar['step_deg']:g} deg")
        lines.append(f"  {'two returns a pulse' if lidar['returns'] == 2 else 'one return a pulse'}")
    else:
        by_distance = lidar.get("method", "auto") in ("auto", "euclidean")
        lines.append("  no beams" + ": objects are found by distance" * by_distance)
    if "ground" in lidar:
        ground, objects = 100 * lidar["ground"], 100 * lidar["objects"]
        lines.append(f"  {ground:.0f} % of the points would be ground, {objects:.0f} % of objects")
    times = lidar["times_ms"]
    lines.append(f"  times of points: {f'{times[0]:g} to {times[1]:g} ms after the stamp' if times else 'none'}")
    lines.append(f"  intensity: {'yes' if lidar['intensity'] else 'none'}")
    return "\n".join(lines)


def _overlap(overlap: Mapping[str, Mapping[str, float]]) -> str:
    lines = ["FIELD OF VIEW"]
    for camera, share in overlap.items():
        points, image = 100 * share["points_in_image"], 100 * share["image_with_points"]
        lines.append(f"  {camera}: {points:.0f} % of the points in its image, {image:.0f} % of the image has points")
    return "\n".join(lines) if len(lines) > 1 else ""


def _motion(motion: Mapping[str, Any] | None) -> str:
    if motion is None:
        return ""
    if not motion["odometry"]:
        return "MOTION: no odometry; points are not moved to the images' times"
    if "way_m" not in motion:
        return f"MOTION: odometry in {motion['odometry']}, but at no two sweeps' times"
    speed, turn = motion["speed_m_s"], motion["turn_deg_s"]
    return (
        f"MOTION: odometry in {motion['odometry']} for {100 * motion['share_of_sweeps']:.0f} % of the sweeps\n"
        f"  {motion['way_m']:g} m, {speed['median']:g} m/s (up to {speed['max']:g}), turning {turn['median']:g} deg/s "
        f"(up to {turn['max']:g}), standing {100 * motion['standing']:.0f} %"
    )


def _calibration(calibration: Mapping[str, Any] | None, picture: str | None) -> str:
    if not calibration:
        return ""
    lines = ["CALIBRATION: depth edges of the sweeps against edges of the images"]
    for camera, found in calibration.items():
        verdict = {"right": "looks right", "wrong": "LOOKS WRONG", "cannot tell": "cannot tell"}[found["verdict"]]
        scores = f"score {found['score']:g}" + (f", {found['best_score']:g} at best" if not found["why"] else "")
        lines.append(
            f"  {camera}: {verdict}; {scores} ({count(found['frames'], 'frame')}, {count(found['edges'], 'edge')})"
        )
        if found["why"]:
            lines += _wrapped([found["why"]], "    ")
            continue
        turns = zip(("x", "y", "z"), found["rotation_deg"], found["rotation_deviation_deg"], strict=True)
        words = ", ".join(f"{axis} {turn:+.2f} ± {deviation:.2f}" for axis, turn, deviation in turns)
        lines.append(f"    best turned by {words} deg")
        if found["offset_ms"] is not None:
            late = f"{found['offset_ms']:+.1f} ± {found['offset_deviation_ms']:.1f} ms"
            lines.append(f"    stamps late by {late}")
            if found["points_without_times"]:
                lines.append("    points have no times: up to half a sweep of that, 50 ms at 10 Hz, may be theirs")
        else:
            lines += _wrapped([f"offset in time not observable: {found['offset_not_observable']}"], "    ")
        if found["turned"]:
            mounting = found["mounting"]
            lines.append(f"    {mounting['child']} in {mounting['parent']}, if the turn were mended:")
            lines.append(f"      translation: {mounting['translation']}")
            lines.append(f"      quaternion: {mounting['quaternion']}")
    lines += _wrapped([MEANING, "Turns are about the camera's x (right), y (down) and z (forward)"], "  ")
    lines += ["  Look at the picture, points by depth, depth edges white:", f"  {picture}"] if picture else []
    return "\n".join(lines)


def _disk(disk: Mapping[str, Any] | None) -> str:
    if disk is None:
        return ""
    frame, hour, bag = disk["bytes_per_frame"], disk["bytes_per_hour"], disk["bytes"]
    return f"DISK: {_bytes(frame)} a frame, {_bytes(bag)} for this bag, {_bytes(hour)} an hour"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _listed(title: str, rows: Sequence[str]) -> str:
    return "\n".join([f"{title}", *_wrapped(rows, "  - ")]) if rows else ""


def _wrapped(rows: Sequence[str], start: str) -> list[str]:
    return [
        line
        for row in rows
        for line in textwrap.wrap(
            row, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_long_words=False,
            break_on_hyphens=False,
        )
    ]  # fmt: skip
