"""`dseg inspect`: what a bag holds, and what recording it would give, told before it is recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.bag import check_source
from dseg_core.errors import DsegError, system_error
from dseg_core.frames_from_regions import Made
from dseg_core.inspection import problems as reasons
from dseg_core.inspection.calibration_check import CalibrationCheck
from dseg_core.inspection.picture import picture
from dseg_core.inspection.problems import Problem
from dseg_core.inspection.rehearsal import DryMaker, Rehearsal
from dseg_core.inspection.report import report_text
from dseg_core.inspection.sensor_facts import sensor_facts
from dseg_core.inspection.sweep_facts import SweepFacts, motion
from dseg_core.inspection.topic_stats import WatchedReader
from dseg_core.kinds_of_reasons import KindsOfReasons
from dseg_core.pairs_from_messages import ReadPair
from dseg_core.progress import Summary, check_writable, progress, write_whole
from dseg_core.sensors_from_bag import survey
from dseg_core.shares_from_frames import MOST_IN_BOX, told_of_box, told_of_shares
from dseg_core.stage_options import InspectOptions, RecordOptions
from dseg_core.transforms import TransformError, inverse, pose_from_matrix

_LOOKS = 12  # sweeps that are looked at where the calibration is not checked


def inspect(bag: Path, options: InspectOptions) -> Summary:
    """Report on a bag: topics, sensors, pairing, overlap, motion, calibration, disk; write a picture.

    The account of pairing is the one that `dseg record` gives with the same options.

    Returns:
        The report, or with `options.json` one JSON object, as text. Problems: why `record` could not work.

    Raises:
        DsegError: It is no bag, or a folder of frames.
    """
    check_source(bag)
    if options.out is not None:
        check_writable(options.out)
    with WatchedReader(bag) as reader:
        found, problems = _inspected(reader, options)
    found["problems"] = [{"what": p.what, "fix": p.fix} for p in problems]
    text = json.dumps(found, indent=2) if options.json else report_text(found)
    return Summary(text, found, tuple(map(str, problems)))


def _inspected(reader: WatchedReader, options: InspectOptions) -> tuple[dict[str, Any], list[Problem]]:
    record = options.of_record()
    assumed, notes, wrong = survey(reader, record.topics)
    problems = [Problem.of(error) for error in wrong]
    messages = sum(topic.count for topic in reader.topics)
    found: dict[str, Any] = {
        "bag": str(reader.path),
        "start_ns": reader.start_ns if messages else 0,
        "seconds": round((reader.end_ns - reader.start_ns) / 1e9, 3) if messages else 0.0,
        "messages": messages,
        "sensors": {"lidar": None, "cameras": [], "notes": list(notes)},
        **dict.fromkeys(("account", "lidar", "motion", "calibration", "picture", "disk")),
        "overlap": {},
        "warnings": [],
    }
    facts, check = SweepFacts(), CalibrationCheck(options.check)
    rehearsal = None
    if assumed is not None:
        try:
            # A choice that the user must make is made as if, so that what else is wrong comes out as well.
            rehearsal = _rehearsal(
                reader, replace(record, topics=assumed) if problems else record, options, facts, check
            )
        except DsegError as error:
            problems.append(Problem.of(error))
    reader.watching = True
    if rehearsal is not None:
        try:
            found["account"] = rehearsal.run()
        except DsegError as error:
            problems.append(Problem.of(error))
    if not reader.times:
        for _ in progress(reader.messages(), f"inspect {reader.name}", found["messages"], "msg"):
            pass
    reader.watching = False
    found["topics"] = _topics(reader)
    if rehearsal is not None and found["account"] is not None:
        problems += _recorded(found, rehearsal, facts, reader, record)
        found["calibration"] = check.judge() or None
        if options.check.frames and found["account"]["frames"] and not found["calibration"]:
            found["warnings"].append("the calibration cannot be checked: the sweeps show no beams")
        for name, verdict in (found["calibration"] or {}).items():
            if verdict["verdict"] == "wrong":
                verdict["mounting"] = _mounting(rehearsal, name, check.found[name].correction)
                found["warnings"].append(f"{name}: its calibration looks wrong; see CALIBRATION")
        if found["calibration"]:
            try:
                found["picture"] = str(_draw(check, found, reader, options))
            except OSError as error:  # such as a data disk that is only read: all else can still be told
                why = system_error(error)
                found["warnings"].append(f"no picture: {why.where}: {why.what}. Name another folder with --out")
    if found["account"] and "in_box" in found["account"]:
        in_box = found["account"]["in_box"]
        where = found["warnings"] if in_box > MOST_IN_BOX else found["sensors"]["notes"]
        where.append(told_of_box(in_box))
    # Complete now: what record would note of sweeps, what is damaged, and topics of unknown types.
    kinds = KindsOfReasons()  # of every sweep its own, as with numbers in them
    found["sensors"]["notes"] += [*dict.fromkeys(map(kinds.told, facts.notes)), *reader.notes]
    return found, problems


def _rehearsal(
    reader: WatchedReader, record: RecordOptions, options: InspectOptions, facts: SweepFacts, check: CalibrationCheck
) -> Rehearsal:
    def look(maker: DryMaker, pair: ReadPair, made: Made) -> None:
        facts.add(pair, made)
        if options.check.frames:
            check.add(maker, pair.sweep, pair.images, made)

    return Rehearsal(reader, record, options.check.frames or _LOOKS, look)


def _recorded(
    found: dict[str, Any], rehearsal: Rehearsal, facts: SweepFacts, reader: WatchedReader, record: RecordOptions
) -> list[Problem]:
    """Add what the rehearsal tells; what is wrong with it."""
    account, sensors = found["account"], rehearsal.sensors
    frame = rehearsal.lidar_frame
    found["sensors"] |= sensor_facts(sensors, frame, rehearsal.image_frames, record.topics, reader.topics)
    found["lidar"], found["overlap"] = facts.lidar(), facts.overlap()
    shares = rehearsal.shares()
    if found["lidar"]:
        found["lidar"]["method"] = record.proposals.method
        found["lidar"] |= {name: shares[name] for name in ("ground", "objects") if name in shares}
    found["motion"] = motion(sensors.tree, frame, rehearsal.stamps) if frame else None
    weight = account.pop("bytes_per_frame")
    if weight is not None:
        total, drive = weight * account["frames"], account["drive_seconds"]
        hour = round(total * 3600 / drive) if drive > 0 else 0
        found["disk"] = {"bytes_per_frame": weight, "bytes": total, "bytes_per_hour": hour}
    shifts = {name: times.shift_ns() for name, times in reader.times.items()}
    base, constants = shifts.get(sensors.lidar), record.pairing.known_offsets_ns([c.name for c in sensors.cameras])
    apart = {
        c.name: shift - base - constants[c.name]
        for c in sensors.cameras
        if (shift := shifts.get(c.topic)) is not None and base is not None
    }
    disconnected = {**_unconnected(rehearsal, reader), **rehearsal.maker.disconnected}
    problems = [Problem(f"{camera}: {error.what}", error.fix) for camera, error in disconnected.items()]
    problems += reasons.of_account(account, rehearsal.nearest_ns, apart, record.pairing)
    blind, warnings = reasons.of_overlap(found["overlap"])
    found["warnings"] = [*warnings, *told_of_shares({**account, **shares})]
    found["warnings"] += reasons.warnings(account, rehearsal.nearest_ns, apart, record.pairing)
    return problems + blind


def _unconnected(rehearsal: Rehearsal, reader: WatchedReader) -> dict[str, TransformError]:
    """Cameras that no transform connects with the LiDAR, whether or not any of their images was paired."""
    tree, lidar = rehearsal.sensors.tree, reader.times[rehearsal.sensors.lidar].frame_id
    found = {}
    for camera in rehearsal.sensors.cameras:
        optical = reader.times[camera.topic].frame_id
        if tree.root(optical) != tree.root(lidar):
            try:
                tree.lookup(optical, lidar, 0)
            except TransformError as error:
                found[camera.name] = error
    return found


def _mounting(rehearsal: Rehearsal, camera: str, correction: NDArray[np.float64]) -> dict[str, Any]:
    """The camera in the LiDAR's frame as it would score best, in the form that a calibration YAML has."""
    lidar, optical = rehearsal.lidar_frame, rehearsal.image_frames[camera]
    turn = np.eye(4)
    turn[:3, :3] = cv2.Rodrigues(correction[:3])[0]
    T_camera_lidar = turn @ rehearsal.sensors.tree.lookup(optical, lidar, rehearsal.stamps[0])
    translation, quaternion = pose_from_matrix(inverse(T_camera_lidar))
    rounded = {"translation": np.round(translation, 4).tolist(), "quaternion": np.round(quaternion, 5).tolist()}
    return {"parent": lidar, "child": optical, **rounded}


def _draw(check: CalibrationCheck, found: Mapping[str, Any], reader: WatchedReader, options: InspectOptions) -> Path:
    corrections = {name: result.correction for name, result in check.found.items()}
    drawn = picture(check.examples, found["calibration"], corrections)
    path = (options.out or Path()) / f"inspect-{reader.name}.png"
    write_whole(path, cv2.imencode(".png", drawn[..., ::-1])[1].tobytes())
    return path


def _topics(reader: WatchedReader) -> list[dict[str, Any]]:
    rows = []
    for topic in reader.topics:
        times = reader.times.get(topic.name)
        row: dict[str, Any] = {"name": topic.name, "type": topic.type, "messages": topic.count}
        empty = {"rate_hz": None, "longest_gap_s": None, "gaps": 0, "by": None, "stamps": None, "delay_ms": None}
        rows.append(row | (empty if times is None else times.to_dict()))
    return rows
