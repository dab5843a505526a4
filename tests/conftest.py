"""What every test may use: a real PostgreSQL, a real folder, a server on a real socket."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import asyncpg
import pytest
from hypothesis import settings as hypothesis_settings
from uuid_utils import uuid7

from app.index import Index, Knobs, opened
from app.settings import Settings
from app.storage import keys
from app.storage.object_store import Bucket
from tests import cluster
from tests import seaweed as weed
from tests.running import running

hypothesis_settings.register_profile("default", deadline=None, max_examples=50)
hypothesis_settings.register_profile("heavy", deadline=None, max_examples=2000)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

SHARED = pytest.StashKey[tuple[ExitStack, str, int]]()


def pytest_configure_node(node: Any) -> None:
    """Start PostgreSQL and S3 once for all workers; xdist calls this in the process that started them."""
    stash = node.config.stash
    if SHARED not in stash:
        ends = ExitStack()
        dsn, s3 = ends.enter_context(cluster.running()), ends.enter_context(weed.running())
        stash[SHARED] = ends, dsn, s3.port
    _, node.workerinput["postgresql"], node.workerinput["s3"] = stash[SHARED]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop them when the last worker has ended."""
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
def seaweed(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of this run's S3."""
    told = getattr(request.config, "workerinput", {})
    if "s3" in told:
        yield f"http://127.0.0.1:{told['s3']}"
        return
    with weed.running() as server:
        yield server.endpoint


@pytest.fixture
def bucket(seaweed: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty place of the test's own in the bucket, and the keys to it in the environment."""
    for name, value in weed.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return Bucket(weed.BUCKET, f"tests/{uuid7()}", seaweed, timeout_s=10)


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
