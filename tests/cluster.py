"""One PostgreSQL for the whole run, one migrated template, one database for each worker."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from app import index
from app.embedded.cluster import running_sync

TEMPLATE = "reelweb_template"


@contextmanager
def running() -> Iterator[str]:
    """A cluster that forgets, with the template in it; its DSN."""
    with (
        tempfile.TemporaryDirectory(prefix="reelweb-test-") as folder,
        running_sync(Path(folder), durable=False, max_connections=200) as dsn,
    ):
        asyncio.run(_execute(dsn, f"create database {TEMPLATE}"))
        asyncio.run(index.migrate(named(dsn, TEMPLATE)))
        yield dsn


def named(dsn: str, database: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


def database(dsn: str, name: str) -> str:
    """A fresh copy of the template."""
    asyncio.run(_execute(dsn, f"create database {name} template {TEMPLATE}"))
    return named(dsn, name)


def clear(dsn: str) -> None:
    """Delete all rows: faster than to truncate, and than another database."""
    asyncio.run(
        _execute(
            dsn,
            "delete from study; delete from pending; delete from journal; delete from removed; delete from series_metadata; delete from upkeep",
        )
    )


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
