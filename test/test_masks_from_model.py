"""Segmenting folders, videos and bags."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import bags
import cv2
import models
import numpy as np
import pytest
from engines import write_model
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader

from dseg_core import masks_from_model
from dseg_core import messages as ros
from dseg_core.bag import BagReader, BagWriter
from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.images_from_source import open_source
from dseg_core.masks_from_model import segment
from dseg_core.overlay import OverlayVideo, legend, paint
from dseg_core.runtime.predictor import Predictor, open_model
from dseg_core.stage_options import SegmentOptions


@pytest.fixture(scope="module")
def model(tiny_run: Path) -> Path:
    return tiny_run / "model.onnx"


def options(out: Path, **more: object) -> SegmentOptions:
    return SegmentOptions(out=out, threads=1, **more)  # type: ignore[arg-type]


def mask_at(path: Path) -> NDArray[np.uint8]:
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert mask.dtype == np.uint8 and mask.ndim == 2
    return mask


def video_frames(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


def write_pictures(folder: Path, count: int = 3) -> None:
    folder.mkdir()
    for i in range(count):
        name = f"{i}.png" if i else "0.JPG"
        cv2.imwrite(str(folder / name), models.picture(i)[..., ::-1])
    (folder / "notes.txt").write_text("not an image")


def test_folder(model: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "trip")
    summary = segment(model, tmp_path / "trip", options(tmp_path / "out"))
    out = tmp_path / "out"
    assert sorted(p.name for p in (out / "masks" / "trip").iterdir()) == ["0.png", "1.png", "2.png"]
    predictor = open_model(model, threads=1)
    for i in (1, 2):
        np.testing.assert_array_equal(mask_at(out / f"masks/trip/{i}.png"), predictor.predict(models.picture(i)).mask)
    assert ClassTable.read(out / "classes.yaml") == predictor.classes
    shown = video_frames(out / "overlay.mp4")
    strip = len(legend(predictor.classes, models.WIDTH))
    height = models.HEIGHT + strip
    assert len(shown) == 3 and shown[0].shape == (height + height % 2, models.WIDTH + models.WIDTH % 2, 3)
    assert not (out / "masks_bag").exists()
    assert summary.results["images"] == {"trip": 3} and sum(summary.results["shares"].values()) == pytest.approx(1)
    assert not [p for p in out.rglob("*") if "tmp" in p.name]


def test_video(model: Path, tmp_path: Path) -> None:
    """Its own overlay is a video too: as many masks as it has frames, named by their number, at its rate."""
    with OverlayVideo(tmp_path / "drive.mp4", Fraction(25), ClassTable.of_clusters(5), 0.0) as video:
        for i in range(4):
            video.write(models.picture(i), np.zeros((models.HEIGHT, models.WIDTH), np.uint8))
    segment(model, tmp_path / "drive.mp4", options(tmp_path / "out"))
    found = sorted(p.name for p in (tmp_path / "out" / "masks" / "drive").iterdir())
    assert found == ["000000.png", "000001.png", "000002.png", "000003.png"]
    source = video_frames(tmp_path / "drive.mp4")
    expected = open_model(model, threads=1).predict(source[2]).mask
    np.testing.assert_array_equal(mask_at(tmp_path / "out" / "masks" / "drive" / "000002.png"), expected)
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as container:
        assert container.streams.video[0].average_rate == 25 and container.streams.video[0].frames == 4


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_bag(model: Path, tmp_path: Path, storage: str) -> None:
    """Masks have stamp, frame and log time of their images; truth is not segmented; calibration fits the mask."""
    truth = ros.image_to_message(bags.START_NS, "camera_optical", np.zeros((48, 64), np.uint8))
    bag = bags.write_bag(tmp_path / "drive", storage=storage, more=[("/truth/x/image_raw", truth, bags.START_NS)])
    segment(model, bag, options(tmp_path / "out"))
    stamps = [bags.START_NS + t * bags.MS for t in (4, 104, 204)]
    predictor = open_model(model, threads=1)
    with BagReader(tmp_path / "out" / "masks_bag") as reader:
        assert {t.name: t.count for t in reader.topics} == {
            "/camera/mask": 3, "/camera/color_mask": 3, "/camera/camera_info": 3,
        }  # fmt: skip
        found = list(reader.messages())
    for i, stamp in enumerate(stamps):
        at = {m.topic: m for m in found if ros.stamp_ns(m.data) == stamp}
        mask, color, info = (at[f"/camera/{n}"] for n in ("mask", "color_mask", "camera_info"))
        assert mask.log_ns == stamp and mask.data.header.frame_id == color.data.header.frame_id == "camera_optical"
        assert mask.data.encoding == "mono8" and color.data.encoding == "rgb8"
        pixels = np.asarray(mask.data.data).reshape(48, 64)
        np.testing.assert_array_equal(pixels, predictor.predict(bags.picture(i)).mask)
        np.testing.assert_array_equal(pixels, mask_at(tmp_path / "out" / "masks" / "camera" / f"{stamp}.png"))
        painted = np.asarray(color.data.data).reshape(48, 64, 3)
        np.testing.assert_array_equal(painted, predictor.classes.palette()[pixels])
        assert (info.data.width, info.data.height) == (64, 48)
        np.testing.assert_allclose(np.asarray(info.data.k).reshape(3, 3), bags.CAMERA.K)
    assert len(video_frames(tmp_path / "out" / "overlay.mp4")) == 3


def two_cameras(path: Path) -> Path:
    """Raw and compressed images of one camera, compressed ones of another with none of its calibration."""
    with BagWriter(path) as writer:
        for i in range(2):
            stamp = bags.START_NS + i * 100 * bags.MS
            writer.write("/left/image_raw", ros.image_to_message(stamp, "l", bags.picture(i)), stamp)
            writer.write("/left/image_raw/compressed", bags.compressed(stamp, i), stamp)
            writer.write("/right/image_raw/compressed", bags.compressed(stamp, i), stamp)
    return path


def test_several_cameras_and_chosen_topics(model: Path, tmp_path: Path) -> None:
    bag = two_cameras(tmp_path / "drive")
    summary = segment(model, bag, options(tmp_path / "all"))
    assert summary.results["images"] == {"left": 2, "right": 2}
    assert "/left/image_raw/compressed is left out: /left/image_raw is the same camera" in summary.text
    assert sorted(p.name for p in (tmp_path / "all").glob("*.mp4")) == ["overlay_left.mp4", "overlay_right.mp4"]
    one = options(tmp_path / "one", topics=("/right/image_raw/compressed",), video=False, bag=False)
    assert segment(model, bag, one).results["images"] == {"right": 2}
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == [
        "classes.yaml", "job.json", "masks", "summary.json",
    ]  # fmt: skip
    with pytest.raises(DsegError, match="no image topic /up; there are: /left/image_raw, "):
        segment(model, bag, options(tmp_path / "none", topics=("/up",)))


def test_a_run_that_was_cut_off_goes_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at the third image: nothing looks whole; then only what is missing is computed, and all is there."""
    bag = bags.write_bag(tmp_path / "drive")
    whole = segment(model, bag, options(tmp_path / "whole"))
    right, calls = Predictor.predict, []

    def third_fails(self: Predictor, rgb: NDArray[np.uint8], own_size: bool = False) -> object:
        calls.append(rgb)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return right(self, rgb, own_size)

    monkeypatch.setattr(Predictor, "predict", third_fails)
    with pytest.raises(KeyboardInterrupt):
        segment(model, bag, options(tmp_path / "out"))
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == ["classes.yaml", "job.json", "masks"]
    assert len(list(out.glob("masks/camera/*.png"))) == 2
    summary = segment(model, bag, options(out))
    assert len(calls) == 4 and summary.results["taken_from_before"] == 2
    assert summary.results["shares"] == whole.results["shares"]
    for path in (tmp_path / "whole" / "masks").rglob("*.png"):
        assert path.read_bytes() == (out / path.relative_to(tmp_path / "whole")).read_bytes()
    assert len(video_frames(out / "overlay.mp4")) == 3
    assert "made before" in segment(model, bag, options(out)).text and len(calls) == 4
    segment(model, bag, options(out, video=False))
    assert not (out / "overlay.mp4").exists() and len(calls) == 4


