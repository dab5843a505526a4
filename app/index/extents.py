"""Where the bytes of instances, frames and bulk values lie; the read path parses no DICOM (design 7)."""

# ruff: noqa: S608 - one list of columns for three statements

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import asyncpg

from app.errors import NotFound
from app.index.archive import Index
from app.index.located import LOCATED, Located, located

PAGE = 500


@dataclass(frozen=True, slots=True)
class PixelRow:
    """The pixel data of an instance; `frame_bits` is 0 when it is encapsulated."""

    tag: str
    vr: str
    offset: int
    length: int
    number_of_frames: int
    frame_bits: int
    stream_length: int
    container: str

    @property
    def encapsulated(self) -> bool:
        """It lies in fragments."""
        return self.frame_bits == 0


_INSTANCE = f"""
select {LOCATED} from instance i join series r on r.id = i.series_id join study s on s.id = i.study_id
where i.sop_instance_uid = $3 and s.study_instance_uid = $1 and r.series_instance_uid = $2"""

# Ids by the index first, so that a page never sorts more than it returns.
_PAGE = f"""
with page as materialized (
    select i.id, i.series_id, i.instance_number from instance i
    where i.study_id = (select id from study where study_instance_uid = $1)
      and ($2::text is null or i.series_id = (
          select id from series where series_instance_uid = $2
          and study_id = (select id from study where study_instance_uid = $1)))
      and (i.series_id, i.instance_number, i.id) > ($3::bigint, $4::integer, $5::bigint)
    order by i.series_id, i.instance_number, i.id limit {PAGE}
)
select {LOCATED}, page.series_id, page.instance_number
from page join instance i on i.id = page.id join series r on r.id = i.series_id join study s on s.id = i.study_id
order by page.series_id, page.instance_number, page.id"""

_PIXELS = """
select pixel_tag as tag, pixel_vr as vr, pixel_offset as "offset", pixel_length as length, number_of_frames,
    frame_bits, stream_length, container from instance where id = $1 and pixel_tag is not null"""

_WINDOW = """
select pixel_offset, frame_bits, container, number_of_frames, frame_starts is not null as has_starts,
    octet_length(fragments) / 16 as fragments_in_all,
    substr(frame_starts, 4 * ($2::integer - 1) + 1, 4 * ($3::integer - $2 + 2)) as starts,
    case when frame_starts is null
        then substr(fragments, 16 * ($2 - 1) + 1, 16 * ($3 - $2 + 1)) end as fragments
from instance where id = $1 and pixel_tag is not null"""

_FRAGMENTS_OF = "select substr(fragments, 16 * $2::integer + 1, 16 * $3::integer) from instance where id = $1"

_FRAGMENTS = "select fragments from instance where id = $1"

_BULK = """
select bulk -> $2 ->> 0 as vr, (bulk -> $2 ->> 1)::bigint as "offset", (bulk -> $2 ->> 2)::bigint as length
from instance where id = $1 and bulk ? $2
union all
select pixel_vr, pixel_offset, pixel_length from instance where id = $1 and pixel_tag = $2
limit 1"""


async def instances(
    index: Index, study: str, series: str | None = None, instance: str | None = None
) -> AsyncIterator[list[Located]]:
    """Pages of what lies below an address, in order of series, number and id; NotFound when nothing does.

    No connection is held between pages, so a client may take its time.
    """
    if series is not None and instance is not None:
        yield [await _found(index, study, series, instance)]
        return
    after = (0, -(2**31), 0)
    rows = await index.reader.fetch(_PAGE, study, series, *after)
    if not rows:
        raise NotFound("Nothing is stored under this study or series.")
    while rows:
        yield [located(row) for row in rows]
        if len(rows) < PAGE:
            return
        after = (rows[-1]["series_id"], rows[-1]["instance_number"], rows[-1]["instance_id"])
        rows = await index.reader.fetch(_PAGE, study, series, *after)


async def instance(index: Index, study: str, series: str, instance: str) -> Located:
    """The instance of this address; NotFound, also when it belongs to another study or series."""
    return await _found(index, study, series, instance)


async def _found(index: Index, study: str, series: str, instance: str) -> Located:
    row = await index.reader.fetchrow(_INSTANCE, study, series, instance)
    if row is None:
        raise NotFound("Nothing is stored under this instance.")
    return located(row)


async def pixels(index: Index, instance_id: int) -> PixelRow | None:
    """The pixel data, when there is any."""
    row = await index.reader.fetchrow(_PIXELS, instance_id)
    return None if row is None else PixelRow(**dict(row))


async def frames(index: Index, instance_id: int, numbers: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Offset and length of the pieces of each frame (numbers from 1), read from the index by `substr`.

    A native frame whose bits start or end inside a byte covers that byte. NotFound names a frame that is not there.
    """
    first, last = min(numbers), max(numbers)
    row = await index.reader.fetchrow(_WINDOW, instance_id, max(first, 1), max(last, 1))
    if row is None:
        raise NotFound("This instance has no frames.")
    if row["container"]:
        raise NotFound("The frames of a video are one stream.")
    if first < 1 or last > row["number_of_frames"]:
        wrong = first if first < 1 else last
        raise NotFound(f"There is no frame {wrong}: this instance has {row['number_of_frames']}.")
    if row["frame_bits"]:
        return [[_native(row["pixel_offset"], row["frame_bits"], number)] for number in numbers]
    if not row["has_starts"]:
        found = _pairs(row["fragments"])
        return [[found[number - first]] for number in numbers]
    return await _of_fragments(index, instance_id, numbers, row)


def _native(offset: int, bits: int, number: int) -> tuple[int, int]:
    start, end = bits * (number - 1), bits * number
    return offset + start // 8, (end + 7) // 8 - start // 8


async def _of_fragments(
    index: Index, instance_id: int, numbers: Sequence[int], row: asyncpg.Record
) -> list[list[tuple[int, int]]]:
    first, last = min(numbers), max(numbers)
    starts = [start for (start,) in struct.iter_unpack("<I", row["starts"])]
    if len(starts) < last - first + 2:  # the last frame ends with the last fragment
        starts.append(row["fragments_in_all"])
    window = await index.reader.fetchrow(_FRAGMENTS_OF, instance_id, starts[0], starts[-1] - starts[0])
    if window is None:
        raise NotFound("This instance is gone.")
    found = _pairs(window[0])
    bounds = [
        (starts[number - first] - starts[0], starts[number - first + 1] - starts[0]) for number in numbers
    ]
    return [found[start:end] for start, end in bounds]


def _pairs(fragments: bytes) -> list[tuple[int, int]]:
    return [(offset, length) for offset, length in struct.iter_unpack("<QQ", fragments)]


async def fragments(index: Index, instance_id: int) -> bytes:
    """Offset and length of every fragment, as `<QQ`; b'' when the pixel data is native."""
    row = await index.reader.fetchrow(_FRAGMENTS, instance_id)
    return b"" if row is None or row["fragments"] is None else bytes(row["fragments"])


async def bulk(index: Index, instance_id: int, path: str) -> tuple[str, int, int] | None:
    """VR, offset and length of one bulk value; of encapsulated pixel data they span its items."""
    row = await index.reader.fetchrow(_BULK, instance_id, path)
    return None if row is None else (row["vr"], row["offset"], row["length"])
