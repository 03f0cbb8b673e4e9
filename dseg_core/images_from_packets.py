"""A bag's messages with its videos' packets as pictures, each where its time is."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from dseg_core.bag import BagMessage, BagReader
from dseg_core.messages import VIDEO_TYPES, VideoDecoder, VideoImage


def images_from_packets(reader: BagReader, messages: Iterable[BagMessage]) -> Iterator[BagMessage]:
    """The same messages, but a video's have a VideoImage as `data`, whose decoding waits until it is asked for.

    Pictures of a stream that sends them out of order (B-frames) are put in the order of their stamps. Their packets are
    read up to 16 ahead, and all other messages wait with them; of other streams nothing is held back.

    Args:
        reader: The bag they are from.
        messages: In the order of their log time.

    Raises:
        DsegError: There is a video, but no PyAV.
    """
    decoders = {topic.name: VideoDecoder() for topic in reader.of_type(*VIDEO_TYPES)}
    early: dict[str, list[tuple[int, int, VideoImage]]] = {topic: [] for topic in decoders}
    held: deque[BagMessage] = deque()

    def release(last: bool) -> Iterator[BagMessage]:
        while held and (last or not isinstance(held[0].data, VideoImage) or held[0].data.ready):
            message = held.popleft()
            if message.topic in early:
                message = replace(message, data=heapq.heappop(early[message.topic])[-1])
            yield message

    for number, message in enumerate(messages):
        if message.topic in decoders:
            image = decoders[message.topic].push(message.data)
            heapq.heappush(early[message.topic], (image.stamp_ns, number, image))
            message = replace(message, data=image)
        held.append(message)
        yield from release(last=False)
    for decoder in decoders.values():
        decoder.close()
    yield from release(last=True)
