"""A database that is away, full or slow is Unavailable, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from app import index as index_tool
from app.dicom import matching
from app.dicom.attributes import Level
from app.errors import Unavailable
from app.index import Index, Knobs, extents, search
from app.index.connection import Connection, translated
from app.storage import keys
from tests.index import scans


async def test_who_finds_no_connection_is_told_so(database: str) -> None:
    """Within the acquire timeout; later it works again."""
    async with index_tool.opened(database, keys.new, Knobs(readers=1, acquire_timeout_s=0.05)) as index:
        async with index.reader.connection():
            with pytest.raises(Unavailable, match="in use"):
                await extents.bulk(index, 1, "7FE00010")
        assert await extents.bulk(index, 1, "7FE00010") is None


async def test_a_client_that_stalls_holds_no_connection(database: str) -> None:
    """Between pages of instances the only connection is free."""
    async with index_tool.opened(database, keys.new, Knobs(readers=1, acquire_timeout_s=0.5)) as index:
        await scans.add(index, scans.scan())
        async for _ in extents.instances(index, "1.2.3"):
            found = await search.search(index, matching.parse(Level.STUDY, None, None, []))
            assert len(found.rows) == 1


async def test_cut_connections_recover(index: Index, sql: Connection) -> None:
    """A reader may see one failure, readiness tells the truth, and then all is well again."""
    await index.ready()
    await sql.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'reelweb'"
    )
    for _ in range(20):
        try:
            await index.ready()
            await search.search(index, matching.parse(Level.STUDY, None, None, []))
            break
        except Unavailable:
            await asyncio.sleep(0.05)
    await index.ready()
    await scans.add(index, scans.scan())


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.UniqueViolationError("Key (name)=(Secret) exists"),
        asyncpg.QueryCanceledError("Secret"),
        ConnectionRefusedError("Secret"),
        TimeoutError("Secret"),
        asyncpg.InterfaceError("Secret"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_error_quotes_a_value(error: Any) -> None:
    """Whatever the database said stays with it: neither text nor cause goes on."""
    with pytest.raises(Unavailable) as refused, translated():
        raise error
    assert "Secret" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
