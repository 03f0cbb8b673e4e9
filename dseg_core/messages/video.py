"""Video as messages of one packet each: H.264 and H.265, of Foxglove's and of ffmpeg_image_transport's type."""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import Any
from weakref import WeakValueDictionary

from dseg_core.errors import DsegError
from dseg_core.messages.common import stamp_ns
from dseg_core.messages.nal_units import Packet, PacketReader, codec_from_name
from dseg_core.records import Image

VIDEO_TYPES = ("foxglove_msgs/msg/CompressedVideo", "ffmpeg_image_transport_msgs/msg/FFMPEGPacket")

_REORDERED = 16
"""By so many packets at most may a picture come before others that are shown earlier, in both codecs."""
_WAITING = 600
_LARGEST = 2**26  # pixels; garbage can claim any size


class VideoImage:
    """A picture of a video that is decoded when asked for. `stamp_ns`, `frame_id`: of its message's header."""

    __slots__ = ("__weakref__", "_decoder", "_index", "_picture", "frame_id", "stamp_ns")

    def __init__(self, decoder: VideoDecoder, index: int, stamp: int, frame_id: str) -> None:
        self.stamp_ns, self.frame_id = stamp, frame_id
        self._decoder, self._index = decoder, index
        self._picture: Any = None  # PyAV's frame, or why there is none, as a string

    @property
    def ready(self) -> bool:
        """Whether all packets that its decoding may need have been pushed."""
        return self._decoder.has(self)

    def image(self) -> Image:
        """The picture, in colours as FFmpeg converts them by default.

        Raises:
            DsegError: There is none: no key frame yet, a broken packet, or one in whose wake all are broken.
        """
        if self._picture is None:
            self._decoder.decode(self)
        if isinstance(self._picture, str):
            raise DsegError(self._picture)
        if self._picture is None:
            raise DsegError(f"{self._decoder.codec} picture needs later packets")
        try:
            return Image(self.stamp_ns, self.frame_id, self._picture.to_ndarray(format="rgb24"))
        except (OSError, ValueError) as error:  # FFmpeg's errors are both
            raise DsegError(f"{self._decoder.codec} picture cannot be converted: {error}") from None


