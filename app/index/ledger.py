"""What the journal, the listing and the rows say, side by side: tables of one session that verify and reindex ask.

They may hold a hundred million keys, so they lie in the database and not in our memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from app.errors import Unavailable
from app.extent import Stored
from app.index import gone, instances
from app.index.archive import Index
from app.index.connection import Connection, translated
from app.index.journal import Acknowledged
from app.index.rows import Row

_TIMEOUT_S = 3600

_TABLES = """
create temp table told_stored (
    key text collate "C", size bigint, prefix_sha256 bytea, dataset_sha256 bytea, at timestamptz);
create temp table told_removed (key text collate "C");
create temp table listed (key text collate "C", size bigint);
create temp table acknowledged (
    key text collate "C" primary key, size bigint, prefix_sha256 bytea, dataset_sha256 bytea, at timestamptz)"""

# A record may be there twice, and what it says of a key is always the same.
_CLOSE = """
insert into acknowledged
select distinct on (key) key, size, prefix_sha256, dataset_sha256, at from told_stored s
where not exists (select from told_removed r where r.key = s.key) order by key"""

_DROP = """
drop table if exists told_stored, told_removed, listed, acknowledged"""

_PAGE = """
select key, size, prefix_sha256, dataset_sha256, at from acknowledged where key > $1 order by key limit $2"""

# An upload in flight has its row in pending, what was deleted since we looked is in removed.
_LOST = """
select key, size, prefix_sha256, dataset_sha256, at from acknowledged a
where not exists (select from instance i where i.object_key = a.key)
and not exists (select from removed r where r.key = a.key) order by key"""

# Records are written after rows are gone, so a row that is told of as removed came out of a backup.
_UNDEAD = """
select i.sop_instance_uid, i.object_key from instance i
where exists (select from told_removed r where r.key = i.object_key)"""

_UNTOLD = """
select i.sop_instance_uid, i.object_key, i.size, i.prefix_sha256, i.dataset_sha256 from instance i
where i.stored_at < $1 and not exists (select from told_removed r where r.key = i.object_key)
and not exists (select from acknowledged a where a.key = i.object_key)
and not exists (select from journal j where i.sop_instance_uid = any(j.sop_instance_uids))"""

_STRANGERS = """
select l.key, l.size, exists (select from told_removed t where t.key = l.key) as is_removed from listed l
where not exists (select from instance i where i.object_key = l.key)
and not exists (select from acknowledged a where a.key = l.key)
and not exists (select from rendition d where d.object_key = l.key)
and not exists (select from pending p where p.key = l.key)
and not exists (select from removed r where r.key = l.key) order by l.key"""

_REMOVE = "insert into removed (key) select unnest($1::text[]) on conflict do nothing"
_REMOVE_TOLD = "insert into removed (key) select distinct key from told_removed on conflict do nothing"
_IS_EMPTY = "select not exists (select from study)"
_WHERE = "select position from upkeep where name = $1"
_STAND = """
insert into upkeep (name, position) values ($1, $2)
on conflict (name) do update set position = excluded.position, at = now()"""
_END = "delete from upkeep where name = $1"
_LOCK = "select pg_advisory_lock(7244234)"
_ALONE = "select pg_try_advisory_lock(7244235)"
_NOT_ALONE = "select pg_advisory_unlock(7244235)"
_UNLOCK = "select pg_advisory_unlock(7244234)"


@dataclass(frozen=True, slots=True)
class Stranger:
    """A stored object that nothing points at."""

    key: str
    size: int
    is_removed: bool


class Ledger:
    """The tables, while the session lasts; its methods raise what asyncpg raises, translated by `opened`."""

    def __init__(self, index: Index, connection: Connection) -> None:
        self._index, self.connection = index, connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Meanwhile no sweeper merges records, which would hide some from a listing."""
        await self.connection.execute(_LOCK, timeout=_TIMEOUT_S)
        try:
            yield
        finally:
            if not self.connection.is_closed():
                await self.connection.execute(_UNLOCK)
        await self.connection.execute(_CLOSE, timeout=_TIMEOUT_S)
        await self.connection.execute("analyze acknowledged, told_removed", timeout=_TIMEOUT_S)

    async def tell(self, stored: Iterable[Acknowledged], removed: Iterable[str]) -> None:
        """One record's words."""
        rows = [
            (one.stored.key, one.stored.size, one.stored.prefix_sha256, one.stored.dataset_sha256, one.at)
            for one in stored
        ]
        await self.connection.copy_records_to_table("told_stored", records=rows)
        await self.connection.copy_records_to_table("told_removed", records=[(key,) for key in removed])

    async def see(self, found: Sequence[tuple[str, int]]) -> None:
        """Some of the objects that the storage has."""
        await self.connection.copy_records_to_table("listed", records=found)

    async def page(self, after: str, limit: int) -> list[Acknowledged]:
        """The next objects that are acknowledged, by key."""
        return [_acknowledged(row) for row in await self.connection.fetch(_PAGE, after, limit)]

    async def count(self) -> tuple[int, int]:
        """How many objects are acknowledged, and how many bytes they are."""
        row = await self.connection.fetchrow("select count(*), coalesce(sum(size), 0) from acknowledged")
        assert row is not None
        return row[0], int(row[1])

    async def lost(self) -> list[Acknowledged]:
        """Acknowledged objects that no row points at."""
        return [_acknowledged(row) for row in await self._fetch(_LOST)]

    async def undead(self) -> list[tuple[str, str]]:
        """UIDs and objects of instances that the journal tells of as removed."""
        return [(row[0], row[1]) for row in await self._fetch(_UNDEAD)]

    async def bury(self, uid: str) -> None:
        """Remove the row of such an instance."""
        async with self.connection.transaction():
            await gone.take_out(self.connection, [uid])

    async def untold(self, before: datetime) -> list[tuple[str, Stored]]:
        """Instances that were stored by then and that no record tells of."""
        rows = await self._fetch(_UNTOLD, before)
        return [(row["sop_instance_uid"], Stored(*tuple(row)[1:])) for row in rows]

    async def strangers(self) -> list[Stranger]:
        """Listed objects that nothing points at."""
        return [Stranger(*row) for row in await self._fetch(_STRANGERS)]

    async def remove(self, keys: Sequence[str]) -> None:
        """Have the sweeper remove these objects after its grace."""
        await self.connection.execute(_REMOVE, list(keys))

    async def remove_told(self) -> None:
        """The same of all that records tell of as removed."""
        await self.connection.execute(_REMOVE_TOLD, timeout=_TIMEOUT_S)

    async def restore(self, rows: Sequence[Row], name: str = "", position: str = "") -> list[Row]:
        """Store these rows and note where the work stands, in one; those whose UID has a row are given back."""
        async with self.connection.transaction():
            left = await instances.restore(self.connection, rows)
            if name:
                await self.connection.execute(_STAND, name, position)
        return left

    async def note(self, untold: Sequence[tuple[str, Stored]]) -> None:
        """Tell the journal of these instances."""
        async with self.connection.transaction():
            records = await self._index.journal.note(
                self.connection, [uid for uid, _ in untold], [stored for _, stored in untold], ()
            )
        await self._index.journal.keep(records)
        await self._index.journal.tell(self.connection)

    async def adopt(self, row: Row) -> bool:
        """Make an instance of an object and tell the journal, in one; False where its UID has another."""
        async with self.connection.transaction():
            if await instances.restore(self.connection, [row]):
                return False
            records = await self._index.journal.note(
                self.connection, [row.sop_instance_uid], [row.stored], ()
            )
        await self._index.journal.keep(records)
        await self._index.journal.tell(self.connection)
        return True

    async def is_empty(self) -> bool:
        """No study is in the index."""
        return bool(await self.connection.fetchval(_IS_EMPTY))

    async def now(self) -> datetime:
        """The database's clock, with time for those who are storing to end."""
        now: datetime = await self.connection.fetchval("select now() - interval '10 minutes'")
        return now

    async def where(self, name: str) -> str | None:
        """Where a piece of work stands that was cut short."""
        found: str | None = await self.connection.fetchval(_WHERE, name)
        return found

    async def stand(self, name: str, position: str) -> None:
        """Note it."""
        await self.connection.execute(_STAND, name, position)

    async def end(self, name: str) -> None:
        """It is done."""
        await self.connection.execute(_END, name)

    async def _fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        return await self.connection.fetch(statement, *arguments, timeout=_TIMEOUT_S)


def _acknowledged(row: asyncpg.Record) -> Acknowledged:
    return Acknowledged(Stored(*tuple(row)[:4]), row["at"])


@asynccontextmanager
async def opened(index: Index) -> AsyncIterator[Ledger]:
    """Empty tables for one piece of work; it has the index's upkeep connection for itself."""
    with translated():
        async with index.upkeep.use() as connection:
            if not await connection.fetchval(_ALONE):
                raise Unavailable("Another verify or reindex is at work.")
            try:
                await connection.execute(_TABLES)
                yield Ledger(index, connection)
            finally:
                if not connection.is_closed():
                    await connection.execute(_DROP)
                    await connection.execute(_NOT_ALONE)
