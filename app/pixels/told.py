"""What a compressed picture tells of itself: its transfer syntax and the Image Pixel attributes (PS3.18 10.5.2).

Only the beginning of it is looked at. What it does not tell, the metadata must.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from app.dicom import dicom_json, tags, transfer_syntax
from app.errors import FailureReason, NotAcceptable, Refused
from app.pixels import codestream
from app.pixels.codestream import Codestream

HEAD: Final = 1 << 20
"""Bytes of a picture that are looked at: before the frame header only thumbnails and profiles stand."""

Attributes = dict[str, dict[str, Any]]
_LOSSY_METHODS: Final = {
    **dict.fromkeys((transfer_syntax.JPEG_BASELINE, transfer_syntax.JPEG_EXTENDED), "ISO_10918_1"),
    transfer_syntax.JPEG_LS_NEAR_LOSSLESS: "ISO_14495_1",
    transfer_syntax.JPEG_2000: "ISO_15444_1",
    transfer_syntax.HTJ2K: "ISO_15444_15",
}
_OCTETS: Final = "application/octet-stream"
_COD: Final = 0xFF52
_CAP: Final = 0xFF50


@dataclass(frozen=True, slots=True)
class Told:
    """`start` and `length` are the codestream's inside of the part: DICOM has no JP2 boxes (PS3.5 A.4.4)."""

    transfer_syntax_uid: str
    start: int
    length: int
    attributes: Attributes = field(default_factory=dict)


def compressed(media_type: str, transfer_syntax_uid: str, head: bytes, size: int) -> Told:
    """Of a part of `size` bytes that begins with `head`; a transfer syntax that was named with it stands."""
    named = "" if transfer_syntax_uid == "*" else transfer_syntax_uid
    kind = transfer_syntax.media_type(named).lower() if named else media_type
    if media_type not in {kind, _OCTETS, ""}:
        raise not_taken()
    read = _READERS.get(kind)
    if read is None:
        syntax = named or _DEFAULTS.get(kind, "")
        if not transfer_syntax.is_encapsulated(syntax):
            raise not_taken()
        return Told(syntax, 0, size)
    try:
        told = read(head, size)
    except NotAcceptable as error:
        raise Refused(f"A part of type {kind} cannot be understood: {error}") from error
    syntax = named or told.transfer_syntax_uid
    attributes = told.attributes | _lossy(syntax) if told.attributes else {}
    return Told(syntax, told.start, told.length, attributes)


def not_taken() -> Refused:
    """Pixel Data of a type that no transfer syntax has."""
    return Refused(
        "Pixel Data came in a media type that has no transfer syntax, or not the one that was named.",
        FailureReason.TRANSFER_SYNTAX_NOT_SUPPORTED,
    )


def image_pixel(rows: int, columns: int, samples: int, bits: int, photometric: str) -> Attributes:
    """The attributes of the Image Pixel Description Macro (PS3.3 C.7.6.3.3)."""
    allocated = 8 if bits <= 8 else 16 if bits <= 16 else 32
    told = {
        tags.SAMPLES_PER_PIXEL: dicom_json.attribute("US", samples),
        tags.PHOTOMETRIC_INTERPRETATION: dicom_json.attribute("CS", photometric),
        tags.ROWS: dicom_json.attribute("US", rows),
        tags.COLUMNS: dicom_json.attribute("US", columns),
        tags.BITS_ALLOCATED: dicom_json.attribute("US", allocated),
        "00280101": dicom_json.attribute("US", bits),
        "00280102": dicom_json.attribute("US", bits - 1),
        tags.PIXEL_REPRESENTATION: dicom_json.attribute("US", 0),
    }
    return told | ({"00280006": dicom_json.attribute("US", 0)} if samples > 1 else {})


def _lossy(syntax: str) -> Attributes:
    if not transfer_syntax.is_lossy(syntax):
        return {}
    method = _LOSSY_METHODS.get(syntax)
    told = {"00282110": dicom_json.attribute("CS", "01")}
    return told | ({"00282114": dicom_json.attribute("CS", method)} if method else {})


def _described(header: Codestream, colour: str) -> Attributes:
    if header.components not in {1, 3} or not 0 < header.precision <= 16:
        raise NotAcceptable("it has neither one nor three components, or more than 16 bits.")
    photometric = "MONOCHROME2" if header.components == 1 else colour
    told = image_pixel(header.rows, header.columns, header.components, header.precision, photometric)
    return told | ({tags.PIXEL_REPRESENTATION: dicom_json.attribute("US", 1)} if header.signed else {})


def _jpeg(head: bytes, size: int) -> Told:
    header = codestream.jpeg_header(head)
    scan = next((segment for _at, marker, segment in codestream.segments(head) if marker == 0xDA), b"")
    luminance = "YBR_FULL_422" if header.subsampled else "YBR_FULL"
    colour = "RGB" if header.colour == "RGB" or header.process == 0xC3 else luminance
    return Told(_jpeg_syntax(header, scan), 0, size, _described(header, colour))


