"""Brings the schema to what this version knows: plain SQL, forward only, one transaction each."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import structlog

from app.errors import ReelwebError
from app.index.connection import Connection, translated

log = structlog.get_logger()

FOLDER = Path(__file__).parent.parent / "migrations"
_ALONE = "-- no transaction"
_LOCK = 7244233

_LOCKED = "select pg_try_advisory_lock($1)"
_TABLE = """
create table if not exists schema_version (
    version integer primary key,
    name text not null,
    applied_at timestamptz not null default now()
)"""
_APPLIED = "select version from schema_version order by version"
_APPLY = "insert into schema_version (version, name) values ($1, $2)"
_REBUILDING = "select exists (select from upkeep where name = 'reindex')"
_TRIGRAMS = "select exists (select from pg_extension where extname = 'pg_trgm')"


class Rebuilding(ReelwebError):
    """The index is not whole yet."""


class SchemaNewer(ReelwebError):
    """The database belongs to a newer version of the program."""


async def migrate(dsn: str, folder: Path = FOLDER) -> list[str]:
    """Apply what is missing and name it; several starting at once take turns."""
    with translated():
        connection = await asyncpg.connect(dsn, timeout=30)
        try:
            # Polled: a session that blocks on the lock holds a snapshot, and a concurrent index waits for it.
            while not await connection.fetchval(_LOCKED, _LOCK):  # noqa: ASYNC110 - the event is another process
                await asyncio.sleep(0.1)
            applied = await _bring_up(connection, folder)
            await _probe(connection)
        finally:
            await connection.close()
    return applied


async def check(connection: Connection, folder: Path = FOLDER) -> None:
    """Refuse a schema that this program does not know."""
    known = _known(folder)
    done = {row["version"] for row in await connection.fetch(_APPLIED)}
    if newer := sorted(done - known.keys()):
        raise SchemaNewer(
            f"The database has schema version {newer[-1]}, this program knows {max(known)}: update the program."
        )


async def check_whole(connection: Connection) -> None:
    """Refuse an index that is being made from storage: it would take for new what it has not read yet."""
    if await connection.fetchval(_REBUILDING):
        raise Rebuilding("The index is being made from storage: run `reelweb reindex` until it has ended.")


def _known(folder: Path) -> dict[int, Path]:
    return {int(path.name[:4]): path for path in sorted(folder.glob("[0-9]*.sql"))}


async def _bring_up(connection: Connection, folder: Path) -> list[str]:
    await connection.execute(_TABLE)
    await check(connection, folder)
    done = {row["version"] for row in await connection.fetch(_APPLIED)}
    missing = [(version, path) for version, path in _known(folder).items() if version not in done]
    for version, path in missing:
        sql = path.read_text(encoding="utf-8")
        if sql.startswith(_ALONE):
            for statement in sql.split(";\n"):
                if statement.strip():
                    await connection.execute(statement)
            await connection.execute(_APPLY, version, path.stem)
        else:
            async with connection.transaction():
                await connection.execute(sql)
                await connection.execute(_APPLY, version, path.stem)
    return [path.stem for _, path in missing]


async def _probe(connection: Connection) -> None:
    """Where the database's ctype is not UTF-8, trigrams of other scripts are empty and their search slow."""
    if not await connection.fetchval(_TRIGRAMS):
        log.warning("index.no_trigrams", advice="create extension pg_trgm, or searches for names will scan")
    elif not await connection.fetchval("select show_trgm('Ж')"):
        log.warning("index.trigrams_ascii_only", advice="create the database with a UTF-8 locale")
