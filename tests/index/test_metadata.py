"""Metadata is the stored JSON, whole, as one stream, told apart by its content."""

from __future__ import annotations

import gzip
import hashlib
import random
from typing import Any

import orjson
import pytest

from app.dicom.scanner import Pixels
from app.errors import NotFound
from app.index import Index, metadata, renditions
from app.index.connection import Connection
from app.index.metadata import Document
from tests.index import scans
from tests.index.scans import counted, element

ROOT = "http://pacs.example/dicom-web"
MP4 = Pixels("7FE00010", "OB", 500, 100, 1, 0, b"\0" * 16, b"", 92, "mp4")


async def read(document: Document) -> Any:
    """Both representations are the same text, and gzip is one member."""
    text = b"".join([piece async for piece in document.identity()])
    packed = b"".join([piece async for piece in document.gzip()])
    assert gzip.decompress(packed) == text
    assert packed.count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00") == 1
    return orjson.loads(text)


async def some(index: Index, count: int = 5, series: str = "1.2.3.4", size: int = 10) -> None:
    chance = random.Random(count)
    for number in range(count):
        elements = {
            "InstanceNumber": element("IS", count - number),
            "SeriesNumber": element("IS", int(series[-1])),
            "PatientComments": element("LT", "".join(chance.choices('ab"\\/@é山', k=size))),
            "PixelData": {"vr": "OW", "BulkDataURI": "@/7FE00010"},
        }
        await scans.add(index, scans.scan(elements, series=series, sop=f"{series}.{number}"))


async def test_a_series_is_every_instance_in_order(index: Index) -> None:
    """Addresses of bulk data are below the root; text that looks like one stays as it is."""
    await some(index)
    found = await read(await metadata.series(index, "1.2.3", "1.2.3.4", ROOT))
    assert [one["00200013"]["Value"][0] for one in found] == [1, 2, 3, 4, 5]
    for one in found:
        uid = one["00080018"]["Value"][0]
        address = f"{ROOT}/studies/1.2.3/series/1.2.3.4/instances/{uid}/bulkdata/7FE00010"
        assert one["7FE00010"]["BulkDataURI"] == address


async def test_an_instance_is_an_array_of_one(index: Index) -> None:
    await some(index, 2)
    async with counted(index) as statements:
        document = await metadata.instance(index, "1.2.3", "1.2.3.4", "1.2.3.4.1", ROOT)
        (found,) = await read(document)
    assert len(statements) == 1
    assert found == (await read(await metadata.series(index, "1.2.3", "1.2.3.4", ROOT)))[0]


async def test_a_study_is_its_series_joined(index: Index) -> None:
    """By series number, in one array and one gzip stream."""
    for series in ("3.3", "3.1", "3.2"):
        await some(index, 3, series)
    found = await read(await metadata.study(index, "1.2.3", ROOT))
    assert [one["0020000E"]["Value"][0] for one in found] == ["3.1"] * 3 + ["3.2"] * 3 + ["3.3"] * 3
    joined = [
        one
        for series in ("3.1", "3.2", "3.3")
        for one in await read(await metadata.series(index, "1.2.3", series, ROOT))
    ]
    assert found == joined


