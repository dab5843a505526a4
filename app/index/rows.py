"""What one scanned instance becomes in the tables: typed columns, match keys, DICOM JSON."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeVar

import orjson
from isal import isal_zlib

from app.dicom import matching, names
from app.dicom.attributes import OF_LEVEL, STORED, Level
from app.dicom.scanner import SCANNER_VERSION, Head, Scan
from app.extent import Stored
from app.index import members
from app.index.queue import NORMALISED, OF_VIDEO

_K = TypeVar("_K", bound=Hashable)

ABSENT = 2**31 - 1
"""Stands for a Series or Instance Number that is not there: it sorts last without a null."""

_LONGEST = 250  # characters of a key: an index row ends at 2704 bytes, and no search asks for so many


@dataclass(frozen=True, slots=True)
class Row:
    """One instance on its way in; the tuples are in the order of the committer's statements."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    stored: Stored
    instance: tuple[Any, ...]
    wants: tuple[str, ...]
    """The renditions that are made of it without being asked for."""
    _fields: _Fields

    @property
    def study(self) -> tuple[Any, ...]:
        """What it says of its study, made when asked for: most instances come to series that others describe."""
        return _study(self._fields)

    @property
    def series(self) -> tuple[Any, ...]:
        """The same of its series."""
        return _series(self._fields)

    @property
    def address(self) -> tuple[str, str]:
        """Its study and series."""
        return self.study_instance_uid, self.series_instance_uid

    @property
    def key(self) -> str:
        """Its object's."""
        return self.stored.key

    @property
    def weight(self) -> int:
        """About how many bytes go to the database."""
        return sum(len(value) for value in self.instance if isinstance(value, (bytes, str)))


def row(scan: Scan, stored: Stored, at: datetime | None = None) -> Row:
    """Stored now, or `at` that time; CPU work: about 50 µs for an image, more for a large header."""
    fields = _Fields(scan)
    head = scan.head
    return Row(
        study_instance_uid=head.study_instance_uid,
        series_instance_uid=head.series_instance_uid,
        sop_instance_uid=head.sop_instance_uid,
        stored=stored,
        instance=_instance(fields, stored, at),
        wants=_wants(scan),
        _fields=fields,
    )


def smallest(rows: Iterable[Row], group: Callable[[Row], _K]) -> dict[_K, tuple[Row, int]]:
    """Of each group the row with the smallest SOP Instance UID, and how many there are."""
    found: dict[_K, tuple[Row, int]] = {}
    for row in rows:
        best, count = found.get(group(row), (row, 0))
        found[group(row)] = (min(best, row, key=lambda one: one.sop_instance_uid), count + 1)
    return found


def _wants(scan: Scan) -> tuple[str, ...]:
    of_video = OF_VIDEO if scan.pixels and scan.pixels.container else ()
    return (NORMALISED, *of_video) if scan.normalised else of_video


