"""Scans without a scanner: what the index is handed, as small as can be."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import orjson

from app.dicom.attributes import STORED, tag_of
from app.dicom.scanner import Bulk, Head, Pixels, Scan
from app.extent import Stored
from app.index import Index, Outcome
from tests import make

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
MP4_SYNTAX = "1.2.840.10008.1.2.4.102"


def element(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def name(text: str) -> dict[str, Any]:
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return element("PN", {group: value for group, value in groups if value})


def scan(
    elements: dict[str, dict[str, Any]] | None = None,
    *,
    study: str = "1.2.3",
    series: str = "1.2.3.4",
    sop: str | None = None,
    syntax: str = EXPLICIT,
    pixels: Pixels | None = None,
    bulk: tuple[Bulk, ...] = (),
) -> Scan:
    """A scan of these elements, given by keyword or tag."""
    head = Head(CT, sop or make.uid(), study, series, syntax)
    found = {tag_of(key) or key: value for key, value in (elements or {}).items()}
    found |= {
        "00080016": element("UI", head.sop_class_uid),
        "00080018": element("UI", head.sop_instance_uid),
        "0020000D": element("UI", study),
        "0020000E": element("UI", series),
    }
    found = dict(sorted(found.items()))
    fields = {tag: orjson.dumps(value) for tag, value in found.items() if tag in STORED}
    return Scan(head, orjson.dumps(found), fields, bulk, pixels, 400, 1000)


def stored(key: str, content: bytes = b"") -> Stored:
    return Stored(
        key, 1000, hashlib.sha256(b"prefix").digest(), hashlib.sha256(content or key.encode()).digest()
    )


async def add(index: Index, one: Scan, content: bytes = b"") -> Outcome:
    """Store as the act does: a key first, then the row."""
    return await index.committer.add(one, stored(await index.pending.take(), content))


@asynccontextmanager
async def counted(index: Index) -> AsyncIterator[list[str]]:
    """The statements that readers run inside the block."""
    holders = index.reader._pool._holders  # type: ignore[attr-defined] # asyncpg has no other way to count
    async with heard([one._con for one in holders if one._con]) as statements:
        yield statements


@asynccontextmanager
async def committed(index: Index) -> AsyncIterator[list[str]]:
    """The same of the committer; it has a connection."""
    connection = index.committer._own._connection
    assert connection is not None
    async with heard([connection]) as statements:
        yield statements


@asynccontextmanager
async def heard(connections: Iterable[Any]) -> AsyncIterator[list[str]]:
    """The statements of these connections."""
    statements: list[str] = []
    listening = list(connections)

    def hear(record: Any) -> None:
        statements.append(record.query)

    for one in listening:
        one.add_query_logger(hear)
    yield statements
    await asyncio.sleep(0)  # asyncpg tells its loggers by call_soon
    for one in listening:
        one.remove_query_logger(hear)


VIDEO = Pixels("7FE00010", "OB", 500, 100, 1, 0, b"\0" * 16, b"", 92, "mp4")
