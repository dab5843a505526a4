"""What the sweeper asks and tells the database: every age is the database's own clock (design 5)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from app.index.archive import Index
from app.index.connection import Connection, translated

_TURN = "select pg_try_advisory_lock(7244234)"
_END = "select pg_advisory_unlock(7244234)"

# Moved in one statement: from then on no transaction can make an instance of it, so its object may go.
_DEAD = """
with dead as (
    delete from pending where started < now() - $1::float8 * interval '1 second' returning key, started
)
insert into removed (key, since) select key, started from dead on conflict do nothing returning key"""

_DUE = """
select key from removed where since < now() - $1::float8 * interval '1 second' order by since limit 1000"""
_FORGET = "delete from removed where key = any($1::text[])"

# Whoever reads an older version, or the metadata of a series that is gone, has ten minutes to end.
_OLD_METADATA = """
delete from series_metadata m where greatest(m.made_at, m.used_at) < now() - interval '10 minutes'
and not exists (select from series r where r.id = m.series_id and r.version = m.version)"""

_DERIVED = """
select (select coalesce(sum(size), 0) from rendition where state = 'ready')
    + (select coalesce(sum(octet_length(gzip)), 0) from series_metadata)"""

_UNUSED = """
with derived as (
    select id, null::bigint as version, null::text as root, size, used_at from rendition where state = 'ready'
    union all select series_id, version, root, octet_length(gzip), used_at from series_metadata
), summed as (
    select *, sum(size) over (order by used_at desc, id desc) as total from derived
)
select id, version, root from summed where total > $1 order by used_at, id limit 500"""

# The series before the rendition, one of each in a transaction: whoever stores or deletes meets no circle.
_BUMP = """
update series set version = version + 1 where id = (
    select i.series_id from rendition d join instance i on i.id = d.instance_id
    where d.id = $1 and d.kind = 'mp4')"""
_EVICT = """
with gone as (delete from rendition where id = $1 and state = 'ready' returning object_key)
insert into removed (key) select object_key from gone where object_key is not null on conflict do nothing"""
_FORGET_RENDITION = "delete from rendition where id = $1 and state = 'ready'"
_EVICT_METADATA = "delete from series_metadata where series_id = $1 and version = $2 and root = $3"


@asynccontextmanager
async def turn(index: Index) -> AsyncIterator[Connection | None]:
    """The sweeper's connection; None while another process sweeps."""
    with translated():
        async with index.upkeep.use() as connection:
            if not await connection.fetchval(_TURN):
                yield None
                return
            try:
                yield connection
            finally:
                if not connection.is_closed():
                    await connection.execute(_END)


async def dead(connection: Connection, grace_s: float) -> int:
    """Give up on uploads that began so long ago; how many."""
    return len(await connection.fetch(_DEAD, float(grace_s)))


async def due(connection: Connection, grace_s: float) -> list[str]:
    """Keys of objects that have been nobody's for so long."""
    return [row["key"] for row in await connection.fetch(_DUE, float(grace_s))]


async def forget(connection: Connection, keys: Sequence[str]) -> None:
    """These objects are gone."""
    await connection.execute(_FORGET, list(keys))


async def old_metadata(connection: Connection) -> int:
    """Remove documents that nobody asks for any more; how many."""
    return int((await connection.execute(_OLD_METADATA)).split()[-1])


async def unused(connection: Connection, quota: int) -> list[asyncpg.Record]:
    """What is made from instances beyond `quota` bytes, unused for longest first."""
    if await connection.fetchval(_DERIVED) <= quota:
        return []
    return await connection.fetch(_UNUSED, quota)


async def evict(connection: Connection, one: asyncpg.Record) -> None:
    """Remove one that `unused` named; it is made again when it is asked for."""
    if one["root"] is not None:
        await connection.execute(_EVICT_METADATA, one["id"], one["version"], one["root"])
        return
    async with connection.transaction():
        await connection.execute(_BUMP, one["id"])
        await connection.execute(_EVICT, one["id"])


async def forget_rendition(connection: Connection, rendition_id: int) -> None:
    """Its object is gone: let it be made again."""
    async with connection.transaction():
        await connection.execute(_BUMP, rendition_id)
        await connection.execute(_FORGET_RENDITION, rendition_id)
