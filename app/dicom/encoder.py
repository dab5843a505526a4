"""DICOM JSON to a file in Explicit VR Little Endian, bulk data by reference (PS3.18 F, PS3.5 7, PS3.10 7.1).

The scanner's counterpart: what is written here scans to the JSON it was made of. Bulk data are named by where they
lie, so a data set costs no more memory than its metadata, whatever it refers to.
"""

from __future__ import annotations

import re
from binascii import Error as NotBase64
from binascii import a2b_base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from struct import error, pack
from typing import Any, Final

import orjson

from app.dicom import tags
from app.dicom.elements import LONG, VRS, layout_of
from app.errors import FailureReason, Refused

DataSet = Mapping[str, Any]
"""A DICOM JSON Model object."""

IMPLEMENTATION_CLASS_UID: Final = "2.25.217739668074066515505722650359451679478"
IMPLEMENTATION_VERSION_NAME: Final = "REELWEB"
_UNDEFINED: Final = 0xFFFFFFFF
_LONGEST: Final = 0xFFFFFFFE
_LONGEST_SHORT: Final = 0xFFFE
_DEEPEST: Final = 64
_PIECE: Final = 64 << 10
_ITEM: Final = b"\xfe\xff\x00\xe0"
_OPEN_ITEM: Final = _ITEM + pack("<I", _UNDEFINED)
_CLOSE_ITEM: Final = b"\xfe\xff\x0d\xe0" + bytes(4)
_CLOSE_SEQUENCE: Final = b"\xfe\xff\xdd\xe0" + bytes(4)
_TAG: Final = re.compile(r"[0-9A-F]{8}")
_DS_LENGTH: Final = 16
_PLACES: Final = ("Value", "InlineBinary", "BulkDataURI")
_TEXTS: Final = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT"]
)
_CODES: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "SV": "q", "UV": "Q"}
_UTF_8: Final = {"vr": "CS", "Value": ["ISO_IR 192"]}


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes that lie elsewhere."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Content:
    """What a BulkDataURI stands for: one value's bytes in turn, or the frames of encapsulated Pixel Data."""

    spans: tuple[Span, ...]
    is_encapsulated: bool = False


Contents = Mapping[str, Content]
Piece = bytes | Span


def file(dataset: DataSet, transfer_syntax_uid: str, contents: Contents) -> Iterator[Piece]:
    """A Part 10 file; Refused when the object is no data set, or names bulk data that are not there."""
    held = bytearray(_file_meta(dataset, transfer_syntax_uid))
    for piece in _elements(_with_character_set(dataset), contents, 0):
        if isinstance(piece, Span) or len(held) >= _PIECE:
            yield bytes(held)
            held.clear()
        if isinstance(piece, Span):
            yield piece
        else:
            held += piece
    yield bytes(held)


def references(dataset: DataSet) -> Iterator[str]:
    """Every BulkDataURI, those inside of sequences included."""
    yield from _references(dataset, 0)


def text(dataset: DataSet, tag: str) -> str:
    """The first value of an attribute of text, or nothing."""
    attribute = dataset.get(tag)
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    first = values[0] if isinstance(values, list) and values else ""
    return first.strip(" \0") if isinstance(first, str) else ""


def _references(dataset: DataSet, depth: int) -> Iterator[str]:
    for attribute in dataset.values():
        if not isinstance(attribute, dict):
            continue
        uri = attribute.get("BulkDataURI")
        if isinstance(uri, str):
            yield uri
        if attribute.get("vr") == "SQ" and depth < _DEEPEST:
            for item in _items(attribute):
                yield from _references(item, depth + 1)


def _with_character_set(dataset: DataSet) -> DataSet:
    """JSON is UTF-8, and so are the values that are made of it (PS3.18 F.2)."""
    told = dataset.get(tags.SPECIFIC_CHARACTER_SET)
    try:
        is_ascii = orjson.dumps(dataset).isascii()
    except orjson.JSONEncodeError:  # deeper than any data set
        raise Refused("The metadata are not in the DICOM JSON Model.") from None
    if (isinstance(told, dict) and told.get("Value")) or not is_ascii:
        return {**dataset, tags.SPECIFIC_CHARACTER_SET: _UTF_8}
    return dataset


