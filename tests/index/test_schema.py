"""The schema comes up once, together, or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from app import index as index_tool
from app.errors import Unavailable
from app.index import schema
from app.index.connection import Connection
from app.storage import keys
from tests import cluster


@pytest.fixture
async def empty(postgresql: str, worker_id: str) -> str:
    name = f"reelweb_empty_{worker_id}"
    connection = await asyncpg.connect(postgresql)
    await connection.execute(f'drop database if exists "{name}" with (force)')
    await connection.execute(f'create database "{name}"')
    await connection.close()
    return cluster.named(postgresql, name)


async def test_several_that_start_at_once_migrate_once(empty: str) -> None:
    """Concurrent indexes among the migrations do not lock them up."""
    applied = await asyncio.gather(*(schema.migrate(empty) for _ in range(4)))
    assert sorted(len(names) for names in applied)[:3] == [0, 0, 0]
    assert await schema.migrate(empty) == []


async def test_a_migration_is_whole_or_not(empty: str, tmp_path: Path) -> None:
    """What fails leaves nothing; without transaction each statement stands alone."""
    (tmp_path / "0001_one.sql").write_text("create table one (id int);")
    (tmp_path / "0002_two.sql").write_text(
        "-- no transaction\ncreate index concurrently a on one (id);\nselect 1;\n"
    )
    (tmp_path / "0003_bad.sql").write_text("create table three (id int); select nonsense;")
    with pytest.raises(Unavailable, match="42703"):
        await schema.migrate(empty, tmp_path)
    connection = await asyncpg.connect(empty)
    assert [row[0] for row in await connection.fetch("select version from schema_version")] == [1, 2]
    assert await connection.fetchval("select to_regclass('three')") is None
    assert await connection.fetchval("select to_regclass('a')") is not None
    await connection.close()


async def test_a_newer_schema_is_refused(database: str, sql: Connection) -> None:
    """In one sentence, by who migrates and by who serves."""
    await sql.execute("insert into schema_version (version, name) values (9999, 'future')")
    try:
        with pytest.raises(schema.SchemaNewer, match="9999"):
            await schema.migrate(database)
        with pytest.raises(schema.SchemaNewer, match="update the program"):
            async with index_tool.opened(database, keys.new):
                pass
    finally:
        await sql.execute("delete from schema_version where version = 9999")


async def test_trigrams_know_every_script(sql: Connection) -> None:
    """The ctype of the database is UTF-8, so names in Cyrillic have trigrams."""
    assert await sql.fetchval("select show_trgm('Ж')")


async def test_a_database_that_is_away_is_said_so() -> None:
    with pytest.raises(Unavailable):
        await schema.migrate("postgresql://nobody@127.0.0.1:1/none")
