"""Images of every encoding against formulas of their own; broken ones refused."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import bags
import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dseg_core import messages as ros
from dseg_core.errors import DsegError
from dseg_core.frames_from_bag import record
from dseg_core.image_codecs import decode
from dseg_core.messages.encodings import ENCODINGS, encoding_note
from dseg_core.records import EncodedImage
from dseg_core.stage_options import RecordOptions

H, W = 6, 8
RNG = np.random.default_rng(5)


def message(encoding: str, data: NDArray[Any], width: int = W, height: int = H, step: int = 0, big: int = 0) -> Any:
    flat = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    return ros.message(
        "sensor_msgs/msg/Image", header=ros.header(7, "camera"), height=height, width=width, encoding=encoding,
        is_bigendian=big, step=step or len(flat) // height, data=flat,
    )  # fmt: skip


def read(*args: Any, **more: Any) -> NDArray[np.uint8]:
    image = ros.image_from_message(message(*args, **more))
    assert (image.stamp_ns, image.frame_id, image.rgb.dtype) == (7, "camera", np.uint8)
    assert image.rgb.flags.c_contiguous
    return image.rgb


COLOR_ORDERS = {"rgb": "rgb", "bgr": "bgr", "rgba": "rgba", "bgra": "bgra", "mono": "m"}
ALIASES = {"UC1": "m", "UC3": "bgr", "UC4": "bgra"}
PLAIN = [
    (f"{name}{bits}" if name in COLOR_ORDERS else f"{bits}{name}", order, bits)
    for bits in (8, 16)
    for name, order in (COLOR_ORDERS | ALIASES).items()
]


@pytest.mark.parametrize(("encoding", "order", "bits"), PLAIN, ids=[p[0] for p in PLAIN])
@pytest.mark.parametrize("big", [0, 1])
@pytest.mark.parametrize("gap", [0, 5])
@pytest.mark.parametrize("size", [(W, H), (7, 3), (1, 1)])
def test_colours_and_depths(encoding: str, order: str, bits: int, big: int, gap: int, size: tuple[int, int]) -> None:
    """Channel by channel, any padding, any size; 16 bits give their high byte."""
    width, height = size
    values = RNG.integers(0, 2**bits, (height, width, len(order)))
    raw = values.astype("u1" if bits == 8 else ">u2" if big else "<u2").reshape(height, -1).view(np.uint8)
    padded = np.full((height, raw.shape[1] + gap), 99, np.uint8)
    padded[:, : raw.shape[1]] = raw
    rgb = read(encoding, padded, width, height, big=big)
    wanted = values // 2 ** (bits - 8)
    for channel, name in enumerate("rgb"):
        source = 0 if order == "m" else order.index(name)
        np.testing.assert_array_equal(rgb[..., channel], wanted[..., source])


def test_depth_is_scaled_alike_in_every_image_and_in_png() -> None:
    """A dark image stays dark beside a bright one, and a 16-bit PNG of it gives the same picture."""
    values = RNG.integers(0, 4096, (H, W)).astype(np.uint16)
    brighter = values.copy()
    brighter[0, 0] = 65535
    dark, bright = (read("mono16", v) for v in (values, brighter))
    np.testing.assert_array_equal(dark[1:], bright[1:])
    assert dark.max() <= 15
    png = cv2.imencode(".png", brighter)[1].tobytes()
    np.testing.assert_array_equal(decode(EncodedImage(7, "camera", "png", png)), bright)


def bilinear(mosaic: NDArray[np.uint8], pattern: str) -> NDArray[np.float64]:
    """Demosaicing by its definition: the mean of the nearest pixels of that colour; inside, float (H-2, W-2, 3)."""
    height, width = mosaic.shape
    names = np.array(list(pattern)).reshape(2, 2)
    rgb = np.zeros((height - 2, width - 2, 3))
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            for channel, name in enumerate("rgb"):
                near: dict[int, list[int]] = {}
                for dy in (-1, 0, 1):
                    for dx in (-1, 0, 1):
                        if names[(y + dy) % 2, (x + dx) % 2] == name:
                            near.setdefault(abs(dy) + abs(dx), []).append(int(mosaic[y + dy, x + dx]))
                rgb[y - 1, x - 1, channel] = np.mean(near[min(near)])
    return rgb


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("size", [(10, 8), (9, 7)])
def test_bayer_patterns(pattern: str, bits: int, size: tuple[int, int]) -> None:
    """One colour seen through each filter comes back whole; noise as bilinear interpolation defines it."""
    width, height = size
    color = {"r": 200, "g": 100, "b": 30}
    tile = np.array([color[name] for name in pattern]).reshape(2, 2)
    flat = np.tile(tile, (height, width))[:height, :width]
    kind, scale = ("u1", 1) if bits == 8 else ("<u2", 256)
    rgb = read(f"bayer_{pattern}{bits}", (flat * scale).astype(kind), width, height)
    np.testing.assert_array_equal(rgb, np.broadcast_to([200, 100, 30], (height, width, 3)))
    noise = RNG.integers(0, 256, (height, width)).astype(np.uint8)
    rgb = read(f"bayer_{pattern}{bits}", (noise.astype(np.uint16) * scale).astype(kind), width, height)
    assert np.abs(rgb[1:-1, 1:-1] - bilinear(noise, pattern)).max() <= 0.51


def bt601(y: Any, u: Any, v: Any) -> NDArray[np.float64]:
    """ITU-R BT.601, limited range: luma 16 to 235, chroma 16 to 240 about 128."""
    luma, cb, cr = np.maximum(np.asarray(y, float) - 16, 0) / 219, (np.asarray(u, float) - 128) / 224, (v - 128.0) / 224
    red, blue = luma + 2 * (1 - 0.299) * cr, luma + 2 * (1 - 0.114) * cb
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    return np.clip(np.stack([red, green, blue], -1), 0, 1) * 255


def planes(height: int, width: int, down: int, across: int) -> list[NDArray[np.uint8]]:
    shapes = [(height, width), *[(height // down, width // across)] * 2]
    return [RNG.integers(0, 256, shape).astype(np.uint8) for shape in shapes]


@pytest.mark.parametrize(
    ("encoding", "order"), [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")]
)
@pytest.mark.parametrize("gap", [0, 6])
@pytest.mark.parametrize("height", [6, 5])
def test_packed_yuv(encoding: str, order: str, gap: int, height: int) -> None:
    y, u, v = planes(height, W, 1, 2)
    data = np.full((height, 2 * W + gap), 77, np.uint8)
    first = order.index("y")
    data[:, first : 2 * W : 2] = y
    data[:, order.index("u") : 2 * W : 4], data[:, order.index("v") : 2 * W : 4] = u, v
    rgb = read(encoding, data, height=height)
    assert np.abs(rgb - bt601(y, u.repeat(2, 1), v.repeat(2, 1))).max() <= 1.5


@pytest.mark.parametrize("encoding", ["nv12", "nv21", "nv24"])
@pytest.mark.parametrize("gap", [0, 4])
@pytest.mark.parametrize("counted", ["luma", "all rows"])
def test_semi_planar_yuv(encoding: str, gap: int, counted: str) -> None:
    """Whether the message's height counts luma's rows only or those of chroma too."""
    by = 1 if encoding == "nv24" else 2
    y, u, v = planes(H, W, by, by)
    chroma = np.stack([v, u] if encoding == "nv21" else [u, v], -1).reshape(-1, W * 2 // by)
    luma = np.pad(y, ((0, 0), (0, gap)), constant_values=9)
    chroma = np.pad(chroma, ((0, 0), (0, gap * 2 // by)), constant_values=9)
    data = np.concatenate([luma.ravel(), chroma.ravel()])
    height = H if counted == "luma" else len(data) // (W + gap)
    rgb = read(encoding, data, height=height, step=W + gap)
    assert rgb.shape == (H, W, 3)
    assert np.abs(rgb - bt601(y, u.repeat(by, 0).repeat(by, 1), v.repeat(by, 0).repeat(by, 1))).max() <= 1.5


def test_what_is_approximate_is_said() -> None:
    exact = {"rgb8", "bgr8", "rgba8", "bgra8", "mono8", "8UC1"}
    assert {encoding for encoding in ENCODINGS if encoding_note(encoding) is None} == exact
    assert "16UC1 is taken for brightness, not depth; it is scaled" in str(encoding_note("16UC1"))
    assert encoding_note("bayer_rggb16") == (
        "bayer_rggb16 has one colour a pixel, the others are interpolated bilinearly; it is scaled to 8 bits by its "
        "high byte, as values of the full 16 bits: lower-aligned ones come out dark"
    )
    assert "16UC3 names no order of colours and is read as BGR" in str(encoding_note("16UC3"))
    assert "limited range" in str(encoding_note("nv12"))
    assert encoding_note("32FC1") is None


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "wrong",
    [
        {"height": 0}, {"width": 0}, {"step": 1}, {"data": np.zeros(0, np.uint8)}, {"data": np.zeros(5, np.uint8)},
        {"height": 2**32 - 2, "step": 2**32 - 1}, {"width": 2**32 - 2, "step": 2**32 - 1}, {"height": 2**32 - 2},
    ],
    ids=str,
)  # fmt: skip
def test_sizes_that_do_not_fit(encoding: str, wrong: dict[str, Any]) -> None:
    msg = message(encoding, np.zeros(8 * W * H * 3, np.uint8))
    ros.image_from_message(msg)
    for name, value in wrong.items():
        setattr(msg, name, value)
    with pytest.raises(DsegError, match=encoding):
        ros.image_from_message(msg)


@pytest.mark.parametrize("encoding", ["yuyv", "uyvy", "yuv422", "yuv422_yuy2", "nv12", "nv21"])
def test_odd_widths_that_cannot_be(encoding: str) -> None:
    with pytest.raises(DsegError, match=f"7x6 {encoding}: .*width.* must be even"):
        read(encoding, np.zeros(6 * 20 * 2, np.uint8), 7, 6, step=20)


def test_bayer_too_small_to_have_colours() -> None:
    with pytest.raises(DsegError, match="2x2 bayer_rggb8 is too small"):
        read("bayer_rggb8", np.zeros(4, np.uint8), 2, 2)


def test_other_encodings_are_named() -> None:
    with pytest.raises(DsegError, match=r"encoding '32FC1' cannot be read\. These can: rgb8, "):
        read("32FC1", np.zeros((H, W), np.float32))


def test_recording_says_what_is_approximate(tmp_path: Path) -> None:
    def deep(stamp: int, seed: int) -> Any:
        return ros.image_to_message(stamp, "camera_optical", bags.picture(seed)[..., 0].astype(np.uint16) * 256)

    summary = record([bags.write_bag(tmp_path / "bag", image=deep)], tmp_path / "out", RecordOptions())
    note = f"/camera/image_raw: {encoding_note('mono16')} (3 images)"
    assert note in summary.results["drives"]["bag"]["notes"]
    assert note in summary.text


# Compressed


def jpeg(*options: int, grey: bool = False) -> bytes:
    picture = cv2.GaussianBlur(bags.picture(1), (0, 0), 2)
    return bytes(cv2.imencode(".jpg", picture[..., 0] if grey else picture, list(options))[1])


def encoded(data: bytes) -> EncodedImage:
    return ros.encoded_from_message(ros.encoded_to_message(EncodedImage(3, "camera", "jpeg", data)))


WHOLE = {
    "baseline": jpeg(),
    "progressive": jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": jpeg(cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    "grey": jpeg(grey=True),
}


@pytest.mark.parametrize("name", WHOLE)
def test_jpeg_is_passed_through_and_a_cut_one_is_not(name: str) -> None:
    data = WHOLE[name]
    assert encoded(data).data == data
    assert encoded(data + bytes(100)).data == data + bytes(100)  # drivers hand over buffers longer than the picture
    for cut in (*range(2, len(data), 37), len(data) - 2, len(data) - 1):
        with pytest.raises(DsegError, match=r"^broken jpeg image$"):
            encoded(data[:cut])
        with pytest.raises(DsegError, match=r"^broken jpeg image$"):
            encoded(data[:cut] + bytes(len(data) - cut))


def test_a_thumbnails_end_is_not_the_pictures() -> None:
    """An EXIF thumbnail is a whole JPEG inside the header."""
    thumbnail, data = jpeg(), WHOLE["baseline"]
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = data[:2] + segment + data[2:]
    assert decode(encoded(whole)).shape == (48, 64, 3)
    with pytest.raises(DsegError, match="broken jpeg image"):
        encoded(whole[: len(whole) * 3 // 4])


def test_pngs_that_are_cut() -> None:
    data = bytes(cv2.imencode(".png", bags.picture(2))[1])
    assert encoded(data).data == data
    for cut in (len(data) // 2, len(data) - 5):
        with pytest.raises(DsegError, match=r"^broken png image$"):
            encoded(data[:cut])


def as_png(picture: PIL.Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def test_pictures_that_are_not_plain_colour() -> None:
    """Written by Pillow, read by ours: alpha is left out, grey is repeated, 16 bits give their high byte."""
    rgb = bags.picture(4)
    alpha = RNG.integers(0, 256, rgb.shape[:2]).astype(np.uint8)
    np.testing.assert_array_equal(decode(encoded(as_png(PIL.Image.fromarray(np.dstack([rgb, alpha]))))), rgb)
    grey = np.repeat(rgb[..., :1], 3, 2)
    np.testing.assert_array_equal(decode(encoded(as_png(PIL.Image.fromarray(rgb[..., 0])))), grey)
    deep = RNG.integers(0, 65536, (48, 64)).astype(np.uint16)
    np.testing.assert_array_equal(decode(encoded(as_png(PIL.Image.fromarray(deep))))[..., 0], deep >> 8)
    with PIL.Image.open(BytesIO(WHOLE["grey"])) as picture:
        wanted = np.asarray(picture, dtype=np.int16)
    assert np.abs(decode(encoded(WHOLE["grey"])) - wanted[..., None]).max() <= 1


# Anything at all: an Image or a DsegError


def anything(data: st.DataObject) -> None:
    size = st.one_of(st.integers(0, 12), st.integers(0, 2**32 - 1))
    encoding = data.draw(st.one_of(st.sampled_from(ENCODINGS), st.text(max_size=12)))
    step = data.draw(st.one_of(st.integers(0, 60), size))
    content = data.draw(st.one_of(st.binary(max_size=800), st.integers(0, 3000).map(bytes)))
    msg = ros.message(
        "sensor_msgs/msg/Image", header=ros.header(data.draw(st.integers(0, 2**31)), "camera"),
        height=data.draw(size), width=data.draw(size), encoding=encoding, is_bigendian=data.draw(st.integers(0, 255)),
        step=step, data=np.frombuffer(content, np.uint8),
    )  # fmt: skip
    try:
        rgb = ros.image_from_message(msg).rgb
    except DsegError as error:
        assert repr(encoding) in str(error) or encoding in str(error)
    else:
        assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.size


def any_compressed(data: st.DataObject) -> None:
    """Garbage behind true beginnings, and true pictures with bytes changed."""
    start = data.draw(st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xda", b"\x89PNG\r\n\x1a\n", *WHOLE.values()]))
    content = bytearray(start + data.draw(st.binary(max_size=200)))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=4)):
        if at < len(content):
            content[at] = value
    try:
        picture = decode(encoded(bytes(content)))
    except DsegError:
        return
    assert picture.ndim == 3


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_image_is_read_or_refused(data: st.DataObject) -> None:
    anything(data)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_compressed_image_is_read_or_refused(data: st.DataObject) -> None:
    any_compressed(data)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(st.data())
def test_many_images_are_read_or_refused(data: st.DataObject) -> None:
    anything(data)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(st.data())
def test_many_compressed_images_are_read_or_refused(data: st.DataObject) -> None:
    any_compressed(data)