def describing(head: Head, document: bytes) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What a stored data set says of its study and series, as `row` told it when it came."""
    found = {
        tag: member[len('"00080005":') :].encode() for tag, member in members.split(document) if tag in STORED
    }
    fields = _Fields(Scan(head, document, found, (), None, 0, 0))
    return _study(fields), _series(fields)


class _Fields:
    """The attributes that the scanner handed over, as Python values."""

    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        head = scan.head
        address = f"studies/{head.study_instance_uid}/series/{head.series_instance_uid}"
        # A long value of the describing instance is fetched from that instance.
        self._bulk = f'"BulkDataURI":"@/{address}/instances/{head.sop_instance_uid}/bulkdata/'.encode()

    def members(self, level: Level) -> str:
        """The attributes of a level, ascending, one a line."""
        lines = [
            b'"%s":%s' % (tag.encode(), self.scan.fields[tag].replace(b'"BulkDataURI":"@/', self._bulk))
            for tag in sorted(self.scan.fields)
            if tag in OF_LEVEL[level]
        ]
        return b"\n".join(lines).decode()

    def _values(self, tag: str) -> list[Any]:
        json = self.scan.fields.get(tag)
        return (orjson.loads(json).get("Value") if json else None) or []

    def first(self, tag: str) -> str:
        values = self._values(tag)
        return _text(values[0]) if values else ""

    def number(self, tag: str) -> int | None:
        """An IS or US that fits 31 bits."""
        try:
            number = int(float(self.first(tag)))
        except (ValueError, OverflowError):
            return None
        return number if abs(number) < ABSENT else None

    def day(self, tag: str) -> date | None:
        return matching.day(self.first(tag))

    def clock(self, tag: str) -> str | None:
        return matching.clock(self.first(tag))

    def name(self, tag: str) -> str:
        values = self._values(tag)
        groups = values[0] if values and isinstance(values[0], dict) else {}
        return names.key(_text(groups.get(group)) for group in ("Alphabetic", "Ideographic", "Phonetic"))

    def nested(self, sequence: str, tag: str) -> str:
        """The identifiers in the items of a sequence, joined as DICOM joins values."""
        items = self._values(sequence)
        return "\\".join(_identifiers(item.get(tag) for item in items if isinstance(item, dict)))


def _text(value: object) -> str:
    return "" if value is None or isinstance(value, dict) else str(value)


def _identifiers(attributes: Iterable[dict[str, Any] | None]) -> Iterable[str]:
    for attribute in attributes:
        for value in (attribute or {}).get("Value") or []:
            if found := matching.identifier(_text(value))[:_LONGEST]:
                yield found


def _study(fields: _Fields) -> tuple[Any, ...]:
    head = fields.scan.head
    return (
        head.study_instance_uid,
        head.sop_instance_uid,
        fields.day("00080020"),
        fields.clock("00080030"),
        matching.identifier(fields.first("00080050"))[:_LONGEST],
        fields.name("00080090"),
        fields.name("00100010"),
        matching.identifier(fields.first("00100020"))[:_LONGEST],
        matching.identifier(fields.first("00100021"))[:_LONGEST],
        fields.day("00100030"),
        matching.code(fields.first("00100040"))[:_LONGEST],
        matching.identifier(fields.first("00200010"))[:_LONGEST],
        matching.text(fields.first("00081030"))[:_LONGEST],
        fields.members(Level.STUDY),
    )


def _or_absent(number: int | None) -> int:
    return ABSENT if number is None else number


def _series(fields: _Fields) -> tuple[Any, ...]:
    head = fields.scan.head
    return (
        head.series_instance_uid,
        head.sop_instance_uid,
        matching.code(fields.first("00080060"))[:_LONGEST],
        _or_absent(fields.number("00200011")),
        fields.day("00080021"),
        matching.text(fields.first("0008103E"))[:_LONGEST],
        matching.code(fields.first("00180015"))[:_LONGEST],
        fields.day("00400244"),
        fields.clock("00400245"),
        fields.nested("00400275", "00400009"),
        fields.nested("00400275", "00401001"),
        fields.members(Level.SERIES),
    )


def _instance(fields: _Fields, stored: Stored, at: datetime | None) -> tuple[Any, ...]:
    scan, pixels = fields.scan, fields.scan.pixels
    bulk = {one.path: (one.vr, one.offset, one.length) for one in scan.bulk}
    return (
        scan.head.sop_instance_uid,
        scan.head.sop_class_uid,
        scan.head.transfer_syntax_uid,
        _or_absent(fields.number("00200013")),
        pixels.number_of_frames if pixels else 0,
        stored.key,
        stored.size,
        stored.prefix_sha256,
        stored.dataset_sha256,
        scan.dataset_offset,
        SCANNER_VERSION,
        *(_pixels(scan)),
        fields.members(Level.INSTANCE),
        orjson.dumps(bulk).decode() if bulk else None,
        isal_zlib.compress(scan.json, 1),
        (pixels.fragments or None) if pixels else None,
        (pixels.frame_starts or None) if pixels else None,
        at,
    )


def _pixels(scan: Scan) -> tuple[Any, ...]:
    pixels = scan.pixels
    if pixels is None:
        return (None,) * 7
    return (
        pixels.tag,
        pixels.vr,
        pixels.offset,
        pixels.length,
        pixels.frame_bits,
        pixels.stream_length,
        pixels.container,
    )
