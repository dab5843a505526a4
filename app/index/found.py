"""One row of a search as a JSON object, joined from text and never re-encoded (PS3.18 10.6.3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import asyncpg
import orjson
from isal import isal_zlib

from app.dicom.attributes import COMPUTED, DEFAULTS, OF_LEVEL, REQUIRED, STORED, Level
from app.dicom.matching import Query
from app.index import members

PLACEHOLDER = b'"vr":"UR","Value":["@/'
"""Addresses are written below `@/`; the door puts its root there. A quote inside a value is escaped."""

BULK_PLACEHOLDER = b'"BulkDataURI":"@/'

_LEVELS = tuple(Level)
_ONLINE = '"00080056":{"vr":"CS","Value":["ONLINE"]}'
_COMPUTED = frozenset().union(*COMPUTED.values())


@dataclass(frozen=True, slots=True)
class Page:
    """How the rows of one query are made: which tags are taken from which level."""

    level: Level
    taken: Mapping[Level, frozenset[str]]
    beyond: frozenset[str]
    """Tags that only the data set itself holds."""
    whole: bool

    @property
    def needs_metadata(self) -> bool:
        """Rows have to be joined with the data set."""
        return self.whole or bool(self.beyond)

    def rows(self, records: Iterable[asyncpg.Record]) -> list[bytes]:
        """The JSON objects of a page."""
        return [self.row(record) for record in records]

    def row(self, record: asyncpg.Record) -> bytes:
        """The JSON object of one row."""
        found: dict[str, str] = {}
        for level, tags in self.taken.items():
            found |= {tag: f'"{tag}":{{"vr":"{vr}"}}' for tag, vr in REQUIRED[level].items() if tag in tags}
            found |= {tag: line for tag, line in members.lines(record[level]) if tag in tags}
        if self.needs_metadata:
            found |= self._of_data_set(record)
        found |= self._computed(record)
        return members.joined(found[tag] for tag in sorted(found))

    def _of_data_set(self, record: asyncpg.Record) -> dict[str, str]:
        document = isal_zlib.decompress(record["metadata"])
        base = f'"BulkDataURI":"@/{_address(Level.INSTANCE, record)}/bulkdata/'.encode()
        return {
            tag: member
            for tag, member in members.split(document.replace(BULK_PLACEHOLDER, base))
            if self.whole or tag in self.beyond
        }

    def _computed(self, record: asyncpg.Record) -> dict[str, str]:
        known = {
            "00080056": _ONLINE,
            "00081190": f'"00081190":{{"vr":"UR","Value":["@/{_address(self.level, record)}"]}}',
        }
        study, series = self.taken.get(Level.STUDY, ()), self.taken.get(Level.SERIES, ())
        if "00080061" in study:
            value = f',"Value":{orjson.dumps(record["modalities"]).decode()}' if record["modalities"] else ""
            known["00080061"] = f'"00080061":{{"vr":"CS"{value}}}'
        if "00201206" in study:
            known["00201206"] = _count("00201206", record["number_of_series"])
        if "00201208" in study:
            known["00201208"] = _count("00201208", record["number_of_instances"])
        if "00201209" in series:
            known["00201209"] = _count("00201209", record["instances_of_series"])
        return known


def page(query: Query) -> Page:
    """What the rows of a query hold: defaults, what was matched, what was asked (10.6.3.3.1 to .3)."""
    paths = query.includefield | {match.tag for match in query.matches}
    asked = frozenset(path.partition(".")[0] for path in paths)
    taken = {}
    for level in _LEVELS[: _LEVELS.index(query.level) + 1]:
        listed = DEFAULTS[level] | COMPUTED[level] if _is_told(level, query) else frozenset[str]()
        taken[level] = listed | (asked & (OF_LEVEL[level] | COMPUTED[level])) | _IDENTITY[level]
    taken[query.level] |= OF_LEVEL[query.level] if query.include_all else frozenset()
    is_instance = query.level is Level.INSTANCE
    return Page(
        level=query.level,
        taken=taken,
        beyond=asked - STORED - _COMPUTED if is_instance else frozenset(),
        whole=is_instance and query.include_all,
    )


_IDENTITY = {
    Level.STUDY: frozenset({"0020000D"}),
    Level.SERIES: frozenset({"0020000E"}),
    Level.INSTANCE: frozenset({"00080018"}),
}


def _is_told(level: Level, query: Query) -> bool:
    """Of the levels above, those that the address leaves open."""
    return (
        level is query.level
        or (level is Level.STUDY and query.study is None)
        or (level is Level.SERIES and query.series is None)
    )


def _address(level: Level, record: asyncpg.Record) -> str:
    address = f"studies/{record['study_instance_uid']}"
    if level is not Level.STUDY:
        address += f"/series/{record['series_instance_uid']}"
    return f"{address}/instances/{record['sop_instance_uid']}" if level is Level.INSTANCE else address


def _count(tag: str, number: int) -> str:
    return f'"{tag}":{{"vr":"IS","Value":[{number}]}}'
