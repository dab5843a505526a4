"""One PostgreSQL for the whole run, one migrated template, one database for each worker."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from app import index
from app.embedded.cluster import Cluster

TEMPLATE = "reelweb_template"


class Running:
    """A fleeting cluster, started on the thread that ends it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="reelweb-test-")
        self._runner = asyncio.Runner()
        self._cluster = Cluster(Path(self._folder.name), durable=False, max_connections=200)
        self._runner.run(self._cluster.start())
        self._runner.run(self._make_template())

    @property
    def dsn(self) -> str:
        return self._cluster.dsn

    async def _make_template(self) -> None:
        await _execute(self.dsn, f"create database {TEMPLATE}")
        await index.migrate(named(self.dsn, TEMPLATE))

    def stop(self) -> None:
        self._runner.run(self._cluster.stop())
        self._runner.close()
        self._folder.cleanup()


def named(dsn: str, database: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


def database(dsn: str, name: str) -> str:
    """A fresh copy of the template."""
    asyncio.run(_execute(dsn, f"create database {name} template {TEMPLATE}"))
    return named(dsn, name)


def clear(dsn: str) -> None:
    """Delete all rows: faster than to truncate, and than another database."""
    asyncio.run(_execute(dsn, "delete from study; delete from pending"))


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
