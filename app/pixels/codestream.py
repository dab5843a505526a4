"""The header of a codestream: its true size and depth, known before a decoder allocates (T.81, T.87, T.800, 18181)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from app.errors import NotAcceptable

_SOF = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xF7})
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_MAX_SCANS = 256  # of a progressive JPEG; each one costs a pass over the whole picture


@dataclass(frozen=True, slots=True)
class Codestream:
    """What the header tells. `colour` is RGB, YBR or nothing when only the attributes can tell."""

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool = False
    subsampled: bool = False
    colour: str = ""
    process: int = 0


def jpeg(data: bytes) -> Codestream:
    """A whole JPEG or JPEG-LS codestream's header."""
    found, at = _jpeg(data)
    _whole(data, at)
    if found.process == 0xC2 and data.count(b"\xff\xda") > _MAX_SCANS:
        raise NotAcceptable("The progressive JPEG codestream has too many scans.")
    return found


def jpeg_header(data: bytes) -> Codestream:
    """What the beginning of a JPEG or JPEG-LS codestream tells (T.81 B.2.2), colour as libjpeg judges it."""
    return _jpeg(data)[0]


def _jpeg(data: bytes) -> tuple[Codestream, int]:
    """The header, and where its frame begins."""
    colour = ""
    for at, marker, segment in segments(data):
        if marker in _SOF:
            return _frame_header(marker, segment, colour), at
        if marker == 0xE0 and segment[:5] == b"JFIF\0":
            colour = "YBR"
        elif marker == 0xEE and segment[:5] == b"Adobe" and len(segment) >= 12 and not colour:
            colour = "RGB" if segment[11] == 0 else "YBR"
    raise NotAcceptable("The frame holds no JPEG codestream.")


def segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Where each marker of a JPEG stands, the marker and its segment, as far as `data` goes."""
    at = 2 if data[:2] == b"\xff\xd8" else -1
    while 0 < at < len(data) - 4:
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            return
        marker = data[at + 1]
        if marker in {0xFF, 0x00} or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield at, marker, data[at + 4 : at + 2 + length]
        at += 2 + length


def _frame_header(marker: int, segment: bytes, colour: str) -> Codestream:
    if len(segment) < 6 or len(segment) < 6 + 3 * segment[5]:
        raise NotAcceptable("The JPEG frame header is cut short.")
    precision, rows, columns, components = struct.unpack_from(">BHHB", segment)
    ids = bytes(segment[6 + 3 * n] for n in range(components))
    factors = {segment[7 + 3 * n] for n in range(components)}
    if marker in {0xC3, 0xF7} or components != 3:
        colour = ""  # lossless processes code the samples as they are (PS3.5 8.2.1, 8.2.3)
    elif ids == b"RGB":
        colour = "RGB"
    elif not colour and len(factors) > 1:
        colour = "YBR"  # nobody subsamples red and blue
    return Codestream(
        rows, columns, components, precision, subsampled=len(factors) > 1, colour=colour, process=marker
    )


def jpeg2000(data: bytes) -> Codestream:
    """A whole JPEG 2000 or HTJ2K codestream's header."""
    found = jpeg2000_header(data)
    _whole(data, data.find(b"\xff\x4f\xff\x51"))
    return found


def jpeg2000_header(data: bytes) -> Codestream:
    """The SIZ marker of a JPEG 2000 or HTJ2K codestream, raw or in JP2 boxes (T.800 A.5.1)."""
    at = data.find(b"\xff\x4f\xff\x51", 0, 1 << 20)
    if at < 0 or at + 45 > len(data):
        raise NotAcceptable("The frame holds no JPEG 2000 codestream.")
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    (components,) = struct.unpack_from(">H", data, at + 40)
    if at + 42 + 3 * components > len(data):
        raise NotAcceptable("The JPEG 2000 header is cut short.")
    depths = {data[at + 42 + 3 * n] for n in range(components)}
    steps = {data[at + 43 + 3 * n : at + 45 + 3 * n] for n in range(components)}
    if len(depths) != 1 or steps != {b"\x01\x01"}:
        raise NotAcceptable("The components of the JPEG 2000 codestream differ in depth or size.")
    depth = depths.pop()
    return Codestream(bottom - top, right - left, components, (depth & 0x7F) + 1, signed=depth > 0x7F)


def _whole(data: bytes, start: int) -> None:
    """Decoders (libjpeg, OpenJPH) make up what is missing at the end; no entropy coded byte looks like the end marker."""
    if data.rfind(b"\xff\xd9", start) < 0:
        raise NotAcceptable("The compressed frame is cut short.")


class _Bits:
    """A reader of bits, the least significant first."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self._number & ((1 << count) - 1)
        self._number >>= count
        return value

    def size(self) -> int:
        return self.take((9, 13, 18, 30)[self.take(2)]) + 1


_RATIOS = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def jpegxl_size(data: bytes) -> tuple[int, int]:
    """Rows and columns of a JPEG XL codestream, raw or in boxes (ISO/IEC 18181-1 D.2, 18181-2)."""
    stream = data if data[:2] == b"\xff\x0a" else _jpegxl_box(data)
    if stream[:2] != b"\xff\x0a":
        raise NotAcceptable("The frame holds no JPEG XL codestream.")
    bits = _Bits(stream[2:18])
    small = bits.take(1)
    rows = (bits.take(5) + 1) * 8 if small else bits.size()
    ratio = bits.take(3)
    if ratio:
        columns = rows * _RATIOS[ratio][0] // _RATIOS[ratio][1]
    else:
        columns = (bits.take(5) + 1) * 8 if small else bits.size()
    return rows, columns


def _jpegxl_box(data: bytes) -> bytes:
    """The beginning of the codestream in its first jxlc or jxlp box."""
    at = 0
    for _ in range(64):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        header = 8
        if length == 1 and at + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, at + 8)
            header = 16
        if kind in {b"jxlc", b"jxlp"}:
            start = at + header + (4 if kind == b"jxlp" else 0)
            return data[start : start + 32]
        if length < header:
            break
        at += length
    return b""
