"""`dseg record` over every encoding of images in every kind of bag: the known pixels, the known points.

Each bag holds a camera for each encoding, so that a bag of each kind is enough.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import bags
import cv2
import numpy as np
import pytest
import videos
from bag_kinds import KINDS, Row
from bags import CAMERA, MS, START_NS
from numpy.typing import NDArray

from dseg_core import messages as ros
from dseg_core.cli import main
from dseg_core.image_codecs import decode
from dseg_core.messages.encodings import ENCODINGS, encoding_note
from dseg_core.records import EncodedImage
from dseg_core.store import FrameStore

SWEEPS, LATE = (0, 100, 200), 4  # ms
Pixels = NDArray[np.uint8]


def smooth(number: int) -> Pixels:
    """A picture whose colours change slowly, so that less colour than brightness loses little; each another."""
    y, x = np.mgrid[: CAMERA.height, : CAMERA.width]
    return np.stack([60 + 2 * x, 40 + 3 * y, 200 - x - y + 9 * number], axis=-1).astype(np.uint8)


def grey(rgb: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))


def grey_rgb(number: int) -> Pixels:
    return np.repeat(grey(smooth(number))[..., None], 3, axis=2)


def in_order(order: str) -> Callable[[Pixels], Pixels]:
    """Channels as a name has them: r, g, b; a is noise that means nothing."""
    noise = np.random.default_rng(1).integers(0, 256, (CAMERA.height, CAMERA.width)).astype(np.uint8)
    return lambda rgb: np.stack([noise if c == "a" else rgb[..., "rgb".index(c)] for c in order], axis=-1)


def mosaic(pattern: str) -> Callable[[Pixels], Pixels]:
    """What a sensor behind a Bayer filter sees; its first two rows of two pixels are named."""

    def make(rgb: Pixels) -> Pixels:
        seen = np.empty(rgb.shape[:2], np.uint8)
        for place, color in enumerate(pattern):
            rows, columns = slice(place // 2, None, 2), slice(place % 2, None, 2)
            seen[rows, columns] = rgb[rows, columns, "rgb".index(color)]
        return seen

    return make


def yuv(rgb: Pixels) -> tuple[Pixels, Pixels, Pixels]:
    """BT.601 of limited range, from its definition: luma 16 to 235, chroma 16 to 240."""
    red, green, blue = (rgb[..., i] / 255 for i in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    found = (16 + 219 * luma, 128 + 112 * (blue - luma) / 0.886, 128 + 112 * (red - luma) / 0.701)
    y, u, v = (plane.round().astype(np.uint8) for plane in found)
    return y, u, v


def packed(order: str) -> Callable[[Pixels], Pixels]:
    """Two pixels share their chroma, bytes as in `order`."""

    def make(rgb: Pixels) -> Pixels:
        y, u, v = yuv(rgb)
        parts = {"u": u[:, ::2], "v": v[:, ::2]}
        lumas = iter([y[:, ::2], y[:, 1::2]])
        return np.stack([next(lumas) if c == "y" else parts[c] for c in order], -1).reshape(CAMERA.height, -1)

    return make


def semi_planar(order: str, by: int) -> Callable[[Pixels], Pixels]:
    """Luma, then interleaved chroma of every `by`th row and column."""

    def make(rgb: Pixels) -> Pixels:
        y, u, v = yuv(rgb)
        parts = {"u": u[::by, ::by], "v": v[::by, ::by]}
        return np.concatenate([y.ravel(), np.stack([parts[c] for c in order], -1).ravel()])

    return make


@dataclass(frozen=True)
class Coded:
    """One encoding.

    `image`: makes the message of a stamp and a number. `known`: the picture of a number. `most`: by how much a pixel
    may differ. `edge`: so many pixels at the border are interpolated from too little.
    """

    image: Callable[[int, int], Any]
    known: Callable[[int], Pixels] = smooth
    most: int = 0
    edge: int = 0
    topic: str = "image_raw"


def raw(encoding: str, make: Callable[[Pixels], Pixels], big: int = 0, **more: Any) -> Coded:
    """sensor_msgs/Image; 16 bits have the picture in their high bytes, and noise below."""

    def image(stamp: int, number: int) -> Any:
        data: NDArray[Any] = np.ascontiguousarray(make(smooth(number)))
        if encoding.endswith("16") or encoding.startswith("16"):
            low = np.random.default_rng(number).integers(0, 256, data.shape)
            data = (data.astype(np.uint16) * 256 + low).astype(">u2" if big else "<u2")
        rows = CAMERA.height * 3 // 2 if encoding in ("nv12", "nv21") else CAMERA.height
        step = CAMERA.width if encoding.startswith("nv") else data.nbytes // rows
        return ros.message(
            "sensor_msgs/msg/Image", header=ros.header(stamp, "camera_optical"), height=CAMERA.height,
            width=CAMERA.width, encoding=encoding, is_bigendian=big, step=step,
            data=data.reshape(-1).view(np.uint8),
        )  # fmt: skip

    return Coded(image, **more)


def compressed(kind: str, suffix: str, **more: Any) -> Coded:
    def image(stamp: int, number: int) -> Any:
        data = cv2.imencode(suffix, smooth(number)[..., ::-1])[1].tobytes()
        return ros.encoded_to_message(EncodedImage(stamp, "camera_optical", kind, data))

    return Coded(image, topic="image_raw/compressed", **more)


def video(codec: str, kind: str) -> Coded:
    """Packets; the pictures are those that FFmpeg makes of the whole stream as a file."""
    stream = videos.video(codec, count=len(SWEEPS))
    topic = "image_raw/" + ("compressed_video" if kind == videos.FOXGLOVE else "ffmpeg")
    return Coded(lambda stamp, number: stream.message(number, kind, stamp), stream.picture, topic=topic)


def table() -> dict[str, Coded]:
    found = {}
    for bits in ("8", "16"):
        for name in ("rgb", "bgr", "rgba", "bgra"):
            found[name + bits] = raw(name + bits, in_order(name))
        found["mono" + bits] = raw("mono" + bits, grey, known=grey_rgb)
        found[f"{bits}UC1"] = raw(f"{bits}UC1", grey, known=grey_rgb)
        found[f"{bits}UC3"] = raw(f"{bits}UC3", in_order("bgr"))
        found[f"{bits}UC4"] = raw(f"{bits}UC4", in_order("bgra"))
        for pattern in ("rggb", "bggr", "gbrg", "grbg"):
            found[f"bayer_{pattern}{bits}"] = raw(f"bayer_{pattern}{bits}", mosaic(pattern), most=1, edge=1)
    found["mono16 big"] = raw("mono16", grey, big=1, known=grey_rgb)
    for name, order in (("uyvy", "uyvy"), ("yuv422", "uyvy"), ("yuyv", "yuyv"), ("yuv422_yuy2", "yuyv")):
        found[name] = raw(name, packed(order), most=4)
    found |= {name: raw(name, semi_planar(o, 2), most=6) for name, o in (("nv12", "uv"), ("nv21", "vu"))}
    found["nv24"] = raw("nv24", semi_planar("uv", 1), most=2)
    found["png"] = compressed("png", ".png")
    found["jpeg"] = compressed("jpeg", ".jpg", most=6)
    for codec in videos.NAMES:
        found[f"foxglove {codec}"] = video(codec, videos.FOXGLOVE)
        found[f"ffmpeg {codec}"] = video(codec, videos.FFMPEG)
    return found


CODED = table()
CAMERAS = {name: name.replace(" ", "_").lower() for name in CODED}


@cache
def rows() -> list[Row]:
    """Three sweeps, and three images of every encoding by a camera of its own."""
    found: list[Row] = bags.bag_rows(sweeps=SWEEPS, images=[])
    for name, coded in CODED.items():
        for number, t in enumerate(SWEEPS):
            stamp = START_NS + (t + LATE) * MS
            place = f"/{CAMERAS[name]}"
            found += [
                (f"{place}/{coded.topic}", coded.image(stamp, number), stamp),
                (f"{place}/camera_info", ros.camera_to_message(stamp, CAMERA), stamp),
            ]
    return sorted(found, key=lambda row: row[2])


def test_the_table_has_every_encoding_that_can_be_read() -> None:
    assert set(ENCODINGS) <= CODED.keys()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_encoding_in_every_kind_of_bag(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dseg_core.frames_from_bag.preview", lambda *_: None)  # of so many cameras, it takes seconds
    bag, out = KINDS[kind](tmp_path / "drive", rows()), tmp_path / "frames"
    assert main(["record", str(bag), "--out", str(out), "--store.image-format", "png"]) == 0
    store = FrameStore(out)
    assert store.cameras == tuple(sorted(CAMERAS.values()))
    assert [stamp for _, stamp in store.frame_keys] == [START_NS + t * MS for t in SWEEPS]
    finite = np.isfinite(bags.scene()).all(axis=1)
    for number, frame in enumerate(store.frames()):
        np.testing.assert_array_equal(frame.sweep.xyz, bags.scene()[finite])
        np.testing.assert_array_equal(frame.sweep.ring, bags.rings()[finite])
        views = {view.camera: view for view in frame.views}
        for name, coded in CODED.items():
            view = views[CAMERAS[name]]
            assert view.stamp_ns == frame.stamp_ns + LATE * MS
            away = np.abs(decode(view.image).astype(int) - coded.known(number))
            inside = away[coded.edge : -coded.edge or None, coded.edge : -coded.edge or None]
            assert inside.max() <= coded.most, name
        for name in ("jpeg", "png"):
            assert views[name].image.data == bytes(CODED[name].image(0, number).data), "passed through untouched"
    (drive,) = json.loads((out / "summary.json").read_text())["results"]["drives"].values()
    wanted = {"messages": 3, "paired": 3, "surplus": 0, "dropped": {}}
    assert drive["sensors"] == dict.fromkeys(["lidar", *CAMERAS.values()], wanted)
    told = " ".join(drive["notes"])
    for encoding in ENCODINGS:
        assert (f"/{CAMERAS[encoding]}/image_raw: {encoding_note(encoding)} (3 images)" in told) == bool(
            encoding_note(encoding)
        )
