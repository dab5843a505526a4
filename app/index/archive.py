"""The index as wiring opens it: readers, committer, keys, jobs and readiness, each with what it needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

from app.index.changes import Changes
from app.index.committer import Committer
from app.index.connection import translated
from app.index.journal import Journal
from app.index.pending import Pending
from app.index.pool import OWN, KeyMaker, Knobs, OwnConnection, Reader, reading
from app.index.videos import Videos


class Turns:
    """Whoever makes the same thing takes turns; who comes second finds it made."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    def of(self, thing: Hashable) -> asyncio.Lock:
        """The lock of this thing, for as long as somebody holds or awaits it."""
        return self._locks.setdefault(thing, asyncio.Lock())


@dataclass(frozen=True, slots=True)
class Index:
    """What acts are handed."""

    reader: Reader
    committer: Committer
    pending: Pending
    jobs: OwnConnection
    readiness: OwnConnection
    upkeep: OwnConnection
    journal: Journal
    turns: Turns
    videos: Videos
    changes: Changes

    async def ready(self) -> None:
        """Unavailable when the database does not answer now."""
        with translated():
            async with asyncio.timeout(3), self.readiness.use() as connection:
                await connection.fetchval("select 1")


@asynccontextmanager
async def opened(
    dsn: str, new_key: KeyMaker, knobs: Knobs | None = None, journal: Journal | None = None
) -> AsyncIterator[Index]:
    """The index over a migrated database, for as long as the block lasts."""
    knobs, journal = knobs or Knobs(), journal or Journal()
    own = [OwnConnection(dsn, knobs) for _ in range(OWN)]
    async with reading(dsn, knobs) as reader:
        index = Index(
            reader=reader,
            committer=Committer(own[0], knobs, journal),
            pending=Pending(own[1], new_key, knobs),
            jobs=own[2],
            readiness=own[3],
            upkeep=own[4],
            journal=journal,
            turns=Turns(),
            videos=Videos(own[5]),
            changes=Changes(own[6]),
        )
        index.committer.start()
        try:
            yield index
        finally:
            await index.committer.close()
            try:
                await index.pending.close()
                await index.videos.close()
                await index.changes.close()
            finally:
                for one in own:
                    await one.close()
