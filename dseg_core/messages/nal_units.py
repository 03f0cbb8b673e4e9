"""What an H.264 or H.265 packet holds, as far as it tells which can be decoded (ITU-T H.264 and H.265, section 7.3)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dseg_core.errors import DsegError

_CODECS = {"h264": re.compile(r"(lib)?(open)?[xh]\.?264(rgb)?([-_].+)?|avc1?"),
           "hevc": re.compile(r"((lib)?[xh]\.?265|hevc)([-_].+)?")}  # fmt: skip
_START = b"\0\0\1"
_HEAD = 256  # bytes of a unit that are looked at: parameter sets and slice headers are shorter
_SLICE, _IDR, _SEI, _SPS = 1, 5, 6, 7
_RECOVERY_POINT = 6
_WITH_CHROMA = (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244)  # profiles that tell their chroma format
_HEVC_PICTURE, _HEVC_KEY, _HEVC_IDR = range(32), range(16, 24), (19, 20)


def codec_from_name(name: str) -> str:
    """The codec of a message's format or encoding, such as "h264", "hevc_nvenc" or "h264;bgr8;bgr8;yuv420p".

    Returns:
        "h264" or "hevc".

    Raises:
        DsegError: Another.
    """
    first = name.partition(";")[0].strip().lower()
    for codec, pattern in _CODECS.items():
        if pattern.fullmatch(first):
            return codec
    raise DsegError(f"video format {name!r} cannot be read: H.264 and H.265 can")


@dataclass(frozen=True)
class Packet:
    """What a packet holds. `units`: anything; `picture`: a picture.

    `key`: decoding can begin here; `fresh`: nothing from before it is used after it. `number`: H.264's `frame_num`, one
    more for each picture that others are predicted from, modulo `numbers` (0: gaps are allowed, or it is unknown).
    `reference`: others are predicted from it.
    """

    units: bool = False
    picture: bool = False
    key: bool = False
    fresh: bool = False
    number: int = 0
    numbers: int = 0
    reference: bool = False

    def follows(self, last: int | None) -> bool:
        """Whether no picture that this one may need is missing since the last reference, `last`."""
        return last is None or not self.numbers or self.fresh or (self.number - last) % self.numbers in (0, 1)


class PacketReader:
    """Reads the packets of one stream, in order. `codec`: "h264" or "hevc"."""

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self._number_bits, self._numbers, self._planes = 0, 0, False

    def read(self, data: bytes) -> Packet:
        """What is in a packet in Annex B format. Never raises: what cannot be read is no picture, nor a key."""
        try:
            return self._hevc(data) if self._codec == "hevc" else self._h264(data)
        except IndexError:
            return Packet()

    def _hevc(self, data: bytes) -> Packet:
        kinds = {unit[0] >> 1 & 63 for unit in _units(data)}
        pictures = [kind for kind in kinds if kind in _HEVC_PICTURE]
        key = bool(pictures) and all(kind in _HEVC_KEY for kind in pictures)
        return Packet(bool(kinds), bool(pictures), key, key and all(kind in _HEVC_IDR for kind in pictures))

    def _h264(self, data: bytes) -> Packet:
        recovers = units = False
        for unit in _units(data):
            kind, units = unit[0] & 31, True
            if kind == _SPS:
                self._parameters(_Bits(unit[1:]))
            elif kind == _SEI:
                recovers = recovers or _RECOVERY_POINT in _messages(unit[1:])
            elif kind in (_SLICE, _IDR):
                number = self._number(_Bits(unit[1:])) if self._number_bits else 0
                fresh = kind == _IDR
                return Packet(True, True, fresh or recovers, fresh, number, self._numbers, bool(unit[0] & 0x60))
        return Packet(units)

    def _parameters(self, bits: _Bits) -> None:
        """A sequence parameter set: how many bits `frame_num` has."""
        profile = bits.take(24) >> 16
        bits.number()
        self._planes = False
        if profile in _WITH_CHROMA:
            chroma = bits.number()
            self._planes = chroma == 3 and bool(bits.take(1))
            bits.number(), bits.number(), bits.take(1)
            if bits.take(1):
                for index in range(12 if chroma == 3 else 8):
                    if bits.take(1):
                        _skip_scaling(bits, 16 if index < 6 else 64)
        self._number_bits = min(bits.number(), 12) + 4
        order = bits.number()
        if order == 0:
            bits.number()
        elif order == 1:
            bits.take(1), bits.number(), bits.number()
            for _ in range(min(bits.number(), 255)):
                bits.number()
        bits.number()
        self._numbers = 0 if bits.take(1) else 1 << self._number_bits

    def _number(self, bits: _Bits) -> int:
        """`frame_num` of a slice header."""
        bits.number(), bits.number(), bits.number()
        if self._planes:
            bits.take(2)
        return bits.take(self._number_bits)


def _units(data: bytes) -> Iterator[bytes]:
    """The beginnings of a packet's units, without the bytes that only keep start codes from appearing in them."""
    at = data.find(_START)
    while at >= 0:
        at += len(_START)
        end = data.find(_START, at)
        unit = data[at : min(at + _HEAD, end if end >= 0 else len(data))]
        if unit:
            yield unit.replace(b"\0\0\3", b"\0\0")
        at = end


def _messages(unit: bytes) -> Iterator[int]:
    """The types of the messages in a unit of supplemental information."""
    at = 0
    while at < len(unit) - 2:
        values = [0, 0]  # type and size, each a sum of bytes of which all but the last are 255
        for which in (0, 1):
            more = 255
            while more == 255 and at < len(unit):
                more = unit[at]
                values[which] += more
                at += 1
        yield values[0]
        at += values[1]


class _Bits:
    """Bits of a unit, first to last. Raises IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        self._bits, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        """An unsigned number of `count` bits."""
        if count > self._left:
            raise IndexError
        self._left -= count
        return self._bits >> self._left & (1 << count) - 1

    def number(self) -> int:
        """An unsigned Exp-Golomb code."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def _skip_scaling(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.number()
            following = (last + (-(code // 2) if code % 2 == 0 else (code + 1) // 2)) % 256
        last = following or last