def _file_meta(dataset: DataSet, transfer_syntax_uid: str) -> bytes:
    elements = b"".join(
        [
            _header("00020001", "OB", 2) + b"\0\1",
            _plain("00020002", "UI", text(dataset, tags.SOP_CLASS_UID).encode()),
            _plain("00020003", "UI", text(dataset, tags.SOP_INSTANCE_UID).encode()),
            _plain("00020010", "UI", transfer_syntax_uid.encode()),
            _plain("00020012", "UI", IMPLEMENTATION_CLASS_UID.encode()),
            _plain("00020013", "SH", IMPLEMENTATION_VERSION_NAME.encode()),
        ]
    )
    return bytes(128) + b"DICM" + _header("00020000", "UL", 4) + pack("<I", len(elements)) + elements


def _elements(dataset: DataSet, contents: Contents, depth: int) -> Iterator[Piece]:
    if depth > _DEEPEST:
        raise Refused("The metadata nest too many sequences.", FailureReason.OUT_OF_RESOURCES)
    for tag, attribute in sorted(((_tag(name), value) for name, value in dataset.items()), key=itemgetter(0)):
        if tag.endswith("0000") or tag[:4] in {"0000", "0002"}:
            continue  # command, file meta and group lengths are no part of a data set
        if not isinstance(attribute, dict) or sum(place in attribute for place in _PLACES) > 1:
            raise _wrong(tag)
        yield from _element(tag, attribute, contents, depth)


def _tag(name: str) -> str:
    tag = name.upper()
    if not _TAG.fullmatch(tag) or tag.startswith("FFFE"):
        raise Refused("The metadata have a member that is no tag.")
    return tag


def _element(tag: str, attribute: DataSet, contents: Contents, depth: int) -> Iterator[Piece]:
    vr = attribute.get("vr")
    if not isinstance(vr, str) or vr not in VRS:
        raise _wrong(tag)
    if vr == "SQ":
        yield from _sequence(tag, attribute, contents, depth)
    elif "BulkDataURI" in attribute:
        content = contents.get(str(attribute["BulkDataURI"]))
        if content is None:
            raise Refused("The metadata name bulk data that did not come.")
        yield from _encapsulated(tag, content.spans) if content.is_encapsulated else _bulk(tag, vr, content)
    else:
        yield _plain(tag, vr, _value(tag, vr, attribute))


def _sequence(tag: str, attribute: DataSet, contents: Contents, depth: int) -> Iterator[Piece]:
    items = _items(attribute)
    if not items:
        yield _header(tag, "SQ", 0)
        return
    yield _header(tag, "SQ", _UNDEFINED)
    for item in items:
        yield _OPEN_ITEM
        yield from _elements(item, contents, depth + 1)
        yield _CLOSE_ITEM
    yield _CLOSE_SEQUENCE


def _items(attribute: DataSet) -> list[DataSet]:
    items = attribute.get("Value") or []
    if not isinstance(items, list) or not all(item is None or isinstance(item, dict) for item in items):
        raise Refused("The metadata have a sequence whose items are no objects.")
    return [item or {} for item in items]


def _bulk(tag: str, vr: str, content: Content) -> Iterator[Piece]:
    length = sum(span.length for span in content.spans)
    if length + length % 2 > _LONGEST:
        raise Refused("A value is longer than Explicit VR Little Endian can tell.")
    yield _header(tag, vr, length + length % 2)
    yield from content.spans
    if length % 2:
        yield _pad(vr)


def _encapsulated(tag: str, frames: Sequence[Span]) -> Iterator[Piece]:
    """Each frame is one fragment, but for one that is longer than a fragment can be: a video's stream."""
    yield _header(tag, "OB", _UNDEFINED)
    table = _offset_table(frames)
    yield _ITEM + pack("<I", len(table)) + table
    for frame in frames:
        for at in range(0, max(frame.length, 1), _LONGEST):
            length = min(frame.length - at, _LONGEST)
            yield _ITEM + pack("<I", length + length % 2)
            yield Span(frame.offset + at, length)
            if length % 2:
                yield b"\0"
    yield _CLOSE_SEQUENCE


