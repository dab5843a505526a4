"""The storages that every promise of the protocol is tried on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.storage.local import LocalStorage
from app.storage.naming import Renamed
from app.storage.object_store import Bucket
from app.storage.protocol import Storage
from tests.storages import object_storage


@asynccontextmanager
async def folder(root: Path, kind: str) -> AsyncIterator[LocalStorage]:
    """As its file system allows, or as one that neither answers from memory nor has files without a name."""
    async with LocalStorage(root, open_files=4) as opened:
        if kind == "plain":
            opened._nowait, opened._naming = False, Renamed(str(opened._temporary))
        yield opened


@pytest.fixture(params=["best", "plain"])
async def local(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LocalStorage]:
    """The folder in both ways."""
    async with folder(tmp_path / "root", request.param) as opened:
        yield opened


@pytest.fixture(params=["best", "plain", "s3"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    """The folder in both ways, and a bucket."""
    if request.param == "s3":
        bucket: Bucket = request.getfixturevalue("bucket")
        async with object_storage(bucket) as remote:
            yield remote
        return
    async with folder(tmp_path / "root", request.param) as opened:
        yield opened
