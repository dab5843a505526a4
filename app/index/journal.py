"""The journal: which objects are acknowledged, told to storage after the commit and before the answer.

A record says which objects became instances and which ceased to be. Keys are never used twice, so what is
stored is the set of all keys told of as stored, less all told of as removed: no order, no clock, and a record
that is written twice means the same. docs/durability.md has the reasons.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from uuid_utils import uuid7

from app.errors import ReelwebError, Unavailable
from app.extent import Stored
from app.index.connection import Connection

Keep = Callable[[str, bytes], Awaitable[object]]

_MERGE_AFTER = 64  # records that are kept and lie side by side

# Ours, and those of others about the same instances that may not be durable yet: what we saw rests on them.
_NOTE = """
with told as (
    update journal set is_kept = true where key = any($4::text[])
), noted as (
    insert into journal (key, sop_instance_uids, content) select $1, $2::text[], $3 where $3 <> ''
    returning key, at, content
)
select key, at, content from noted
union all
select key, at, content from journal
where not is_kept and sop_instance_uids && $2::text[] and key <> all($4::text[])"""

_TELL = "update journal set is_kept = true where key = any($1::text[])"

_OPEN = """
select key, at, content from journal where not is_kept and at < now() - $1::float8 * interval '1 second'
order by at limit 256"""

_MERGEABLE = f"""
select key, at, content from journal where is_kept and at < now() - interval '1 minute'
and (select count(*) from (select from journal where is_kept limit {_MERGE_AFTER}) as few) = {_MERGE_AFTER}
order by at limit 4096"""  # noqa: S608 - a number of ours

_DROP = """
with merged as (delete from journal where key = any($1::text[]) returning key)
insert into removed (key) select key from merged on conflict do nothing"""


class Damaged(ReelwebError):
    """A record is not what was written."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """One object as it was acknowledged."""

    stored: Stored
    at: datetime


@dataclass(frozen=True, slots=True)
class Record:
    """One committed record on its way to storage."""

    key: str
    at: datetime
    content: str

    def line(self) -> bytes:
        """As it is kept: a digest and an object of JSON."""
        text = f'{{"at":"{self.at.astimezone(UTC).isoformat()}",{self.content[1:]}'.encode()
        return b"%s %s\n" % (hashlib.sha256(text).hexdigest().encode(), text)


def content(stored: Iterable[Stored] = (), removed: Iterable[str] = ()) -> str:
    """What a record says; empty when it says nothing."""
    kept = [[one.key, one.size, one.prefix_sha256.hex(), one.dataset_sha256.hex()] for one in stored]
    gone = list(removed)
    return orjson.dumps({"stored": kept, "removed": gone}).decode() if kept or gone else ""


def parse(lines: bytes) -> Iterator[tuple[list[Acknowledged], list[str]]]:
    """What the records in one object say; Damaged where one is not what was written."""
    for line in lines.splitlines():
        digest, _, text = line.partition(b" ")
        if hashlib.sha256(text).hexdigest().encode() != digest:
            raise Damaged("A record of the journal is damaged.")
        told = orjson.loads(text)
        at = datetime.fromisoformat(told["at"])
        yield (
            [
                Acknowledged(Stored(key, size, bytes.fromhex(prefix), bytes.fromhex(dataset)), at)
                for key, size, prefix, dataset in told["stored"]
            ],
            told["removed"],
        )


def _any_key() -> str:
    return f"journal/{uuid7()}"


async def _nowhere(key: str, line: bytes) -> None:
    """An index without a storage, as tests have."""


class Journal:
    """Notes records in transactions and makes them durable after those."""

    def __init__(self, new_key: Callable[[], str] = _any_key, keep: Keep = _nowhere) -> None:
        self._new_key, self._keep = new_key, keep
        self._told: list[str] = []  # durable, and the table does not know it yet

    async def note(
        self, connection: Connection, uids: Sequence[str], stored: Iterable[Stored], removed: Iterable[str]
    ) -> list[Record]:
        """Inside a transaction: what must be durable before anybody is told how it ended."""
        async with self.noting(stored, removed) as (key, told_of, told):
            rows = await connection.fetch(_NOTE, key, list(uids), told_of, told)
        return [Record(*row) for row in rows]

    @asynccontextmanager
    async def noting(
        self, stored: Iterable[Stored], removed: Iterable[str] = ()
    ) -> AsyncIterator[tuple[str, str, list[str]]]:
        """Key and content of a new record, and the records that the table may be told of as durable."""
        told, self._told = self._told, []
        try:
            yield self._new_key(), content(stored, removed), told
        except BaseException:
            self._told += told
            raise

    async def keep(self, records: Iterable[Record]) -> None:
        """Make them durable, after their transaction; Unavailable when it is not known whether they are."""
        for record in records:
            try:
                await self._keep(record.key, record.line())
            except ReelwebError as error:
                raise Unavailable("The storage did not take the record of it.") from error
            self._told.append(record.key)

    async def tell(self, connection: Connection) -> None:
        """Tell the table what is durable."""
        told, self._told = self._told, []
        await connection.execute(_TELL, told)

    async def catch_up(self, connection: Connection, older_than_s: float) -> int:
        """Make durable what a process that died has noted; how many records that were."""
        records = [Record(*row) for row in await connection.fetch(_OPEN, float(older_than_s))]
        await self.keep(records)
        await self.tell(connection)
        return len(records)

    async def merge(self, connection: Connection) -> int:
        """Many small records become one object; how many. The small ones stay for the grace: somebody may be copying."""
        records = [Record(*row) for row in await connection.fetch(_MERGEABLE)]
        if records:
            await self._keep(self._new_key(), b"".join(record.line() for record in records))
            await connection.execute(_DROP, [record.key for record in records])
        return len(records)
