"""The index, opened: a pool for readers, own connections for committer, keys, jobs and readiness."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from app.errors import Unavailable
from app.index import schema
from app.index.connection import Connection, translated

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

# No just-in-time compiler for statements of a millisecond. Readers plan anew: whether an index helps depends on
# the key (a prefix, a rare modality). Writers plan once.
_SETTINGS = {"application_name": "reelweb", "jit": "off"}
_READER_SETTINGS = _SETTINGS | {"plan_cache_mode": "force_custom_plan"}
_WRITER_SETTINGS = _SETTINGS | {"plan_cache_mode": "force_generic_plan"}


OWN = 7  # connections beside the readers'


@dataclass(frozen=True, slots=True)
class Knobs:
    """How the index uses the database."""

    readers: int = 8
    acquire_timeout_s: float = 5
    statement_timeout_s: float = 30
    connect_timeout_s: float = 10
    batch_rows: int = 256
    batch_bytes: int = 16 << 20
    reserved_keys: int = 64
    reserved_keys_life_s: float = 60
    rebuilds: bool = False
    """Open an index that is not whole."""
    replaces: bool = False
    """Another instance under a stored SOP Instance UID takes its place."""


class OwnConnection:
    """One connection that is nobody else's; made when needed, again when it was lost."""

    def __init__(self, dsn: str, knobs: Knobs) -> None:
        self._dsn, self._knobs = dsn, knobs
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Connection]:
        """The connection for as long as the block lasts; asyncpg's errors come out as they are."""
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect(self._dsn, self._knobs)
            yield self._connection

    async def close(self) -> None:
        """End it at once."""
        if self._connection and not self._connection.is_closed():
            self._connection.terminate()


async def connect(dsn: str, knobs: Knobs) -> asyncpg.Connection[asyncpg.Record]:
    """A connection of those who write."""
    return await asyncpg.connect(
        dsn,
        timeout=knobs.connect_timeout_s,
        command_timeout=knobs.statement_timeout_s,
        server_settings=_WRITER_SETTINGS,
    )


class Reader:
    """Connections for those who ask; none is held while a client reads."""

    def __init__(self, pool: Pool, knobs: Knobs) -> None:
        self._pool, self._knobs = pool, knobs

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """One of the pool, within the acquire timeout; errors are translated here."""
        with translated():
            try:
                connection = await self._pool.acquire(timeout=self._knobs.acquire_timeout_s)
            except TimeoutError:
                raise Unavailable("All connections to the database are in use.") from None
            try:
                yield connection
            finally:
                await self._pool.release(connection)

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """The rows of one statement."""
        async with self.connection() as connection:
            return await connection.fetch(statement, *arguments)

    async def fetchrow(self, statement: str, *arguments: Any) -> asyncpg.Record | None:
        """The first row of one statement."""
        async with self.connection() as connection:
            return await connection.fetchrow(statement, *arguments)


async def _left_as_it_was(_connection: Connection) -> None:
    """Readers change nothing of their session: tidying up after each would cost as much as what they asked."""


@asynccontextmanager
async def reading(dsn: str, knobs: Knobs) -> AsyncIterator[Reader]:
    """A pool of readers over a schema that this program knows."""
    with translated():
        pool = await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=knobs.readers,
            timeout=knobs.connect_timeout_s,
            command_timeout=knobs.statement_timeout_s,
            server_settings=_READER_SETTINGS,
            reset=_left_as_it_was,
        )
    try:
        reader = Reader(pool, knobs)
        async with reader.connection() as connection:
            await schema.check(connection)
            if not knobs.rebuilds:
                await schema.check_whole(connection)
        yield reader
    finally:
        try:
            await asyncio.wait_for(pool.close(), knobs.connect_timeout_s)
        except TimeoutError:
            pool.terminate()


KeyMaker = Callable[[], str]
