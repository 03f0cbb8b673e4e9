"""Video as it comes: each packet becomes a picture when somebody wants it, and only then."""

from __future__ import annotations

from dseg_core.live.messages import LiveMessage
from dseg_core.messages import VideoDecoder, VideoImage


class LivePicture:
    """What a LiveMessage is for an image: a packet, and the picture that it becomes. `data`: the packet's CDR.

    Args:
        packet: Of a type in VIDEO_TYPES; its memory is held as long as the picture may be asked for.
        image: Its picture.
    """

    __slots__ = ("_image", "_packet", "data", "frame_id", "stamp_ns")

    def __init__(self, packet: LiveMessage, image: VideoImage) -> None:
        self._packet, self._image, self.data = packet, image, packet.data
        self.stamp_ns, self.frame_id = packet.stamp_ns, packet.frame_id

    def read(self) -> VideoImage:
        """The picture, not decoded yet."""
        return self._image


class LiveVideos:
    """The decoders of all cameras that send video. Pictures that are sent out of order (B-frames) cannot be had."""

    def __init__(self) -> None:
        self._decoders: dict[str, VideoDecoder] = {}

    def picture(self, sensor: str, packet: LiveMessage) -> LivePicture:
        """The next packet's. Every packet must be given, as others need it. Raises DsegError."""
        decoder = self._decoders.setdefault(sensor, VideoDecoder())
        return LivePicture(packet, decoder.push(packet.read()))

    def begin(self) -> None:
        """Packets have been left out: wait for key frames."""
        self._decoders.clear()
