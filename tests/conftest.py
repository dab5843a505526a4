"""What every test may use: a real PostgreSQL, a real folder, a server on a real socket."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import asyncpg
import pytest
from hypothesis import settings as hypothesis_settings

from app.index import Index, Knobs, opened
from app.settings import Settings
from app.storage import keys
from tests import cluster
from tests.running import running

hypothesis_settings.register_profile("default", deadline=None, max_examples=50)
hypothesis_settings.register_profile("heavy", deadline=None, max_examples=2000)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

SHARED = pytest.StashKey[tuple[ExitStack, str]]()


def pytest_configure_node(node: Any) -> None:
    """Start PostgreSQL once for all workers; xdist calls this in the process that started them."""
    stash = node.config.stash
    if SHARED not in stash:
        ends = ExitStack()
        stash[SHARED] = ends, ends.enter_context(cluster.running())
    node.workerinput["postgresql"] = stash[SHARED][1]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop it when the last worker has ended."""
    if SHARED in config.stash:
        config.stash[SHARED][0].close()


@pytest.fixture(scope="session")
def postgresql(request: pytest.FixtureRequest) -> Iterator[str]:
    """The DSN of this run's PostgreSQL."""
    told = getattr(request.config, "workerinput", {})
    if "postgresql" in told:
        yield told["postgresql"]
        return
    with cluster.running() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def migrated(postgresql: str, worker_id: str) -> str:
    """This worker's own database, with the schema."""
    return cluster.database(postgresql, f"reelweb_{worker_id}")


@pytest.fixture
def database(migrated: str) -> Iterator[str]:
    """A migrated database without rows."""
    yield migrated
    cluster.clear(migrated)


@pytest.fixture
async def index(database: str) -> AsyncIterator[Index]:
    """The index over a database without rows."""
    async with opened(database, keys.new, Knobs(readers=4)) as index:
        yield index


@pytest.fixture
async def sql(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of the test's own."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
def server(migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server in which this module's tests find what they have stored, and nothing else."""
    with running(Settings(database_url=migrated, data_dir=tmp_path_factory.mktemp("server"))) as address:
        yield address
    cluster.clear(migrated)
