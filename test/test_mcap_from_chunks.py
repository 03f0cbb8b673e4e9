"""MCAP files of chunks, read back by the mcap library: by their index, record by record, and compared with its own."""

from __future__ import annotations

import zlib
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import NonSeekingReader, SeekingReader
from mcap.records import Chunk, Statistics
from mcap.stream_reader import StreamReader, breakup_chunk
from mcap.writer import CompressionType, IndexType, Writer

from dseg_core.mcap_from_chunks import ChunkFile, ChunkMessage, packed_chunk

TOPICS = {"/points": "pkg/msg/Cloud", "/image": "pkg/msg/Image", "/mask": "pkg/msg/Image"}
Said = tuple[str, int, int, bytes]

messages = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(TOPICS)), st.integers(0, 2**63), st.integers(0, 2**63), st.binary(max_size=300)
        ),
        min_size=1,
        max_size=6,
    ),
    min_size=1,
    max_size=6,
)


def written(chunks: list[list[Said]], compress: bool) -> bytes:
    file = BytesIO()
    part = ChunkFile(file, profile="ros2", library="test")
    for chunk in chunks:
        said = []
        for topic, log_ns, sent_ns, data in chunk:
            known = part.channel(topic)
            number = known or part.declare(topic, TOPICS[topic], b"uint8 a", {"a": topic})
            said.append(ChunkMessage(number, log_ns, sent_ns, (data,)))
        part.append(packed_chunk(said, part.take_declarations(), compress))
    part.finish()
    return file.getvalue()


def by_library(chunks: list[list[Said]]) -> bytes:
    file = BytesIO()
    kinds = IndexType.CHUNK | IndexType.MESSAGE
    writer = Writer(file, chunk_size=2**62, compression=CompressionType.NONE, index_types=kinds)
    writer.start(profile="ros2", library="test")
    schemas: dict[str, int] = {}
    channels: dict[str, int] = {}
    for chunk in chunks:
        for topic, log_ns, sent_ns, data in chunk:
            kind = TOPICS[topic]
            if topic not in channels:
                if kind not in schemas:
                    schemas[kind] = writer.register_schema(kind, "ros2msg", b"uint8 a")
                channels[topic] = writer.register_channel(topic, "cdr", schemas[kind], {"a": topic})
            writer.add_message(channels[topic], log_ns, data, sent_ns)
        writer.flush()
    writer.finish()
    return file.getvalue()


@settings(max_examples=40, deadline=None)
@given(messages)
def test_uncompressed_files_are_the_librarys_but_for_the_place_of_declarations(chunks: list[list[Said]]) -> None:
    """Both declare a chunk's new channels in it; the library where each is first used, so the order is another."""
    found, expected = written(chunks, compress=False), by_library(chunks)
    assert len(found) == len(expected)
    one, other = (SeekingReader(BytesIO(data)).get_summary() for data in (found, expected))
    assert one is not None and other is not None
    assert (one.statistics, one.schemas, one.channels) == (other.statistics, other.schemas, other.channels)
    assert one.chunk_indexes == other.chunk_indexes
    if len({topic for chunk in chunks for topic, *_ in chunk}) == 1:
        assert found == expected


@settings(max_examples=40, deadline=None)
@given(messages, st.booleans())
def test_every_message_is_found_again(chunks: list[list[Said]], compress: bool) -> None:
    data = written(chunks, compress)
    said = sorted(message for chunk in chunks for message in chunk)
    for reader in (SeekingReader(BytesIO(data), validate_crcs=True), NonSeekingReader(BytesIO(data), True)):
        found = [(c.topic, m.log_time, m.publish_time, m.data) for _, c, m in reader.iter_messages()]
        assert sorted(found) == said
    for record in StreamReader(BytesIO(data), emit_chunks=True).records:
        if isinstance(record, Chunk):
            assert record.compression == ("lz4" if compress else "")
            assert record.uncompressed_crc
            breakup_chunk(record, validate_crc=True)
    for topic in TOPICS:  # by the index of messages
        reader = SeekingReader(BytesIO(data))
        assert sum(1 for _ in reader.iter_messages(topics=[topic])) == sum(m[0] == topic for m in said)


def test_a_file_of_nothing_is_whole() -> None:
    file = BytesIO()
    ChunkFile(file, profile="ros2", library="test").finish()
    summary = SeekingReader(BytesIO(file.getvalue())).get_summary()
    assert summary is not None and isinstance(summary.statistics, Statistics) and summary.statistics.message_count == 0


@pytest.mark.parametrize("compress", [True, False])
def test_content_and_checksum_do_not_depend_on_how_it_lies_in_memory(compress: bool) -> None:
    data = bytes(range(256)) * 1000
    one = packed_chunk([ChunkMessage(1, 5, 6, (data,))], b"declared", compress)
    other = packed_chunk([ChunkMessage(1, 5, 6, (memoryview(bytearray(data)),))], b"declared", compress)
    parted = packed_chunk([ChunkMessage(1, 5, 6, (data[:77], data[77:]))], b"declared", compress)
    assert (parted.checksum, parted.size, parted.places) == (one.checksum, one.size, one.places)
    assert b"".join(one.content) == b"".join(other.content)
    assert one.checksum == other.checksum == zlib.crc32(b"declared" + b"".join(one_piece(data)))


def one_piece(data: bytes) -> list[bytes]:
    """A message record by the library."""
    from mcap.data_stream import RecordBuilder
    from mcap.records import Message

    builder = RecordBuilder()
    Message(channel_id=1, log_time=5, data=data, publish_time=6, sequence=0).write(builder)
    return [builder.end()]
