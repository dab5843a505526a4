"""The storages that every promise of the protocol is tried on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.storage.local import LocalStorage
from app.storage.object_store import Bucket
from app.storage.protocol import Storage
from tests.storages import object_storage


@pytest.fixture(params=["nowait", "threads"])
async def local(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LocalStorage]:
    """A folder that answers from memory where it can, and one whose file system refuses to."""
    async with LocalStorage(tmp_path / "root", open_files=4) as opened:
        opened._nowait = opened._nowait and request.param == "nowait"
        yield opened


@pytest.fixture(params=["nowait", "threads", "s3"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    """The folder in both ways, and a bucket."""
    if request.param == "s3":
        bucket: Bucket = request.getfixturevalue("bucket")
        async with object_storage(bucket) as remote:
            yield remote
        return
    async with LocalStorage(tmp_path / "root", open_files=4) as opened:
        opened._nowait = opened._nowait and request.param == "nowait"
        yield opened
