"""PNG files of images of ids: large even areas, whose rows hardly differ (W3C PNG; RFC 1950 and 1951).

Each row is stored as its difference from the one above, and of equal differences the first and how often it comes
again. Where nothing changes blocks of pixels are passed over, and only edges cost time. zlib looks at every byte twice,
for its matches and for its checksum, and takes five times as long; OpenCV and Pillow try every filter besides.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.scratch import Scratch

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _PALETTED = 0, 3  # colour types
_UP = 2  # the filter that takes the byte above away
_BLOCK = 32  # pixels that are looked at together
_LONGEST = 258  # bytes of a match
_ADLER = 65521
_FIXED_CODES = ((0, 48, 8), (144, 400, 9), (256, 0, 7), (280, 192, 8))
"""Deflate's fixed codes: first symbol, its code, its number of bits."""

_scratch = Scratch()


def png_from_ids(ids: NDArray[np.uint8] | NDArray[np.uint16], palette: bytes = b"") -> bytes:
    """A PNG of ids, uint8 or uint16 (H, W): grey values, or colours by a palette of three bytes an id."""
    height, width = ids.shape
    most = height * (width * ids.itemsize + 1)  # codes, one a byte, of 9 bits at most
    codes, packed = _scratch.take("codes", most, np.int32), _scratch.take("packed", most * 9 // 32 + 16, np.uint32)
    tables = _LITERALS, _MATCHES[ids.itemsize]
    count, checksum = _filtered(np.ascontiguousarray(ids), ids.itemsize, *tables, codes)
    size = _packed(codes[:count], checksum, packed)
    kind = _PALETTED if palette else _GRAY
    head = struct.pack(">IIBBBBB", width, height, 8 * ids.itemsize, kind, 0, 0, 0)
    colors = _chunk(b"PLTE", palette) if palette else b""
    data = packed.view(np.uint8)[:size].tobytes()
    return _SIGNATURE + _chunk(b"IHDR", head) + colors + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _fixed_code(symbol: int) -> tuple[int, int]:
    """A symbol's bits, in the order they are written from the lowest on, and how many they are."""
    start, code, bits = next(row for row in reversed(_FIXED_CODES) if symbol >= row[0])
    return int(f"{code + symbol - start:0{bits}b}"[::-1], 2), bits


def _literals() -> NDArray[np.int64]:
    """The code of every byte: its bits above its number of bits, which takes 8."""
    return np.array([bits << 8 | count for bits, count in map(_fixed_code, range(256))], np.int64)


def _matches(distance: int) -> NDArray[np.int64]:
    """The same of every length of a match, 3 to 258 bytes, with its distance, 1 or 2."""
    table = np.zeros(_LONGEST + 1, np.int64)

    def put(length: int, symbol: int, extra: int, extra_bits: int) -> None:
        bits, count = _fixed_code(symbol)
        bits |= extra << count | (distance - 1) << 4 << (count + extra_bits)  # 5 bits of distance, the highest first
        table[length] = bits << 8 | (count + extra_bits + 5)

    length, symbol = 3, 257
    for extra_bits in (0, 0, 1, 2, 3, 4, 5):
        for _ in range(4):
            for extra in range(1 << extra_bits):
                put(length + extra, symbol, extra, extra_bits)
            length, symbol = length + (1 << extra_bits), symbol + 1
    put(_LONGEST, 285, 0, 0)
    return table


_LITERALS, _MATCHES = _literals(), {distance: _matches(distance) for distance in (1, 2)}


@compiled
def _filtered(
    ids: NDArray[np.uint16],
    size: int,
    literals: NDArray[np.int64],
    matches: NDArray[np.int64],
    codes: NDArray[np.int32],
) -> tuple[int, int]:
    """Fill in the codes of ids of `size` bytes, as differences of rows; how many, and their checksum (Adler-32)."""
    height, width = ids.shape
    count, low, high = 0, 1, 0
    blank = np.zeros(width, ids.dtype)
    for y in range(height):
        row, above = ids[y], ids[y - 1] if y else blank
        codes[count] = literals[_UP]
        count, low = count + 1, low + _UP
        high += low
        x = 0
        while x < width:
            difference = _difference(row[x], above[x])
            end = _run_end(row, above, x + 1, difference)
            alone, left = 1, size * (end - x - 1)  # pixels that are written, bytes that are the same again
            if left < 3:
                alone, left = end - x, 0
            for _ in range(alone):
                if size == 2:
                    codes[count] = literals[difference >> 8]
                    count, low = count + 1, low + (difference >> 8)
                    high += low
                codes[count] = literals[difference & 0xFF]
                count, low = count + 1, low + (difference & 0xFF)
                high += low
            if difference:
                for _ in range(left // size):
                    if size == 2:
                        low += difference >> 8
                        high += low
                    low += difference & 0xFF
                    high += low
            else:
                high += left * low
            while left:
                length = min(left, _LONGEST)
                length -= 2 if 0 < left - length < 3 else 0  # what is left must be enough for a match
                codes[count] = matches[length]
                count, left = count + 1, left - length
            x = end
        low, high = low % _ADLER, high % _ADLER
    return count, high << 16 | low


@compiled_within
def _difference(here: int, above: int) -> int:
    """Of each of the two bytes."""
    one, other = np.int64(here), np.int64(above)  # in Python, they are of the picture's kind
    return int(((one & 0xFF00) - (other & 0xFF00)) & 0xFF00 | (one - other) & 0xFF)


@compiled_within
def _run_end(row: NDArray[np.uint16], above: NDArray[np.uint16], x: int, difference: int) -> int:
    """The first pixel from x on whose difference is another."""
    while difference == 0 and x + _BLOCK <= len(row):
        here, over = row[x : x + _BLOCK], above[x : x + _BLOCK]
        changed = 0
        for i in range(_BLOCK):  # without branches, so that the processor compares a block at once
            changed |= here[i] ^ over[i]
        if changed:
            break
        x += _BLOCK
    while x < len(row) and _difference(row[x], above[x]) == difference:
        x += 1
    return x


@compiled
def _packed(codes: NDArray[np.int32], checksum: int, out: NDArray[np.uint32]) -> int:
    """Write a zlib stream of one block of these codes; its length in bytes."""
    held, bits, words = np.int64(0x78 | 0x01 << 8 | 0b011 << 16), 19, 0  # zlib's header, and the block's
    for code in codes:
        held |= np.int64(code >> 8) << bits
        bits += code & 0xFF
        if bits >= 32:
            out[words] = held & 0xFFFFFFFF
            held, bits, words = held >> 32, bits - 32, words + 1
    bits += 7  # the block's end, all zeros
    bits += -bits % 8
    end = 4 * words + bits // 8
    while bits > 0:
        out[words] = held & 0xFFFFFFFF
        held, bits, words = held >> 32, bits - 32, words + 1
    content = out.view(np.uint8)
    for i in range(4):
        content[end + i] = checksum >> (24 - 8 * i) & 0xFF
    return end + 4
