"""`dseg score-proposals` on a simulated drive, and truth of every kind from bags."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dseg_core.bag import BagReader, BagWriter
from dseg_core.cli import main
from dseg_core.errors import DsegError
from dseg_core.evaluation.proposal_scores import score_points
from dseg_core.evaluation.proposal_tally import ProposalTally
from dseg_core.evaluation.proposal_truth import Truth
from dseg_core.evaluation.sweep_truth import sweep_truth
from dseg_core.messages import columns_from_cloud, header, message, stamp_ns, transforms_to_message
from dseg_core.simulation.materials import CAR, TRUTH_CLASSES
from dseg_core.simulation.simulate import simulate
from dseg_core.stage_options import SimulateOptions
from dseg_core.store import FrameStore

SMALL = SimulateOptions(seed=5, sweeps=2, width=160, height=80, samples=1, beams=32, columns=900, hard=True)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A simulated bag, and frames recorded from it."""
    folder = tmp_path_factory.mktemp("drive")
    simulate(folder / "bag", SMALL)
    assert main(["record", str(folder / "bag"), "--out", str(folder / "frames")]) == 0
    return folder / "bag", folder / "frames"


def marker(stamp: int, frame_id: str, center: list[float], yaw: float, name: str) -> object:
    vector, point = "geometry_msgs/msg/Vector3", "geometry_msgs/msg/Point"
    x, y, z = center
    turned = message("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=float(np.sin(yaw / 2)), w=float(np.cos(yaw / 2)))
    pose = message("geometry_msgs/msg/Pose", position=message(point, x=x, y=y, z=z), orientation=turned)
    color = message("std_msgs/msg/ColorRGBA", r=0.0, g=0.0, b=0.0, a=1.0)
    time = message("builtin_interfaces/msg/Duration", sec=0, nanosec=0)
    known = {"type": 1, "action": 0, "ns": "box", "id": 0, "text": name, "pose": pose, "color": color}
    sizes = message(vector, x=4.0, y=1.8, z=1.5)
    unused = {"lifetime": time, "frame_locked": False, "points": [], "colors": [], "mesh_resource": ""}
    unused |= {"texture_resource": "", "uv_coordinates": [], "mesh_use_embedded_materials": False}
    kind = "visualization_msgs/msg/Marker"
    from dseg_core.messages.common import typestore

    fields = set(typestore().types[kind].__dataclass_fields__)
    if "texture" in fields:
        image = message("sensor_msgs/msg/CompressedImage", header=header(0, ""), format="", data=np.zeros(0, np.uint8))
        unused["texture"] = image
    if "mesh_file" in fields:
        unused["mesh_file"] = message("visualization_msgs/msg/MeshFile", filename="", data=np.zeros(0, np.uint8))
    values = {"header": header(stamp, frame_id), "scale": sizes, **known, **unused}
    return message(kind, **{k: v for k, v in values.items() if k in fields})


def test_truth_is_the_bags_own(drive: tuple[Path, Path]) -> None:
    """Ids of points and of pixels, exactly; the image's 16 bits are no grey values."""
    bag, _ = drive
    truth = sweep_truth(bag)
    assert truth.classes == TRUTH_CLASSES
    with BagReader(bag) as reader:
        clouds = list(reader.messages(["/truth/lidar/points"]))
        images = list(reader.messages(["/truth/camera_front/instance"]))
    for found in clouds:
        semantic, instance = truth.points[stamp_ns(found.data)]
        np.testing.assert_array_equal(semantic.unpack(), columns_from_cloud(found.data)["semantic"])
        np.testing.assert_array_equal(instance.unpack(), columns_from_cloud(found.data)["instance"])
    assert len(clouds) == 2 and len(images) == 2
    for found in images:
        _, instance = truth.images["camera_front", stamp_ns(found.data)]
        expected = np.frombuffer(bytes(found.data.data), "<u2").reshape(80, 160)
        np.testing.assert_array_equal(instance.unpack(), expected)


def test_scores_are_those_of_the_frames(drive: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    bag, frames = drive
    assert main(["score-proposals", str(frames), "--cases", "3"]) == 0
    told = capsys.readouterr().out
    assert "objects found (IoU 0.5)" in told and "ground at kerbs" in told
    truth, tally = sweep_truth(bag), ProposalTally()
    for frame in FrameStore(frames).frames():
        semantic, instance = (ids.unpack() for ids in truth.points[frame.stamp_ns])
        tally.add(score_points(frame.sweep.xyz, frame.proposals, Truth(semantic, instance, TRUTH_CLASSES)))
    written = json.loads((frames / "proposal_scores" / "summary.json").read_text())["results"]
    assert written["frames"] == 2
    for name, value in tally.summary().items():
        assert written["points"]["scores"][name] == pytest.approx(value, nan_ok=True)
    assert tally.summary()["ground recall"] > 0.97 and tally.summary()["recall"] > 0.6
    assert 0 < written["pixels"]["scores"]["recall"] <= 1
    page = (frames / "proposal_scores" / "report.html").read_text()
    assert page.count("<figure") == 3 and "Worst cases" in page
    assert main(["check", str(frames)]) == 0, "the scores' folder is no stranger among frames"


def test_boxes_of_another_frame(drive: tuple[Path, Path], tmp_path: Path) -> None:
    """A box on a car, askew so that it cuts it, given where base_link is, scores as its points do by a plain count."""
    bag, frames = drive
    store, truth = FrameStore(frames), sweep_truth(bag)
    key = store.frame_keys[0]
    frame = store.frame(*key)
    semantic, instance = (ids.unpack() for ids in truth.points[key[1]])
    cars, counts = np.unique(instance[semantic == CAR], return_counts=True)
    middle = frame.sweep.xyz[instance == cars[counts.argmax()]].mean(axis=0).astype(float)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]], (1.0, 2.0, 3.0)  # T_base_lidar
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/tf_static", transforms_to_message([(key[1], "base_link", "lidar", T)]), key[1])
        center = (T @ np.append(middle, 1.0))[:3].tolist()
        boxes = [
            marker(key[1], "base_link", center, 0.9 + np.pi / 2, "car"),
            marker(key[1], "base_link", center, 0, ""),
        ]
        boxes[1].type = 2  # a sphere is no annotation
        writer.write("/boxes", message("visualization_msgs/msg/MarkerArray", markers=boxes), key[1])
    found = sweep_truth(tmp_path / "bag", "/boxes")
    (box,) = found.boxes_at(key[1], "lidar")
    np.testing.assert_allclose(box.center, middle, atol=1e-6)
    assert box.name == "car" and box.yaw == pytest.approx(0.9) and box.size == (4.0, 1.8, 1.5)
    (tmp_path / "bag").rename(tmp_path / key[0]) if key[0] != "bag" else None
    assert main(["score-proposals", str(frames), "--truth", str(tmp_path / key[0]), "--boxes", "/boxes"]) == 0
    results = json.loads((frames / "proposal_scores" / "summary.json").read_text())["results"]
    forward, left = np.array([np.cos(0.9), np.sin(0.9), 0]), np.array([-np.sin(0.9), np.cos(0.9), 0])
    away = frame.sweep.xyz - middle
    aside = (np.abs(away @ forward) <= 2.0) & (np.abs(away @ left) <= 0.9)
    foot = aside & (np.abs(away[:, 2] + 0.675) <= 0.075)  # the lowest 15 cm count neither way
    inside = aside & (np.abs(away[:, 2]) <= 0.75) & ~foot
    found = [frame.proposals == k for k in np.unique(frame.proposals[inside]) if k > 1]
    best = max((np.sum(mine & inside) / np.sum((mine & ~foot) | inside) for mine in found), default=0.0)
    assert 0.1 < best < 1 and inside.sum() > 50
    assert results["boxes"]["scores"]["iou"] == pytest.approx(best)
    assert results["boxes"]["scores"]["recall"] == (best >= 0.5) and results["boxes"]["rows"][0]["class"] == "car"
    assert results["notes"] == ["1 sweep without boxes left out"]


def test_without_truth(drive: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag, frames = drive
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/tf_static", transforms_to_message([(1, "base_link", "lidar", np.eye(4))]), 1)
    with pytest.raises(DsegError, match="no truth of its points"):
        sweep_truth(tmp_path / "bag")
    with pytest.raises(DsegError, match="MarkerArray on /boxes"):
        sweep_truth(bag, "/boxes")
    assert main(["score-proposals", str(frames), "--truth", str(tmp_path / "bag")]) == 1
    assert "no truth" in capsys.readouterr().err


def test_nothing_to_score_and_classes_that_are_not_there(
    drive: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    frames = drive[1]
    assert main(["score-proposals", str(frames), "--smallest", "100000000"]) == 1
    told = capsys.readouterr()
    assert "Traceback" not in told.err and "no annotated object has 100000000 points" in told.err
    assert main(["score-proposals", str(frames), "--ground-classes", "roadd,road"]) == 0
    assert "the truth has no class 'roadd', only " in capsys.readouterr().out