def test_a_gpu_computes_while_the_next_image_is_read(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also around masks that a run before wrote, every mask with its own image."""
    write_pictures(tmp_path / "trip", 6)
    segment(model, tmp_path / "trip", options(tmp_path / "whole"))
    segment(model, tmp_path / "trip", options(tmp_path / "out"))
    (tmp_path / "out" / "summary.json").unlink()
    masks = sorted((tmp_path / "out" / "masks").rglob("*.png"))
    for path in (*masks[:3], *masks[4:]):
        path.unlink()
    told: list[str] = []

    class Queued:
        """A GPU's, of one on the CPU: nothing is computed before it is asked for."""

        def __init__(self) -> None:
            self.of, self.name = open_model(model, threads=1).backend, "queued"
            self.contract, self.run = self.of.contract, self.of.run
            self.given: list[NDArray[np.uint8]] = []

        def start(self, images: NDArray[np.uint8]) -> None:
            told.append("start")
            self.given.append(images.copy())

        def finish(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
            told.append("finish")
            return self.run(self.given.pop(0))

    monkeypatch.setattr(masks_from_model, "open_model", lambda *_: Predictor(Queued()))  # type: ignore[arg-type]
    done = segment(model, tmp_path / "trip", options(tmp_path / "out"))
    assert done.results["taken_from_before"] == 1 and done.results["backend"] == "queued"
    three, two = ["start", "start", "finish", "start", "finish", "finish"], ["start", "start", "finish", "finish"]
    assert told == three + two
    for path in masks:
        assert path.read_bytes() == (tmp_path / "whole" / path.relative_to(tmp_path / "out")).read_bytes()
    assert 0 < done.results["seconds_of_model"] < done.results["seconds"]


def test_masks_of_others_are_not_mixed(tiny_run: Path, model: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "a")
    write_pictures(tmp_path / "b", 2)
    segment(model, tmp_path / "a", options(tmp_path / "out"))
    with pytest.raises(DsegError, match=r"holds masks of another source, where \S+ was different\. "):
        segment(model, tmp_path / "b", options(tmp_path / "out"))
    with pytest.raises(DsegError, match="holds masks of another model"):
        segment(tiny_run, tmp_path / "a", options(tmp_path / "out", backend="torch"))
    shutil.copytree(tiny_run, tmp_path / "run")
    before = (tmp_path / "run" / "classes.yaml").read_bytes()
    with pytest.raises(DsegError, match="holds what `dseg train` made"):
        segment(model, tmp_path / "a", options(tmp_path / "run"))
    assert (tmp_path / "run" / "classes.yaml").read_bytes() == before


def test_what_is_read_is_not_written_into(model: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "images")
    before = sorted(p.name for p in (tmp_path / "images").iterdir())
    for out in (tmp_path / "images", tmp_path / "x" / ".." / "images"):
        with pytest.raises(DsegError, match=r"is what is read\. Give another folder to write to"):
            segment(model, tmp_path / "images", options(out))
    assert sorted(p.name for p in (tmp_path / "images").iterdir()) == before


def test_sources_that_are_none(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("no video")
    write_pictures(tmp_path / "twice")
    shutil.copy(tmp_path / "twice" / "1.png", tmp_path / "twice" / "1.jpg")
    write_pictures(tmp_path / "broken")
    (tmp_path / "broken" / "1.png").write_bytes(b"\x89PNG and nothing more")
    out = options(tmp_path / "out")
    for name, message in {
        "nothing": "does not exist",
        "empty": "empty: holds no images",
        "text.txt": r"text\.txt: is no bag, folder of images or video",
        "twice": r"1\.jpg and 1\.png would have the same mask",
        "broken": r"broken/1\.png: cannot be decoded",
    }.items():
        with pytest.raises(DsegError, match=message):
            segment(model, tmp_path / name, out)
    assert not (tmp_path / "out" / "summary.json").exists()
    with pytest.raises(DsegError, match="is no bag, so it has no topics"):
        segment(model, tmp_path / "broken", options(tmp_path / "out", topics=("/x",)))


@pytest.mark.parametrize("images", [range(0, 1001, 100), (0, 100, 200, 300, 2000, 2100, 2200), (0, 100, 250, 300)])
def test_rates_follow_the_stamps(tmp_path: Path, images: Sequence[int]) -> None:
    """10 Hz, though sweeps run longer, or the camera paused or jittered."""
    bag = bags.write_bag(tmp_path / "drive", images=images, sweeps=(0, 3000))
    source = open_source(bag, (), 10.0)
    assert source.rates == {"camera": Fraction(10)} and source.total == len(images)


def test_rate_of_the_real_drive(kitti_bag: Path) -> None:
    """Against the stamps read by rosbags alone."""
    with AnyReader([kitti_bag]) as reader:
        found = [c for c in reader.connections if c.msgtype.endswith("Image") and "/truth" not in c.topic]
        stamps = [reader.deserialize(raw, c.msgtype).header.stamp for c, _, raw in reader.messages(found)]
    times = sorted(s.sec + s.nanosec * 1e-9 for s in stamps)
    (rate,) = open_source(kitti_bag, (), 10.0).rates.values()
    assert float(rate) == pytest.approx(1 / np.median(np.diff(times)), rel=1e-3)


def test_a_folder_of_bags_says_which_to_give(model: Path, tmp_path: Path) -> None:
    for name in "ab":
        bags.write_bag(tmp_path / "drives" / name)
    with pytest.raises(DsegError, match=r"is a folder of bags, .* Give one of \S+/drives/: a, b$"):
        segment(model, tmp_path / "drives", options(tmp_path / "out"))


def test_a_broken_image_that_was_removed_does_not_block_the_folder(model: Path, tmp_path: Path) -> None:
    """Neither as the first one, when there is no mask yet, nor later; masks that are there are kept."""
    write_pictures(tmp_path / "trip", 5)
    for name in ("0.JPG", "3.png"):
        (tmp_path / "trip" / name).write_bytes(b"broken")
        with pytest.raises(DsegError, match=f"{name}: cannot be decoded"):
            segment(model, tmp_path / "trip", options(tmp_path / "out"))
        (tmp_path / "trip" / name).unlink()
    summary = segment(model, tmp_path / "trip", options(tmp_path / "out"))
    assert summary.results["images"] == {"trip": 3} and summary.results["taken_from_before"] == 2
    cv2.imwrite(str(tmp_path / "trip" / "1.png"), models.picture(9)[:-1])
    with pytest.raises(DsegError, match=r"masks of another source, where 1\.png was different\. Remove it"):
        segment(model, tmp_path / "trip", options(tmp_path / "out"))


def test_another_aspect_is_warned_of(tiny_run: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "wide").mkdir()
    for i, width in enumerate((models.WIDTH, models.WIDTH * 2, models.WIDTH * 2)):
        cv2.imwrite(str(tmp_path / "wide" / f"{i}.png"), models.picture(i, models.HEIGHT, width)[..., ::-1])
    text = segment(model, tmp_path / "wide", options(tmp_path / "out")).text
    assert text.count("WARNING") == 1
    assert "WARNING: 244x75 stretched to 122x75 changes the aspect by 100%: masks may be wrong" in text
    assert text.endswith("(2 images).")
    by_run = segment(tiny_run, tmp_path / "wide", options(tmp_path / "torch", backend="torch")).text
    assert by_run.count("WARNING") == 1 and "244x75 stretched to 96x64" in by_run and "(2 images)" in by_run


def test_ids_that_no_class_has_are_in_the_summary(tmp_path: Path) -> None:
    """Also of a run that goes on from one that was cut off; 255 and the others are kept."""
    foreign = write_model(tmp_path / "foreign.onnx", classes=ClassTable.of_names(["dark"], [(9, 9, 9)]))
    (tmp_path / "trip").mkdir()
    for i, level in enumerate((10, 200, 200)):
        cv2.imwrite(str(tmp_path / "trip" / f"{i}.png"), np.full((6, 8, 3), level, np.uint8))
    told = "The model's masks have ids of none of its 1 classes: 1 (2 masks)."
    for taken in (0, 1):
        found = segment(foreign, tmp_path / "trip", options(tmp_path / "out"))
        assert told.lower() in found.text.lower() and found.results["taken_from_before"] == taken
        (tmp_path / "out" / "summary.json").unlink()


def test_what_is_no_model(tiny_run: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "trip")
    with pytest.raises(DsegError, match=r"student\.safetensors: is no ONNX model\. `dseg export RUN` makes one$"):
        segment(tiny_run / "student.safetensors", tmp_path / "trip", options(tmp_path / "out"))


def test_overlay_mixes_image_and_colour() -> None:
    classes = ClassTable.of_names(["a", "b"], [(0, 100, 200), (50, 50, 50)])
    rgb = np.full((2, 2, 3), 100, np.uint8)
    mask = np.array([[0, 1], [255, 0]], np.uint8)
    painted = paint(rgb, mask, classes, 0.25)
    np.testing.assert_array_equal(painted[0, 0], [75, 100, 125])
    np.testing.assert_array_equal(painted[0, 1], [88, 88, 88])
    np.testing.assert_array_equal(painted[1, 0], [100, 100, 100])
    strip = legend(classes, 100)
    for entry in classes.entries:
        assert (strip == entry.color).all(axis=2).sum() >= 100
