"""Frames come back as they were written, play as a rosbag2 folder, and survive a cut."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from power_cuts import Disk
from rosbags.highlevel import AnyReader

from dseg_core.cameras import Camera
from dseg_core.errors import DsegError
from dseg_core.frame_writer import FrameWriter, unfinished_part
from dseg_core.image_codecs import decode, decode_regions, encode, encode_preview, encode_regions, region_colors
from dseg_core.label_store import LabelStore
from dseg_core.records import EncodedImage, Frame, Sweep, View, ViewKey
from dseg_core.stage_options import StoreOptions
from dseg_core.store import FrameStore, salvage
from dseg_core.transforms import matrix_from_pose


def make_frame(stamp_ns: int, seed: int, cameras: tuple[str, ...] = ("front", "left"), drive: str = "drive") -> Frame:
    """A frame of noise."""
    rng = np.random.default_rng(seed)
    points = int(rng.integers(1, 200))
    sweep = Sweep(
        stamp_ns,
        "lidar",
        rng.normal(size=(points, 3)).astype(np.float32),
        rng.random(points).astype(np.float32),
        rng.integers(0, 64, points).astype(np.uint16),
        rng.integers(-(10**8), 10**8, points),
    )
    return Frame(
        drive, sweep, rng.integers(0, 2**16, points).astype(np.uint16), tuple(_view(c, sweep, rng) for c in cameras)
    )


def _view(camera: str, sweep: Sweep, rng: np.random.Generator) -> View:
    rgb = rng.integers(0, 256, (12, 20, 3)).astype(np.uint8)
    stamp = sweep.stamp_ns + int(rng.integers(0, 2)) * 4_000_000
    return View(
        camera,
        encode(stamp, f"{camera}_optical", rgb, StoreOptions(image_format="png")),
        rng.integers(0, 2**16, (12, 20)).astype(np.uint16),
        Camera.pinhole(f"{camera}_optical", 20, 12, 15.0, 15.5, 9.5, 5.5),
        matrix_from_pose(rng.normal(size=3), rng.normal(size=4)),
        bool(rng.integers(2)),
    )


def assert_equal(one: Frame, other: Frame) -> None:
    assert (one.drive, one.stamp_ns, one.sweep.frame_id) == (other.drive, other.stamp_ns, other.sweep.frame_id)
    for name in ("xyz", "intensity", "ring", "time_ns"):
        a, b = getattr(one.sweep, name), getattr(other.sweep, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.proposals, other.proposals)
    assert len(one.views) == len(other.views)
    for a, b in zip(one.views, other.views, strict=True):
        assert_views_equal(a, b)


def assert_views_equal(a: View, b: View) -> None:
    assert (a.camera, a.stamp_ns, a.motion_compensated) == (b.camera, b.stamp_ns, b.motion_compensated)
    assert (a.image.frame_id, a.image.format, a.image.data) == (b.image.frame_id, b.image.format, b.image.data)
    np.testing.assert_array_equal(a.regions, b.regions)
    np.testing.assert_array_equal(a.calibration.P, b.calibration.P)
    assert a.calibration.rectified == b.calibration.rectified
    np.testing.assert_allclose(a.T_image_sweep, b.T_image_sweep, atol=1e-12)


@pytest.fixture
def frames() -> list[Frame]:
    return [make_frame(10**18 + i * 10**8, i) for i in range(5)]


def write(folder: Path, frames: list[Frame], drive: str = "drive") -> None:
    with FrameWriter(folder, drive) as writer:
        for frame in frames:
            writer.write(frame)


def test_to_disk_and_back_is_equal(tmp_path: Path, frames: list[Frame]) -> None:
    write(tmp_path, frames)
    store = FrameStore(tmp_path)
    assert store.frame_keys == tuple(("drive", f.stamp_ns) for f in frames)
    assert store.cameras == ("front", "left") and len(store.view_keys) == 10
    for frame in frames:
        assert_equal(store.frame("drive", frame.stamp_ns), frame)
        key = ViewKey("drive", frame.stamp_ns, "left")
        assert_views_equal(store.view(key), frame.views[1])
    with pytest.raises(KeyError):
        store.view(ViewKey("drive", frames[0].stamp_ns, "right"))


def test_drives_stand_side_by_side(tmp_path: Path, frames: list[Frame]) -> None:
    write(tmp_path, frames[:2], "one")
    write(tmp_path, frames[1:4], "two")
    store = FrameStore(tmp_path)
    assert store.drives == ("one", "two") and len(store) == 5
    with pytest.raises(DsegError, match="drive one is recorded already"):
        FrameWriter(tmp_path, "one")


def test_rosbags_plays_it(tmp_path: Path, frames: list[Frame]) -> None:
    write(tmp_path, frames[:2], "one")
    write(tmp_path, frames[2:], "two")
    with AnyReader([tmp_path]) as reader:
        assert reader.message_count == 5 * (2 * 5 + 1)
        types = {c.topic: c.msgtype for c in reader.connections}
        assert types["/dseg/front/image/compressed"] == "sensor_msgs/msg/CompressedImage"
        clouds = [m for m in reader.messages() if m[0].topic == "/dseg/points"]
        assert [t for _, t, _ in clouds] == [f.stamp_ns for f in frames]
        cloud = reader.deserialize(clouds[0][2], clouds[0][0].msgtype)
        assert cloud.width == len(frames[0].sweep)  # type: ignore[attr-defined]


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("rest", [0, 1 << 16])
def test_a_cut_part_yields_its_whole_frames(tmp_path: Path, keep: float, rest: int) -> None:
    """`rest`: zeros, as file systems leave where a file had grown, but its data had not reached the disk."""
    frames = [make_frame(10**18 + i, i, cameras=("front", "left")[: 1 + (i % 3 > 0)]) for i in range(5)]
    write(tmp_path, frames)
    data = (tmp_path / "drive_0.mcap").read_bytes()
    part = unfinished_part(tmp_path, "drive")
    part.write_bytes(data[: int(len(data) * keep)] + bytes(rest))
    found = list(salvage(part, "drive"))
    assert len(found) <= len(frames) and (keep < 0.5 or found)
    for a, b in zip(found, frames, strict=False):
        assert_equal(a, b)


def test_a_power_cut_costs_no_frame_that_was_synced(
    tmp_path: Path, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, folder = Disk(monkeypatch), tmp_path / "frames"
    with FrameWriter(folder, "drive", sync=True) as writer:
        for count, frame in enumerate(frames, 1):
            writer.write(frame)
            left = disk.after_power_cut(folder, tmp_path / f"left_{count}")
            assert [f.stamp_ns for f in salvage(unfinished_part(left, "drive"), "drive")] == [
                f.stamp_ns for f in frames[:count]
            ]
    left = disk.after_power_cut(folder, tmp_path / "left")
    assert len(FrameStore(left)) == len(frames)
    assert {path.name for path in left.iterdir()} == {"drive_0.mcap", "metadata.yaml"}
    assert (left / "metadata.yaml").read_bytes() == (folder / "metadata.yaml").read_bytes()


def test_a_part_that_others_list_is_on_the_disk_when_it_has_its_name(
    tmp_path: Path, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    with FrameWriter(tmp_path / "frames", "drive", listed=False) as writer:
        writer.write(frames[0])
    assert len(FrameStore(disk.after_power_cut(tmp_path / "frames", tmp_path / "left"))) == 1


@pytest.mark.parametrize("place", np.linspace(0.05, 0.7, 12))
def test_a_bit_that_flips_is_never_read_as_data(tmp_path: Path, frames: list[Frame], place: float) -> None:
    write(tmp_path, frames)
    part = tmp_path / "drive_0.mcap"
    data = bytearray(part.read_bytes())
    data[int(place * len(data))] ^= 1
    part.write_bytes(data)
    for a, b in zip(salvage(part, "drive"), frames, strict=False):
        assert_equal(a, b)
    store = FrameStore(tmp_path)
    for frame in frames:
        with suppress(DsegError):
            assert_equal(store.frame("drive", frame.stamp_ns), frame)


def test_garbled_frames_are_told_by_name(tmp_path: Path, frames: list[Frame]) -> None:
    write(tmp_path, frames)
    part = tmp_path / "drive_0.mcap"
    data = bytearray(part.read_bytes())
    data[len(data) // 4 : len(data) // 4 + 500] = bytes(500)
    part.write_bytes(data)
    store = FrameStore(tmp_path)
    with pytest.raises(DsegError, match=r"drive_0.mcap: is broken: .*Remove it and record its drive again"):
        list(store.frames())


def test_an_error_leaves_the_part_unfinished(tmp_path: Path, frames: list[Frame]) -> None:
    with pytest.raises(ZeroDivisionError), FrameWriter(tmp_path, "drive") as writer:
        writer.write(frames[0])
        raise ZeroDivisionError
    assert not (tmp_path / "drive_0.mcap").exists()
    assert len(list(salvage(unfinished_part(tmp_path, "drive"), "drive"))) == 1


def test_jpeg_is_close_and_passes_through() -> None:
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 4, (64, 64, 3)).copy()
    image = encode(5, "camera", ramp, StoreOptions())
    assert image.format == "jpeg" and np.abs(decode(image).astype(int) - ramp).max() <= 4
    with pytest.raises(DsegError, match="cannot be decoded"):
        decode(EncodedImage(5, "camera", "jpeg", image.data[:10]))


def test_masks_come_back(tmp_path: Path) -> None:
    labels = LabelStore(tmp_path, "default")
    key = ViewKey("drive", 17, "front")
    mask = np.random.default_rng(0).integers(0, 256, (5, 7)).astype(np.uint8)
    labels.write_mask(key, mask)
    assert labels.keys() == (key,)
    np.testing.assert_array_equal(labels.mask(key), mask)
    with pytest.raises(DsegError, match="is no 8-bit mask"):
        labels.mask(ViewKey("drive", 18, "front"))
    with pytest.raises(DsegError, match="is no name"):
        LabelStore(tmp_path, "../elsewhere")
    (labels.path / "masks/drive/front/.17.png.99.tmp.png").touch()  # being written
    assert labels.keys() == (key,)
    (labels.path / "masks/drive/front/17 (copy).png").touch()
    with pytest.raises(DsegError, match=r"17 \(copy\)\.png: is no mask: their names are stamps. Move it elsewhere"):
        labels.keys()


def test_missing_frames_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(DsegError, match="dseg record"):
        FrameStore(tmp_path / "missing")
    with pytest.raises(DsegError, match="holds no frames"):
        FrameStore(tmp_path)
    (tmp_path / "drive_0.mcap").write_bytes(b"not an mcap file at all, but long enough to hold a footer of one")
    with pytest.raises(DsegError, match="is broken"):
        FrameStore(tmp_path)


@pytest.mark.parametrize("most", [1, 255, 256, 65535])
def test_regions_and_their_preview_survive_as_png(most: int) -> None:
    """As two other libraries read them; objects beyond the palette's end take its colours again."""
    regions = np.random.default_rng(most).integers(0, most + 1, (33, 57)).astype(np.uint16)
    np.testing.assert_array_equal(decode_regions(np.frombuffer(encode_regions(regions), np.uint8)), regions)
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(BytesIO(encode_regions(regions)))), regions)
    preview = encode_preview(regions)
    shown = decode(EncodedImage(0, "camera", "png", preview))
    np.testing.assert_array_equal(shown, np.asarray(PIL.Image.open(BytesIO(preview)).convert("RGB")))
    np.testing.assert_array_equal(shown, region_colors(regions))
    assert (shown[regions == 0] == 0).all() and (shown[regions == 1] == (128, 64, 128)).all()
    assert not (shown[regions > 1] == 0).all(axis=-1).any()
