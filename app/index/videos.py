"""Videos as they play: an instance, its MP4 and where all of it lies, in one statement for all who ask at once.

What was read of a version is kept, for its rows never change; whether it is still there is asked each time.
"""

# ruff: noqa: S608 - the columns of app.index.located

from __future__ import annotations

import asyncio
import struct
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg
import orjson

from app.errors import NotFound
from app.extent import Extent, Extents, joined
from app.index.connection import Connection, translated
from app.index.located import LOCATED, Located, located
from app.index.pool import OwnConnection
from app.index.queue import MP4
from app.index.together import Together

Address = tuple[str, str, str]
KEPT: Final = 200_000  # extents: some 40 MB
MOST: Final = 1024
_MANY: Final = 16 * 4096  # bytes of fragments that take the loop too long
_FRAGMENT: Final = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True)
class Video:
    """A video as it is served: extents, a media type, and what tells this rendition from another."""

    extents: Extents
    media_type: str
    version: str


@dataclass(frozen=True, slots=True)
class Playable:
    """An instance, and its video when one is ready."""

    located: Located
    video: Video | None


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was read of one version: instance, scanner, rendition; their rows never change."""

    version: tuple[int, int, int]
    playable: Playable

    @property
    def weight(self) -> int:
        return self.playable.video.extents.count if self.playable.video else 0


_READY = f"""
select id, object_key, size, media_type, sha256, layout, used_at < now() - interval '1 hour' as is_rested
    from rendition where instance_id = i.id and kind = '{MP4}' and params = '' and state = 'ready'
    order by maker_version desc limit 1"""

_STILL = f"""
select asked.number, asked.made, d.is_rested
from unnest($1::bigint[], $2::smallint[], $3::bigint[]) with ordinality as asked (id, scanned_by, made, number)
join instance i on i.id = asked.id and i.scanned_by = asked.scanned_by
cross join lateral ({_READY}) d where d.id = asked.made"""

_FIND = f"""
select {LOCATED}, i.scanned_by, i.stream_length, d.id as made, d.object_key as made_key, d.size as made_size,
    d.media_type, d.sha256, d.is_rested, d.layout::text, case when d.id is not null then i.fragments end as fragments
from unnest($1::text[], $2::text[], $3::text[]) as asked (study, series, instance)
join instance i on i.sop_instance_uid = asked.instance
join series r on r.id = i.series_id and r.series_instance_uid = asked.series
join study s on s.id = i.study_id and s.study_instance_uid = asked.study
left join lateral ({_READY}) d on true"""

_USE = "update rendition set used_at = now() where id = any($1::bigint[])"


class Videos:
    """Looks them up over a connection of its own, whose statements are planned once."""

    def __init__(self, connection: OwnConnection) -> None:
        self._connection = connection
        self._together = Together(self._found)
        self._kept: OrderedDict[Address, _Kept] = OrderedDict()
        self._weight = 0

    async def find(self, study: str, series: str, instance: str) -> Playable:
        """The instance as it is now; NotFound, also when it belongs to another study or series."""
        found = await self._together.of((study, series, instance))
        if found is None:
            raise NotFound("Nothing is stored under this instance.")
        return found

    async def close(self) -> None:
        """Nobody is answered any more."""
        await self._together.close()

    async def _found(self, asked: Sequence[Address]) -> Mapping[Address, Playable]:
        kept = {address: self._kept[address] for address in asked if address in self._kept}
        with translated():
            async with self._connection.use() as connection:
                found = await self._still(connection, kept) if kept else {}
                new = [address for address in asked if address not in found]
                return found | (await self._read(connection, new) if new else {})

    async def _still(self, connection: Connection, kept: Mapping[Address, _Kept]) -> dict[Address, Playable]:
        """Those that are as they were."""
        versions = zip(*(one.version for one in kept.values()), strict=True)
        addresses, found = list(kept), {}
        rows = await connection.fetch(_STILL, *versions)
        for row in rows:
            address = addresses[row["number"] - 1]
            self._kept.move_to_end(address)
            found[address] = kept[address].playable
        await _use(connection, rows)
        return found

    async def _read(self, connection: Connection, asked: Sequence[Address]) -> dict[Address, Playable]:
        found = {}
        rows = await connection.fetch(_FIND, *zip(*asked, strict=True))
        for row in rows:
            one = Playable(located(row), await _video(row))
            at = one.located
            address = at.study_instance_uid, at.series_instance_uid, at.sop_instance_uid
            found[address] = one
            if one.video:
                self._keep(address, _Kept((at.instance_id, row["scanned_by"], row["made"]), one))
        await _use(connection, rows)
        return found

    def _keep(self, address: Address, one: _Kept) -> None:
        self._drop(address)
        self._kept[address] = one
        self._weight += one.weight
        while self._weight > KEPT or len(self._kept) > MOST:
            self._drop(next(iter(self._kept)))

    def _drop(self, address: Address) -> None:
        kept = self._kept.pop(address, None)
        if kept:
            self._weight -= kept.weight


async def _use(connection: Connection, rows: Sequence[asyncpg.Record]) -> None:
    """Once in a while: what is unused for longest goes first."""
    rested = [row["made"] for row in rows if row["is_rested"]]
    if rested:
        await connection.execute(_USE, rested)


async def _video(row: asyncpg.Record) -> Video | None:
    if row["made"] is None:
        return None
    many = len(row["fragments"]) > _MANY
    extents = await asyncio.to_thread(_extents, row) if many else _extents(row)
    return Video(extents, row["media_type"], row["sha256"].hex()[:16])


def _extents(row: asyncpg.Record) -> Extents:
    """The MP4: pieces of its own object and of the stored stream, without the byte that pads it."""
    fragments = (Extent(row["key"], *part) for part in _FRAGMENT.iter_unpack(row["fragments"]))
    sources = {
        "rendition": Extents([Extent(row["made_key"], 0, row["made_size"])]),
        "stream": Extents(fragments).slice(0, row["stream_length"]),
    }
    spans = orjson.loads(row["layout"])
    return joined(
        sources[span["source"]].slice(span["offset"], span["offset"] + span["length"]) for span in spans
    )