async def test_what_is_larger_than_a_piece_is_whole(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blobs of several pieces, pages of several groups."""
    monkeypatch.setattr(metadata, "_PIECE", 512)
    monkeypatch.setattr(metadata, "_GROUP", 4000)
    await some(index, 8, "3.1", 3000)
    await some(index, 8, "3.2", 3000)
    for _ in range(2):
        assert len(await read(await metadata.study(index, "1.2.3", ROOT))) == 16
        assert len(await read(await metadata.series(index, "1.2.3", "3.1", ROOT))) == 8


async def _age(sql: Connection) -> None:
    await sql.execute("update series set changed_at = changed_at - interval '1 hour'")


async def test_a_quiet_series_is_made_once(index: Index, sql: Connection) -> None:
    """Then it is one statement; one that grows is not kept on each poll."""
    await some(index)
    first = await metadata.series(index, "1.2.3", "1.2.3.4", ROOT)
    assert await sql.fetchval("select count(*) from series_metadata") == 0
    await _age(sql)
    second = await metadata.series(index, "1.2.3", "1.2.3.4", ROOT)
    assert await sql.fetchval("select count(*) from series_metadata") == 1
    async with counted(index) as statements:
        third = await metadata.series(index, "1.2.3", "1.2.3.4", ROOT)
        await read(third)
    assert len(statements) == 1
    assert first.etag == second.etag == third.etag


async def test_the_etag_is_the_content(index: Index, sql: Connection) -> None:
    """The digest of the text, whoever made it; another instance, root or rendition is another."""
    await some(index)
    document = await metadata.series(index, "1.2.3", "1.2.3.4", ROOT)
    text = b"".join([piece async for piece in document.identity()])
    assert document.etag == hashlib.sha256(text).hexdigest()
    study = await metadata.study(index, "1.2.3", ROOT)
    assert (await metadata.study(index, "1.2.3", ROOT)).etag == study.etag
    assert (await metadata.series(index, "1.2.3", "1.2.3.4", "")).etag != document.etag
    await scans.add(index, scans.scan())
    assert (await metadata.series(index, "1.2.3", "1.2.3.4", ROOT)).etag != document.etag
    assert (await metadata.study(index, "1.2.3", ROOT)).etag != study.etag


async def test_whoever_reads_an_old_version_can_end(
    index: Index, sql: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document that is being read is not touched by what arrives meanwhile."""
    monkeypatch.setattr(metadata, "_PIECE", 64)
    await some(index)
    old = await metadata.study(index, "1.2.3", ROOT)
    await scans.add(index, scans.scan())
    await _age(sql)
    new = await metadata.study(index, "1.2.3", ROOT)
    assert (len(await read(old)), len(await read(new))) == (5, 6)


@pytest.mark.parametrize(
    ("syntax", "told"),
    [
        ("1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.102"),
        ("1.2.840.10008.1.2.4.102.1", "1.2.840.10008.1.2.4.102"),
        ("1.2.840.10008.1.2.4.107", "1.2.840.10008.1.2.4.107"),
        ("1.2.840.10008.1.2.4.100.1", "1.2.840.10008.1.2.4.102"),
    ],
)
async def test_a_playable_video_says_so(index: Index, syntax: str, told: str) -> None:
    """(0008,3002) is one value of OHIF's list, in its place, from when the MP4 is ready."""
    elements = {
        "StudyDate": element("DA", "20261122"),
        "ContentLabel": element("CS", "x"),
        "KVP": element("DS", 1.5),
    }
    await scans.add(index, scans.scan(elements, sop="1.9", syntax=syntax, pixels=MP4))
    addresses = (("1.2.3",), ("1.2.3", "1.2.3.4"), ("1.2.3", "1.2.3.4", "1.9"))
    levels: tuple[Any, ...] = (metadata.study, metadata.series, metadata.instance)
    for level, address in zip(levels, addresses, strict=True):
        (found,) = await read(await level(index, *address, ROOT))
        assert "00083002" not in found
    job = await renditions.lease(index, ["mp4"], 30)
    assert job
    assert await renditions.finish(index, job, "renditions/1", 10, [], "video/mp4", b"x")
    for level, address in zip(levels, addresses, strict=True):
        (found,) = await read(await level(index, *address, ROOT))
        assert found["00083002"] == {"vr": "UI", "Value": [told]}
        assert list(found) == sorted(found)


@pytest.mark.parametrize("address", [("9",), ("1.2.3", "9"), ("1.2.3", "1.2.3.4", "9")])
async def test_an_unknown_address_is_not_found(index: Index, address: tuple[str, ...]) -> None:
    await some(index, 1)
    level: Any = {1: metadata.study, 2: metadata.series, 3: metadata.instance}[len(address)]
    with pytest.raises(NotFound):
        await level(index, *address, ROOT)


async def test_invented_roots_displace_each_other(index: Index, sql: Connection) -> None:
    """A Host header may name anything: of a series few addresses are kept, the one in use among them."""
    await scans.add(index, scans.scan())
    await sql.execute("update series set changed_at = now() - interval '1 minute'")
    for root in ("http://real/dicom-web", *(f"http://localhost:{port}/dicom-web" for port in range(40))):
        await metadata.series(index, "1.2.3", "1.2.3.4", root)
        await metadata.study(index, "1.2.3", root)
    kept = [row[0] for row in await sql.fetch("select root from series_metadata order by made_at")]
    assert len(kept) == 8
    assert (kept[0], kept[-1]) == ("http://real/dicom-web", "http://localhost:39/dicom-web")
    await sql.execute("update series_metadata set used_at = now() - interval '2 days' where root ~ 'real'")
    await metadata.series(index, "1.2.3", "1.2.3.4", "http://new/dicom-web")
    kept = [row[0] for row in await sql.fetch("select root from series_metadata")]
    assert len(kept) == 8
    assert "http://real/dicom-web" not in kept