class VideoDecoder:
    """Decodes the packets of one topic, each at most once and in order, when a picture is asked for, by any thread.

    Only packets wait, and not more than 600; pictures are kept while somebody holds their VideoImage. What was broken
    costs its pictures until the next key frame: a packet that FFmpeg finds corrupt, and a lost one (H.264 numbers its
    pictures; H.265's decoder misses those it needs). FFmpeg does not see all damage inside a packet.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.codec = ""
        """"h264" or "hevc", from the first message on."""
        self._context: Any = None
        self._packets = PacketReader("")
        self._waiting: deque[tuple[int, bytes, Packet]] = deque()
        self._images: WeakValueDictionary[int, VideoImage] = WeakValueDictionary()
        self._pushed = 0
        self._closed = False
        self._refused: str | None = "no key frame yet"  # why nothing is decoded until a key frame
        self._broken: deque[range] = deque(maxlen=8)  # packets whose pictures are no good, though there may be some
        self._decoded: deque[int] = deque()  # packets whose pictures are still to be handed out
        self._pictures: dict[int, Any] = {}  # those that came before others which come earlier in the packets
        self._key = -1  # the last one decoded
        self._last_number: int | None = None

    def push(self, msg: Any) -> VideoImage:
        """Take the next message, of a type in VIDEO_TYPES. What is wrong with it, `VideoImage.image` says.

        Raises:
            DsegError: PyAV is not installed.
        """
        frame_id = str(msg.frame_id if hasattr(msg, "frame_id") else msg.header.frame_id)
        image = VideoImage(self, self._pushed, stamp_ns(msg), frame_id)
        self._pushed += 1
        try:
            codec = codec_from_name(str(msg.format if hasattr(msg, "format") else msg.encoding))
            self._expect(codec)
        except DsegError as error:
            image._picture = error.what
            return image
        data = bytes(memoryview(msg.data))
        with self._lock:
            self._push(image, data)
        return image

    def _push(self, image: VideoImage, data: bytes) -> None:
        packet = self._packets.read(data)
        self._images[image._index] = image
        self._waiting.append((image._index, data, packet))
        self._drop_unwanted()
        # The first key frame tells whether pictures come out of order.
        while self._waiting and ((packet.key and self._key < 0) or len(self._waiting) > _WAITING):
            self._feed(*self._waiting.popleft())

    def close(self) -> None:
        """Say that no more packets will come."""
        self._closed = True

    def decode(self, image: VideoImage) -> None:
        """Decode until an image has its picture, or the reason why there is none."""
        with self._lock:
            while image._picture is None and self._waiting:
                self._feed(*self._waiting.popleft())
            if image._picture is None and self._closed:
                self._take(None)
                image._picture = image._picture or f"no picture in {self.codec} packet"

    def has(self, image: VideoImage) -> bool:
        """Whether all packets that an image's decoding may need have been pushed."""
        reordered = self._context is not None and self._context.has_b_frames
        return self._closed or self._pushed - image._index > (_REORDERED if reordered else 0)

    def _drop_unwanted(self) -> None:
        """Forget packets that wait before a key frame, when nobody holds their images: nothing later needs them."""
        last = 0
        for place, (index, _, packet) in enumerate(self._waiting):
            if packet.fresh:
                last = place
            if index in self._images:
                break
        for _ in range(last):
            waiting = self._waiting.popleft()
            if not waiting[2].picture:
                self._feed(*waiting)  # parameters that pictures to come may need

    def _expect(self, codec: str) -> None:
        if not self.codec:
            self.codec, self._packets = codec, PacketReader(codec)
        if codec != self.codec:
            raise DsegError(f"video changes from {self.codec} to {codec}")

    def _feed(self, index: int, data: bytes, packet: Packet) -> None:
        """Give one packet to the decoder, and hand out what comes of it."""
        if not packet.picture:
            self._tell(index, f"no picture in {self.codec} packet")
        if not packet.units:
            self._break(index)
            return
        if packet.picture and not packet.key and not packet.follows(self._last_number):
            self._break(index, "lost")
        if self._context is None and (packet.key or not packet.picture):
            self._open()
        if packet.key:
            if self._refused is not None:
                self._take(None)
                self._context.flush_buffers()
                self._broken.clear()
            self._refused, self._key = None, index
        elif packet.picture and self._refused is not None:
            self._tell(index, self._refused)
            return
        if packet.picture:
            self._decoded.append(index)
        self._take(index, data)
        if packet.reference:
            self._last_number = packet.number

    def _open(self) -> None:
        try:
            import av
        except ImportError:
            raise DsegError(f"{self.codec} video cannot be read without PyAV", fix="Run `pip install av`") from None
        self._context = av.CodecContext.create(self.codec, "r")
        # With more threads FFmpeg's H.264 decoder does not tell what is corrupt.
        self._context.thread_count = 1
        self._context.options = {"max_pixels": str(_LARGEST)}

    def _take(self, index: int | None, data: bytes = b"") -> None:
        """Decode a packet, or what the decoder still holds back, and give pictures to those who hold their images."""
        if self._context is None:
            return
        import av

        packet = None
        if index is not None:
            packet = av.Packet(data)
            packet.pts = index
        try:
            self._pictures.update({picture.pts: picture for picture in self._context.decode(packet)})
        except av.EOFError:
            pass
        except av.FFmpegError:
            if index is not None:
                self._tell(index, f"broken {self.codec} packet")
                self._break(index)
        self._hand_out(last=index is None)

    def _hand_out(self, last: bool) -> None:
        """In the order of the packets: then it is known what is corrupt among all that a picture was made from."""
        while self._decoded:
            index = self._decoded[0]
            reordered = self._context.has_b_frames and len(self._decoded) <= _REORDERED
            if index not in self._pictures and reordered and not last:
                return
            self._decoded.popleft()
            picture = self._pictures.pop(index, None)
            if picture is not None and picture.is_corrupt:
                self._tell(index, f"broken {self.codec} packet")
                self._break(index)
            elif any(index in broken for broken in self._broken):
                self._tell(index, self._wake("broken"))
            else:
                self._tell(index, picture or f"no picture in {self.codec} packet")
        self._pictures.clear()

    def _break(self, index: int, how: str = "broken") -> None:
        """Nothing from this packet on is any good, up to the next key frame, which may have been decoded already."""
        later = index < self._key
        self._broken.append(range(index, self._key if later else sys.maxsize))
        if not later:
            self._refused, self._last_number = self._refused or self._wake(how), None

    def _wake(self, how: str) -> str:
        return f"{how} {self.codec} packet before, no key frame since"

    def _tell(self, index: int, picture: Any) -> None:
        """Give a picture, or why there is none, to who holds the image."""
        image = self._images.get(index)
        if image is not None and image._picture is None:
            image._picture = picture
