"""Videos as they play: an instance and which version of its MP4 is ready, in one statement for all who ask at once."""

# ruff: noqa: S608 - the columns of app.index.located

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from app.errors import NotFound
from app.index.connection import Connection, translated
from app.index.located import LOCATED, Located, located
from app.index.pool import OwnConnection
from app.index.queue import MP4, STREAM
from app.index.together import Together

Address = tuple[str, str, str]
Version = tuple[str, int, str, int]


@dataclass(frozen=True, slots=True)
class Playable:
    """An instance, and the version of its video when one is ready: what was made of one version never changes.

    Its object, the scanner that told where things lie, the rendition's object, and what was found out of its stream.
    """

    located: Located
    version: Version | None


_FIND = f"""
select {LOCATED}, i.scanned_by, d.id as made, d.object_key as made_key, d.is_rested, coalesce(t.id, 0) as told
from unnest($1::text[], $2::text[], $3::text[]) as asked (study, series, instance)
join instance i on i.sop_instance_uid = asked.instance
join series r on r.id = i.series_id and r.series_instance_uid = asked.series
join study s on s.id = i.study_id and s.study_instance_uid = asked.study
left join lateral (
    select id, object_key, used_at < now() - interval '1 hour' as is_rested from rendition
    where instance_id = i.id and kind = '{MP4}' and params = '' and state = 'ready'
    order by maker_version desc limit 1) d on true
left join lateral (
    select id from rendition where instance_id = i.id and kind = '{STREAM}' and params = '' and state = 'ready'
    order by maker_version desc limit 1) t on true"""

_USE = "update rendition set used_at = now() where id = any($1::bigint[])"


class Videos:
    """Looks them up over a connection of its own, whose statements are planned once."""

    def __init__(self, connection: OwnConnection) -> None:
        self._connection = connection
        self._together = Together(self._found)

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
        with translated():
            async with self._connection.use() as connection:
                rows = await connection.fetch(_FIND, *zip(*asked, strict=True))
                await _use(connection, rows)
        found = [Playable(located(row), _version(row)) for row in rows]
        return {_address(one.located): one for one in found}


def _address(at: Located) -> Address:
    return at.study_instance_uid, at.series_instance_uid, at.sop_instance_uid


def _version(row: asyncpg.Record) -> Version | None:
    return (row["key"], row["scanned_by"], row["made_key"], row["told"]) if row["made"] else None


async def _use(connection: Connection, rows: Sequence[asyncpg.Record]) -> None:
    """Once in a while: what is unused for longest goes first."""
    rested = [row["made"] for row in rows if row["is_rested"]]
    if rested:
        await connection.execute(_USE, rested)