def _jpeg_syntax(header: Codestream, scan: bytes) -> str:
    """By the process (T.81 Table B.1); of the progressive ones no transfer syntax is left (PS3.5 8.2.1)."""
    match header.process:
        case 0xC0:
            return transfer_syntax.JPEG_BASELINE
        case 0xC1:
            return transfer_syntax.JPEG_EXTENDED
        case 0xC3:
            at = 1 + 2 * scan[0] if scan else 0  # the predictor stands behind the components
            is_first_order = len(scan) > at and scan[at] == 1
            return transfer_syntax.JPEG_LOSSLESS_SV1 if is_first_order else transfer_syntax.JPEG_LOSSLESS
    raise Refused(
        "A progressive JPEG has no transfer syntax in DICOM.", FailureReason.TRANSFER_SYNTAX_NOT_SUPPORTED
    )


def _jpeg_ls(head: bytes, size: int) -> Told:
    header = codestream.jpeg_header(head)
    scan = next((segment for _at, marker, segment in codestream.segments(head) if marker == 0xDA), b"")
    near = 1 + 2 * scan[0] if scan else 0
    is_lossless = len(scan) > near and scan[near] == 0
    syntax = transfer_syntax.JPEG_LS_LOSSLESS if is_lossless else transfer_syntax.JPEG_LS_NEAR_LOSSLESS
    return Told(syntax, 0, size, _described(header, "RGB"))


def _jpeg2000(head: bytes, size: int) -> Told:
    header = codestream.jpeg2000_header(head)
    start, length = _inside_boxes(head, size)
    is_reversible, is_mixed, is_high_throughput = _coding(head, start)
    colour = "RGB" if not is_mixed else "YBR_RCT" if is_reversible else "YBR_ICT"
    if is_high_throughput:
        syntax = transfer_syntax.HTJ2K_LOSSLESS if is_reversible else transfer_syntax.HTJ2K
    else:
        syntax = transfer_syntax.JPEG_2000_LOSSLESS if is_reversible else transfer_syntax.JPEG_2000
    return Told(syntax, start, length, _described(header, colour))


def _jpeg2000_part_2(head: bytes, size: int) -> Told:
    told = _jpeg2000(head, size)
    is_lossless = told.transfer_syntax_uid == transfer_syntax.JPEG_2000_LOSSLESS
    syntax = transfer_syntax.JPEG_2000_PART_2_LOSSLESS if is_lossless else transfer_syntax.JPEG_2000_PART_2
    return Told(syntax, told.start, told.length, told.attributes)


def _inside_boxes(head: bytes, size: int) -> tuple[int, int]:
    """Where the codestream lies: all of the part, or its jp2c box (T.800 I.5.4)."""
    at = 0
    while head[:4] != b"\xff\x4f\xff\x51" and at + 16 <= len(head):
        length, kind, long_length = struct.unpack_from(">I4sQ", head, at)
        begin = at + 16 if length == 1 else at + 8
        end = size if length == 0 else at + (long_length if length == 1 else length)
        if kind == b"jp2c":
            return begin, min(end, size) - begin
        if end <= begin - 8:
            break
        at = end
    return 0, size


def _coding(head: bytes, start: int) -> tuple[bool, bool, bool]:
    """Whether it is reversible, whether its components are mixed, whether it is HTJ2K (T.800 A.6.1, T.814 A.3)."""
    at, is_high_throughput = start + 2, False
    while at + 14 <= len(head):
        marker, length = struct.unpack_from(">HH", head, at)
        is_high_throughput |= marker == _CAP
        if marker == _COD:
            return head[at + 13] == 1, head[at + 8] == 1, is_high_throughput
        at += 2 + length
    raise NotAcceptable("its coding style is not told.")


def _run_lengths(_head: bytes, size: int) -> Told:
    return Told(transfer_syntax.RLE_LOSSLESS, 0, size)


_READERS: Final[dict[str, Callable[[bytes, int], Told]]] = {
    "image/jpeg": _jpeg,
    "image/jls": _jpeg_ls,
    "image/jp2": _jpeg2000,
    "image/jphc": _jpeg2000,
    "image/jpx": _jpeg2000_part_2,
    "image/dicom-rle": _run_lengths,
}
_DEFAULTS: Final = {
    "image/jxl": transfer_syntax.JPEG_XL,
    "video/mpeg": transfer_syntax.MPEG2_MAIN_LEVEL,
    "video/mp4": transfer_syntax.MPEG4_AVC_41,
    "video/h265": transfer_syntax.HEVC_51,
}
"""Types of which only the syntax is known: their attributes must be in the metadata."""