def _offset_table(frames: Sequence[Span]) -> bytes:
    offsets, at = [], 0
    for frame in frames:
        offsets.append(at)
        at += 8 + frame.length + frame.length % 2
    return pack(f"<{len(offsets)}I", *offsets) if at <= _UNDEFINED and len(offsets) > 1 else b""


def _plain(tag: str, vr: str, value: bytes) -> bytes:
    value += _pad(vr) * (len(value) % 2)
    return _header(tag, vr, len(value)) + value


def _header(tag: str, vr: str, length: int) -> bytes:
    if layout_of(vr) == LONG:
        return tags.key_of(tag) + vr.encode() + b"\0\0" + pack("<I", length)
    if length > _LONGEST_SHORT:  # PS3.5 6.2.2: its VR cannot tell the length
        return tags.key_of(tag) + b"UN\0\0" + pack("<I", length)
    return tags.key_of(tag) + vr.encode() + pack("<H", length)


def _pad(vr: str) -> bytes:
    return b" " if vr in _TEXTS else b"\0"


def _value(tag: str, vr: str, attribute: DataSet) -> bytes:
    values = attribute.get("Value") or []
    if not isinstance(values, list):
        raise _wrong(tag)
    try:
        if "InlineBinary" in attribute:
            return a2b_base64(attribute["InlineBinary"] or "", strict_mode=True)
        return _written(tag, vr, values) if values else b""
    except (NotBase64, error, ValueError, TypeError, AttributeError, OverflowError):
        raise _wrong(tag) from None


def _written(tag: str, vr: str, values: list[Any]) -> bytes:
    code = _CODES.get(vr)
    if code and tag not in tags.LUT_DESCRIPTORS and not any(isinstance(value, str) for value in values):
        return pack(f"<{len(values)}{code}", *values)
    if code:
        return b"".join(pack(f"<{_code(tag, code, at)}", _number(value)) for at, value in enumerate(values))
    if vr == "AT":
        return b"".join(tags.key_of(_tag(value)) for value in values)
    write = _TEXT_WRITERS.get(vr, _text if vr in _TEXTS or vr == "UI" else _no_text)
    return "\\".join(write(value) for value in values).encode()


def _code(tag: str, code: str, at: int) -> str:
    """Of a LUT Descriptor only the second value is signed (PS3.3 C.11.1.1)."""
    return "H" if code == "h" and tag in tags.LUT_DESCRIPTORS and at != 1 else code


def _number(value: object) -> object:
    """SV and UV beyond 2^53, and floats that JSON has no number for, are strings (PS3.18 Table F.2.3-1)."""
    if not isinstance(value, str):
        return value
    return float(value) if value.lower().strip("+-") in {"nan", "inf", "infinity"} else int(value)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise TypeError
    return str(value)


def _name(value: object) -> str:
    if not isinstance(value, dict):
        return _text(value)
    groups = [_text(value.get(group)) for group in ("Alphabetic", "Ideographic", "Phonetic")]
    return "=".join(groups).rstrip("=")


def _decimal(value: object) -> str:
    """A number in the 16 characters that a DS has."""
    written = _text(value)
    if not isinstance(value, float) or len(written) <= _DS_LENGTH:
        return written
    shorter = (f"{value:.{digits}g}" for digits in range(_DS_LENGTH, 0, -1))
    return next(number for number in shorter if len(number) <= _DS_LENGTH)


def _no_text(value: object) -> str:
    raise TypeError


_TEXT_WRITERS: Final[dict[str, Callable[[object], str]]] = {"PN": _name, "DS": _decimal}


def _wrong(tag: str) -> Refused:
    return Refused(f"The metadata's ({tag[:4]},{tag[4:]}) is not in the DICOM JSON Model.")
