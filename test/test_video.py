"""Videos of single packets: pictures as of the whole file, whatever the order; what is broken costs what it must."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import bags
import numpy as np
import pytest
import videos
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dseg_core import messages as ros
from dseg_core.bag import BagReader
from dseg_core.errors import DsegError
from dseg_core.frames_from_bag import record
from dseg_core.image_codecs import decode
from dseg_core.images_from_packets import images_from_packets
from dseg_core.images_from_source import open_source
from dseg_core.messages.nal_units import Packet, PacketReader, codec_from_name
from dseg_core.stage_options import RecordOptions, StoreOptions
from dseg_core.store import FrameStore

KINDS = [(codec, bframes) for codec in videos.NAMES for bframes in (0, 3)]


def result(image: ros.VideoImage) -> NDArray[np.uint8] | str:
    try:
        return image.image().rgb
    except DsegError as error:
        return error.what


def results(messages: Iterable[Any]) -> list[NDArray[np.uint8] | str]:
    """Every picture, or why there is none, when all packets are there."""
    decoder = ros.VideoDecoder()
    images = [decoder.push(message) for message in messages]
    decoder.close()
    return [result(image) for image in images]


def told(video: videos.Video, found: Sequence[NDArray[np.uint8] | str], numbers: Sequence[int]) -> dict[str, list[int]]:
    """Why packets gave no picture; the pictures of all others must be right."""
    reasons: dict[str, list[int]] = {}
    for number, picture in zip(numbers, found, strict=True):
        if isinstance(picture, str):
            reasons.setdefault(picture, []).append(number)
        else:
            np.testing.assert_array_equal(picture, video.picture(number), str(number))
    return reasons


@pytest.mark.parametrize(("codec", "bframes"), KINDS)
@pytest.mark.parametrize("kind", ros.VIDEO_TYPES)
def test_pictures_are_those_of_the_file(codec: str, bframes: int, kind: str) -> None:
    video = videos.video(codec, bframes)
    assert (list(video.shown) != sorted(video.shown)) == bool(bframes)
    count = len(video.packets)
    assert not told(video, results(video.message(i, kind) for i in range(count)), range(count))


@pytest.mark.parametrize(("codec", "bframes"), KINDS)
@pytest.mark.parametrize("wanted", [[29], [4, 17, 28], [12, 3, 25, 3], list(range(29, -1, -1))], ids=str)
def test_any_order_and_any_choice(codec: str, bframes: int, wanted: list[int]) -> None:
    """Pictures nobody asks for are passed over; those asked for late, or twice, are still there."""
    video = videos.video(codec, bframes)
    decoder = ros.VideoDecoder()
    kept = {}
    for number in range(len(video.packets)):
        image = decoder.push(video.message(number))
        if number in wanted:
            kept[number] = image
    decoder.close()
    for number in wanted:
        image = kept[number].image()
        assert (image.stamp_ns, image.frame_id) == (video.stamp(number), "camera_optical")
        np.testing.assert_array_equal(image.rgb, video.picture(number))


@pytest.mark.parametrize("codec", videos.NAMES)
def test_live_pictures_need_no_later_packet(codec: str) -> None:
    video = videos.video(codec)
    decoder = ros.VideoDecoder()
    for number in range(12):
        image = decoder.push(video.message(number))
        assert image.ready
        np.testing.assert_array_equal(image.image().rgb, video.picture(number))


@pytest.mark.parametrize("codec", videos.NAMES)
def test_pictures_out_of_order_wait_for_later_packets(codec: str) -> None:
    video = videos.video(codec, 3)
    decoder = ros.VideoDecoder()
    images = [decoder.push(video.message(number)) for number in range(2)]
    assert not images[1].ready
    with pytest.raises(DsegError, match="needs later packets"):
        images[1].image()
    images += [decoder.push(video.message(number)) for number in range(2, 18)]
    assert images[1].ready
    np.testing.assert_array_equal(images[1].image().rgb, video.picture(1))


def test_only_packets_that_may_be_asked_for_wait() -> None:
    """Of a stream nobody looks at, no more waits than since its last key frame; of one without key frames, 600."""
    video = videos.video("h264")
    decoder = ros.VideoDecoder()
    for _ in range(50):
        for number in range(30):
            image = decoder.push(video.message(number))
        assert len(decoder._waiting) <= 10
    np.testing.assert_array_equal(image.image().rgb, video.picture(29))
    endless = videos.video("h264", every=250)
    decoder = ros.VideoDecoder()
    first = decoder.push(endless.message(0))
    for _ in range(40):
        for number in range(1, 30):
            image = decoder.push(endless.message(number))
    assert len(decoder._waiting) <= 600
    np.testing.assert_array_equal(first.image().rgb, endless.picture(0))


@pytest.mark.parametrize(("codec", "bframes"), KINDS)
def test_streams_that_begin_before_a_key_frame(codec: str, bframes: int) -> None:
    video = videos.video(codec, bframes)
    numbers = range(5, 30)
    key = next(i for i in numbers if i % 10 == 0)
    reasons = told(video, results(video.message(i) for i in numbers), numbers)
    assert reasons == {"no key frame yet": list(range(5, key))}


@pytest.mark.parametrize("codec", videos.NAMES)
@pytest.mark.parametrize(("damage", "why"), [("lost", "lost h264 packet"), ("garbage", "packet before")])
def test_damage_lasts_to_the_next_key_frame(codec: str, damage: str, why: str) -> None:
    video = videos.video(codec)
    messages = [video.message(i) for i in range(30)]
    messages[13] = videos.packet_message(videos.FOXGLOVE, codec, b"garbage" * 9, video.stamp(13))
    numbers = [i for i in range(30) if damage != "lost" or i != 13]
    reasons = told(video, results(messages[i] for i in numbers), numbers)
    assert sorted(i for found in reasons.values() for i in found) == [i for i in numbers if 13 <= i < 20]
    if codec == "h264":
        assert any(why in reason for reason in reasons)


@pytest.mark.parametrize("part", [0.3, 0.9])
@pytest.mark.parametrize("size", [1, 5])
def test_cut_packets(part: float, size: int) -> None:
    video = videos.video("h264", size=size)
    messages = [video.message(i) for i in range(30)]
    messages[13].data = messages[13].data[: int(len(messages[13].data) * part)]
    reasons = told(video, results(messages), range(30))
    assert reasons == {
        "broken h264 packet": [13], "broken h264 packet before, no key frame since": list(range(14, 20)),
    }  # fmt: skip


@pytest.mark.parametrize("cut", range(11, 20))
def test_cut_packets_among_pictures_out_of_order(cut: int) -> None:
    """The damage comes to light when the picture is shown, packets later: none of those in between may slip through."""
    video = videos.video("h264", 3, size=3)
    messages = [video.message(i) for i in range(30)]
    messages[cut].data = messages[cut].data[: len(messages[cut].data) // 2]
    reasons = told(video, results(messages), range(30))
    missing = {i for found in reasons.values() for i in found}
    assert cut in missing and missing <= set(range(cut, 20))


def test_lost_pictures_that_no_other_needs_cost_nothing_more() -> None:
    video = videos.video("h264", 3)
    reader = PacketReader("h264")
    spare = next(i for i, data in enumerate(video.packets) if not reader.read(data).reference)
    numbers = [i for i in range(30) if i != spare]
    assert not told(video, results(video.message(i) for i in numbers), numbers)


@pytest.mark.parametrize("codec", videos.NAMES)
def test_open_groups_of_pictures(codec: str) -> None:
    """Key frames whose leading pictures need the group before: those are missing after a damage, the others not."""
    video = videos.video(codec, 2, more=":open-gop=1")
    assert not told(video, results(video.message(i) for i in range(30)), range(30))
    reasons = told(video, results(video.message(i) for i in range(5, 30)), range(5, 30))
    missing = [i for found in reasons.values() for i in found]
    assert 5 in missing and max(missing) < 15
    for wanted in range(8, 14):  # nothing that the only one asked for needs is dropped
        decoder = ros.VideoDecoder()
        held = [decoder.push(video.message(i)) for i in range(wanted + 1)][-1]
        for i in range(wanted + 1, 30):
            decoder.push(video.message(i))
        np.testing.assert_array_equal(held.image().rgb, video.picture(wanted))


def test_pictures_follow_by_their_numbers() -> None:
    """Modulo 16; the second field of a picture has the number of the first."""
    steps = {last: [n for n in range(16) if Packet(number=n, numbers=16).follows(last)] for last in (3, 15)}
    assert steps == {3: [3, 4], 15: [0, 15]}
    assert Packet(number=9, numbers=16, fresh=True).follows(3) and Packet(number=9).follows(3)


def test_intra_refresh() -> None:
    """Streams without key frames heal in waves: pictures come once a wave has passed, and are then right."""
    video = videos.video("h264", more=":intra-refresh=1")
    reasons = told(video, results(video.message(i) for i in range(5, 30)), range(5, 30))
    missing = [i for found in reasons.values() for i in found]
    assert missing == list(range(5, max(missing) + 1)) and max(missing) < 22


@pytest.mark.parametrize("codec", videos.NAMES)
def test_parameter_sets_in_messages_of_their_own(codec: str) -> None:
    video = videos.video(codec)
    kinds = {"h264": lambda unit: unit[0] & 31 in (1, 5), "h265": lambda unit: unit[0] >> 1 & 63 < 32}
    units = video.packets[0].replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    first = next(i for i, unit in enumerate(units) if kinds[codec](unit))
    head, body = (b"".join(b"\0\0\0\1" + unit for unit in part) for part in (units[:first], units[first:]))
    messages = [videos.packet_message(videos.FFMPEG, codec, data, 1) for data in (head, body)]
    found = results([*messages, *(video.message(i) for i in range(1, 10))])
    assert isinstance(found[0], str) and "no picture in" in found[0]
    assert not told(video, found[1:], range(10))


def test_formats() -> None:
    h264 = ("h264", "H264", "libx264", "h264_nvenc", "h264_vaapi", "h264;bgr8;bgr8;yuv420p", "libx264rgb", "avc1")
    hevc = ("h265", "hevc", "libx265", "hevc_nvenc", "hevc_vaapi", "hevc;rgb8;rgb8;nv12", "HEVC", "x265")
    assert {codec_from_name(name) for name in h264} == {"h264"}
    assert {codec_from_name(name) for name in hevc} == {"hevc"}
    for name in ("av1", "vp9", "", "mjpeg", "h263", "libaom-av1"):
        message = videos.packet_message(videos.FOXGLOVE, name, b"", 1)
        with pytest.raises(DsegError, match=f"video format '{name}' cannot be read"):
            ros.VideoDecoder().push(message).image()


def test_a_stream_that_changes_its_codec() -> None:
    first, other = videos.video("h264"), videos.video("h265")
    found = results([first.message(0), other.message(0), first.message(1)])
    assert found[1] == "video changes from h264 to hevc"
    assert not told(first, [found[0], found[2]], [0, 1])


# In bags


def video_bag(path: Path, video: videos.Video, kind: str, storage: str = "mcap", skip: int = 0) -> Path:
    """The usual wall and box before a camera that sends video: packet after packet, 33 ms apart."""
    rows = [
        ("/camera/image_raw/ffmpeg", video.message(i, kind), bags.START_NS + i * videos.STEP_NS)
        for i in range(skip, len(video.packets))
    ]
    sweeps = range(100, len(video.packets) * 33 - 40, 100)
    return bags.write_bag(path, sweeps, storage=storage, leave_out=["/camera/image_raw"], more=rows)


@pytest.mark.parametrize(("codec", "bframes"), KINDS)
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_videos_in_bags_come_in_the_order_of_their_stamps(
    tmp_path: Path, codec: str, bframes: int, storage: str
) -> None:
    video = videos.video(codec, bframes)
    bag = video_bag(tmp_path / "bag", video, videos.FFMPEG, storage)
    seen = []
    with BagReader(bag) as reader:
        plain = [message.topic for message in reader.messages()]
        made = []
        for message in images_from_packets(reader, reader.messages()):
            made.append(message.topic)
            if isinstance(message.data, ros.VideoImage):
                image = message.data.image()  # at once, as nothing more may come
                number = (image.stamp_ns - bags.START_NS) // videos.STEP_NS
                np.testing.assert_array_equal(image.rgb, video.pictures[number])
                seen.append(number)
    assert made == plain
    assert seen == list(range(30))


def test_bags_that_do_not_tell_their_types(tmp_path: Path) -> None:
    """sqlite3 bags of Humble have no definitions in them."""
    video = videos.video("h264")
    for kind in ros.VIDEO_TYPES:
        bag = video_bag(tmp_path / kind.split("/")[-1], video, kind, "sqlite3")
        with sqlite3.connect(next(bag.glob("*.db3"))) as database:
            database.execute("DELETE FROM message_definitions")
        with BagReader(bag) as reader:
            messages = [m.data for m in images_from_packets(reader, reader.messages(["/camera/image_raw/ffmpeg"]))]
        np.testing.assert_array_equal(messages[7].image().rgb, video.picture(7))


@pytest.mark.parametrize(("codec", "bframes"), KINDS)
@pytest.mark.parametrize("kind", ros.VIDEO_TYPES)
def test_frames_of_videos_are_those_of_plain_images(tmp_path: Path, codec: str, bframes: int, kind: str) -> None:
    video = videos.video(codec, bframes)
    rows = [
        ("/camera/image_raw", ros.image_to_message(stamp, "camera_optical", picture), stamp)
        for i, picture in enumerate(video.pictures)
        for stamp in [bags.START_NS + i * videos.STEP_NS]
    ]
    options = RecordOptions(store=StoreOptions(image_format="png"))
    record([video_bag(tmp_path / "bag", video, kind)], tmp_path / "video", options)
    with BagReader(tmp_path / "bag") as reader:
        infos = [("/camera/camera_info", m.data, m.log_ns) for m in reader.messages(["/camera/camera_info"])]
    plain = bags.write_bag(tmp_path / "again/bag", range(100, 950, 100), [], more=[*rows, *infos])
    record([plain], tmp_path / "images", options)
    ours, theirs = FrameStore(tmp_path / "video"), FrameStore(tmp_path / "images")
    assert ours.view_keys == theirs.view_keys and len(ours.view_keys) == 9
    for key in ours.view_keys:
        a, b = ours.view(key), theirs.view(key)
        assert a.stamp_ns == b.stamp_ns
        np.testing.assert_array_equal(a.regions, b.regions)
        np.testing.assert_array_equal(decode(a.image), decode(b.image))
    assert len(np.unique(ours.view(ours.view_keys[0]).regions)) > 2


@pytest.mark.parametrize(
    ("every", "windows", "expected"),
    [
        (20, (":0.45", "3.45:3.85"), [*range(5), *range(35, 39)]),
        (20, ("3.45:3.85",), [*range(35, 39)]),
        (60, (":0.05", "11.45:11.85"), [0]),
    ],
)
def test_chosen_times_show_their_own_pictures(
    tmp_path: Path, every: int, windows: tuple[str, ...], expected: list[int]
) -> None:
    """Read from the key frame before them; where that is too long ago, refused: never made from another time's picture.

    In the first and last the numbers that H.264 gives to pictures go on as if nothing had been left out.
    """
    video = videos.video("h264", count=120, every=every)
    more = []
    for number in range(120):
        stamp = bags.START_NS + number * 100 * bags.MS
        more.append(("/camera/image_raw/h264", video.message(number, stamp=stamp), stamp))
        more.append(("/camera/camera_info", ros.camera_to_message(stamp, bags.CAMERA), stamp))
    bag = bags.write_bag(tmp_path / "drive", range(0, 12_000, 100), (), more=more)
    record([bag], tmp_path / "frames", RecordOptions(windows=windows))
    store, found = FrameStore(tmp_path / "frames"), []
    for key in store.view_keys:
        found.append((key.stamp_ns - bags.START_NS) // (100 * bags.MS))
        away = decode(store.view(key).image).astype(int) - video.picture(found[-1])
        assert np.abs(away).mean() < 10, found[-1]
    assert found == expected


def test_recording_counts_pictures_that_a_video_lacks(tmp_path: Path) -> None:
    video = videos.video("h264", every=15)
    summary = record([video_bag(tmp_path / "bag", video, videos.FFMPEG, skip=1)], tmp_path / "out", RecordOptions())
    camera = summary.results["sensors"]["camera"]
    assert camera["dropped"]["no key frame yet"] == 4
    assert camera["paired"] == 5


@pytest.mark.parametrize(("codec", "bframes"), KINDS)
def test_segmenting_reads_videos_in_bags(tmp_path: Path, codec: str, bframes: int) -> None:
    video = videos.video(codec, bframes)
    source = open_source(video_bag(tmp_path / "bag", video, videos.FOXGLOVE, skip=5), [], 10.0)
    images = list(source.images())
    first = int(next(i for i in range(5, 30) if i % 10 == 0))
    wanted = sorted(video.shown[first:])
    assert [int(image.name) for image in images] == [bags.START_NS + i * videos.STEP_NS for i in wanted]
    for image, number in zip(images, wanted, strict=True):
        np.testing.assert_array_equal(image.rgb, video.pictures[number])
    assert source.remarks == Counter({"/camera/image_raw/ffmpeg: no key frame yet": first - 5})


# Anything at all: an Image or a DsegError


def any_packets(data: st.DataObject) -> None:
    """Garbage, true packets in any order, and true packets with bytes changed or cut off."""
    video = videos.video(data.draw(st.sampled_from(["h264", "h265"])), 0, 8, 4)
    junk = st.binary(max_size=100).map(lambda tail: b"\0\0\1" + tail)
    packet = st.one_of(st.sampled_from(video.packets), st.binary(max_size=60), junk)
    decoder = ros.VideoDecoder()
    images = []
    for _ in range(data.draw(st.integers(1, 8))):
        content = bytearray(data.draw(packet))
        for at, value in data.draw(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=3)):
            if at < len(content):
                content[at] = value
        content = content[: data.draw(st.one_of(st.just(5000), st.integers(0, 600)))]
        kind = data.draw(st.sampled_from(ros.VIDEO_TYPES))
        image = decoder.push(
            videos.packet_message(kind, video.codec, bytes(content), data.draw(st.integers(0, 10**18)))
        )
        if data.draw(st.booleans()):
            images.append(image)
        if data.draw(st.booleans()):
            result(image)
    decoder.close()
    for image in images:
        found = result(image)
        assert isinstance(found, str) or (found.dtype == np.uint8 and found.ndim == 3)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_packets_are_decoded_or_refused(data: st.DataObject) -> None:
    any_packets(data)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(st.data())
def test_many_packets_are_decoded_or_refused(data: st.DataObject) -> None:
    any_packets(data)


@given(st.binary(max_size=300), st.sampled_from(["h264", "hevc"]))
def test_any_bytes_are_read_as_units(data: bytes, codec: str) -> None:
    reader = PacketReader(codec)
    for content in (data, b"\0\0\1" + data, b"\0\0\1\x67" + data, b"\0\0\1\x41" + data, b"\0\0\1\x06" + data):
        reader.read(content)
