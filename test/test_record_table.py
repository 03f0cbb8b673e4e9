"""`dseg record` over every kind of bag and every encoding of images: the known pixels, the known points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bags
import cv2
import numpy as np
import pytest
from bag_kinds import KINDS
from bags import CAMERA, MS, START_NS, bag_rows, picture
from numpy.typing import NDArray

from dseg_core import messages as ros
from dseg_core.frames_from_bag import record
from dseg_core.image_codecs import decode
from dseg_core.stage_options import RecordOptions, StoreOptions
from dseg_core.store import FrameStore

EXACT = RecordOptions(threads=1, store=StoreOptions(image_format="png"))
STORAGES = {name: KINDS[name] for name in ("rosbag1", "sqlite3 messages zstd", "mcap file zstd", "bare mcap lz4")}


def smooth(seed: int) -> NDArray[np.uint8]:
    """A picture whose colours change slowly, so that less colour than brightness loses little."""
    y, x = np.mgrid[: CAMERA.height, : CAMERA.width]
    return np.stack([60 + 2 * x, 40 + 3 * y, 200 - x - y + 3 * seed], axis=-1).astype(np.uint8)


def raw(encoding: str, make: Callable[[NDArray[np.uint8]], NDArray[Any]]) -> Callable[[int, int], Any]:
    """A maker of sensor_msgs/Image messages of `smooth` pictures."""

    def image(stamp: int, seed: int) -> Any:
        data = np.ascontiguousarray(make(smooth(seed)))
        return ros.message(
            "sensor_msgs/msg/Image", header=ros.header(stamp, "camera_optical"), height=CAMERA.height,
            width=CAMERA.width, encoding=encoding, is_bigendian=0, step=data.nbytes // data.shape[0],
            data=data.view(np.uint8).reshape(-1),
        )  # fmt: skip

    return image


def packed_yuv(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """U Y V Y, BT.601 limited range."""
    r, g, b = (rgb[..., i].astype(float) for i in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = (128 - 0.148 * r - 0.291 * g + 0.439 * b).reshape(CAMERA.height, -1, 2).mean(axis=2)
    v = (128 + 0.439 * r - 0.368 * g - 0.071 * b).reshape(CAMERA.height, -1, 2).mean(axis=2)
    packed = np.stack([u, y[:, ::2], v, y[:, 1::2]], axis=-1)
    return packed.round().astype(np.uint8).reshape(CAMERA.height, -1)


def grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))


# How each encoding is made, how much a pixel may differ, and whether its picture is grey.
ENCODINGS: dict[str, tuple[Callable[[int, int], Any], int, bool]] = {
    "rgb8": (raw("rgb8", lambda rgb: rgb.reshape(CAMERA.height, -1)), 0, False),
    "bgr8": (raw("bgr8", lambda rgb: rgb[..., ::-1].reshape(CAMERA.height, -1)), 0, False),
    "rgba8": (raw("rgba8", lambda rgb: np.dstack([rgb, rgb[..., :1]]).reshape(CAMERA.height, -1)), 0, False),
    "bgra8": (raw("bgra8", lambda rgb: np.dstack([rgb[..., ::-1], rgb[..., :1]]).reshape(CAMERA.height, -1)), 0, False),
    "mono8": (raw("mono8", grey), 0, True),
    "mono16": (raw("mono16", lambda rgb: grey(rgb).astype(np.uint16) * 256), 0, True),
    "uyvy": (raw("uyvy", packed_yuv), 6, False),
    "jpeg": (lambda stamp, seed: ros.encoded_to_message(jpeg(stamp, seed)), 12, False),
}


def jpeg(stamp: int, seed: int) -> Any:
    data = cv2.imencode(".jpg", smooth(seed)[..., ::-1])[1].tobytes()
    return ros.encoded_from_message(
        ros.message(
            "sensor_msgs/msg/CompressedImage", header=ros.header(stamp, "camera_optical"), format="jpeg",
            data=np.frombuffer(data, np.uint8),
        )
    )  # fmt: skip


def points_are_known(store: FrameStore) -> None:
    finite = np.isfinite(bags.scene()).all(axis=1)
    assert [stamp for _, stamp in store.frame_keys] == [START_NS + t * MS for t in (0, 100, 200)]
    for frame in store.frames():
        np.testing.assert_array_equal(frame.sweep.xyz, bags.scene()[finite])
        np.testing.assert_array_equal(frame.sweep.ring, bags.rings()[finite])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_bag(tmp_path: Path, kind: str) -> None:
    record([KINDS[kind](tmp_path / "drive", bag_rows())], tmp_path / "frames", EXACT)
    store = FrameStore(tmp_path / "frames")
    points_are_known(store)
    for number, frame in enumerate(store.frames()):
        np.testing.assert_array_equal(decode(frame.views[0].image), picture(number))


@pytest.mark.parametrize("storage", sorted(STORAGES))
@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_every_encoding_in_every_storage(tmp_path: Path, encoding: str, storage: str) -> None:
    image, most, is_grey = ENCODINGS[encoding]
    record([STORAGES[storage](tmp_path / "drive", bag_rows(image=image))], tmp_path / "frames", EXACT)
    store = FrameStore(tmp_path / "frames")
    points_are_known(store)
    for number, frame in enumerate(store.frames()):
        known = smooth(number)
        known = np.repeat(grey(known)[..., None], 3, axis=2) if is_grey else known
        away = np.abs(decode(frame.views[0].image).astype(int) - known)[:, 1:-1]
        assert away.max() <= most
