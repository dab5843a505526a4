"""Where bytes lie is told as it was scanned, page by page."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.dicom.scanner import Bulk, Pixels
from app.errors import NotFound
from app.index import Index, extents
from app.index.connection import Connection
from app.index.located import Located
from tests.index import scans
from tests.index.scans import counted, element


def native(frames: int, bits: int) -> Pixels:
    return Pixels("7FE00010", "OW", 1000, (frames * bits + 7) // 8, frames, bits, b"", b"", 0, "")


def encapsulated(lengths: list[int], starts: list[int] | None = None) -> Pixels:
    at, packed = 500, b""
    for length in lengths:
        packed += struct.pack("<QQ", at, length)
        at += length + 8
    frame_starts = struct.pack(f"<{len(starts)}I", *starts) if starts else b""
    number = len(starts) if starts else len(lengths)
    return Pixels("7FE00010", "OB", 492, at, number, 0, packed, frame_starts, sum(lengths), "")


async def located(index: Index, sop: str = "1.9") -> Located:
    return await extents.instance(index, "1.2.3", "1.2.3.4", sop)


async def test_an_instance_is_found_by_its_whole_address(index: Index) -> None:
    """In one statement; under another study or series it is not."""
    await scans.add(index, scans.scan(sop="1.9"))
    async with counted(index) as statements:
        found = await located(index)
    assert len(statements) == 1
    assert (found.sop_instance_uid, found.study_instance_uid, found.series_instance_uid) == (
        "1.9",
        "1.2.3",
        "1.2.3.4",
    )
    assert (found.size, found.dataset_offset, len(found.dataset_sha256)) == (1000, 400, 32)
    assert found.key.startswith("objects/")
    for address in (("9", "1.2.3.4", "1.9"), ("1.2.3", "9", "1.9"), ("1.2.3", "1.2.3.4", "9")):
        with pytest.raises(NotFound):
            await extents.instance(index, *address)


async def test_pages_are_in_order_and_lose_nothing(index: Index, sql: Connection, monkeypatch: Any) -> None:
    """By series, number and id; instances without a number last; one statement a page."""
    monkeypatch.setattr(extents, "PAGE", 4)
    monkeypatch.setattr(extents, "_PAGE", extents._PAGE.replace("limit 500", "limit 4"))
    for number in [7, 3, None, 3, 1, None, 2, -5, 9]:
        values = [] if number is None else [number]
        await scans.add(
            index, scans.scan({"InstanceNumber": element("IS", *values)}, series=f"2.{(number or 0) % 2}")
        )
    async with counted(index) as statements:
        pages = [page async for page in extents.instances(index, "1.2.3")]
    assert [len(page) for page in pages] == [4, 4, 1]
    assert len(statements) == 3
    told = [one.instance_id for page in pages for one in page]
    ids = await sql.fetch("select id from instance order by series_id, instance_number, id")
    assert told == [row[0] for row in ids]
    (page,) = [page async for page in extents.instances(index, "1.2.3", "2.0")]
    assert len(page) == 3
    (alone,) = [page async for page in extents.instances(index, "1.2.3", "2.0", page[0].sop_instance_uid)]
    assert alone == page[:1]


@pytest.mark.parametrize("address", [("9",), ("1.2.3", "9"), ("1.2.3", "1.2.3.4", "9")])
async def test_nothing_below_an_address_is_not_found(index: Index, address: tuple[str, ...]) -> None:
    await scans.add(index, scans.scan())
    with pytest.raises(NotFound):
        await anext(extents.instances(index, *address))


@pytest.mark.parametrize(
    ("pixels", "numbers", "expected", "count"),
    [
        (native(3, 128), [1, 3], [[(1000, 16)], [(1032, 16)]], 1),
        (native(5, 9), [1, 2, 5], [[(1000, 2)], [(1001, 2)], [(1004, 2)]], 1),
        (encapsulated([10, 20, 30]), [3, 1, 3], [[(546, 30)], [(500, 10)], [(546, 30)]], 1),
        (encapsulated([10, 20, 30], [0, 2]), [1, 2], [[(500, 10), (518, 20)], [(546, 30)]], 2),
        (encapsulated([10, 20, 30], [0, 1]), [2], [[(518, 20), (546, 30)]], 2),
    ],
    ids=["native", "native bits", "a fragment each", "fragments first", "fragments last"],
)
async def test_frames_lie_where_they_lie(
    index: Index, pixels: Pixels, numbers: list[int], expected: Any, count: int
) -> None:
    """In the order asked, with repetitions, in one or two statements whatever their number."""
    await scans.add(index, scans.scan(sop="1.9", pixels=pixels))
    instance = await located(index)
    async with counted(index) as statements:
        assert await extents.frames(index, instance.instance_id, numbers) == expected
    assert len(statements) == count
    assert instance.number_of_frames == pixels.number_of_frames
    row = await extents.pixels(index, instance.instance_id)
    assert row
    assert row.encapsulated == (pixels.frame_bits == 0)
    assert (row.offset, row.length, row.vr) == (pixels.offset, pixels.length, pixels.vr)
    assert await extents.fragments(index, instance.instance_id) == pixels.fragments
    for wrong in (0, pixels.number_of_frames + 1):
        with pytest.raises(NotFound, match=f"frame {wrong}"):
            await extents.frames(index, instance.instance_id, [1, wrong])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=4), min_size=1, max_size=12), st.data())
async def test_any_frames_of_any_fragments(
    index: Index, frames: list[list[int]], data: st.DataObject
) -> None:
    """Equal to what a loop over the fragments finds."""
    lengths = [length for frame in frames for length in frame]
    starts = [sum(len(frame) for frame in frames[:number]) for number in range(len(frames))]
    one = scans.scan(pixels=encapsulated(lengths, starts))
    await scans.add(index, one)
    instance = await located(index, one.head.sop_instance_uid)
    numbers = data.draw(st.lists(st.integers(1, len(frames)), min_size=1, max_size=5))
    offsets = [500 + sum(lengths[:at]) + 8 * at for at in range(len(lengths))]
    pieces = list(zip(offsets, lengths, strict=True))
    expected = [pieces[starts[n - 1] : starts[n - 1] + len(frames[n - 1])] for n in numbers]
    assert await extents.frames(index, instance.instance_id, numbers) == expected


async def test_an_instance_without_pixels_has_no_frames(index: Index) -> None:
    await scans.add(index, scans.scan(sop="1.9"))
    instance = await located(index)
    assert await extents.pixels(index, instance.instance_id) is None
    assert await extents.fragments(index, instance.instance_id) == b""
    with pytest.raises(NotFound):
        await extents.frames(index, instance.instance_id, [1])


async def test_a_video_is_one_stream(index: Index) -> None:
    """Its frames are told by the stream itself, whatever number was declared."""
    pixels = replace(encapsulated([10, 20]), number_of_frames=250, container="mp4")
    await scans.add(index, scans.scan(sop="1.9", pixels=pixels))
    instance = await located(index)
    with pytest.raises(NotFound, match="one stream"):
        await extents.frames(index, instance.instance_id, [1])
    assert await extents.fragments(index, instance.instance_id) == pixels.fragments


async def test_bulk_values_are_found_by_their_path(index: Index) -> None:
    """Pixel data too, listed or not; an unknown path is nothing."""
    bulk = (Bulk("00420011", "OB", 700, 2000), Bulk("54000100/1/54001010", "OW", 5000, 1 << 40))
    await scans.add(index, scans.scan(sop="1.9", bulk=bulk, pixels=native(1, 128)))
    number = (await located(index)).instance_id
    assert await extents.bulk(index, number, "00420011") == ("OB", 700, 2000)
    assert await extents.bulk(index, number, "54000100/1/54001010") == ("OW", 5000, 1 << 40)
    assert await extents.bulk(index, number, "7FE00010") == ("OW", 1000, 16)
    assert await extents.bulk(index, number, "00420012") is None
