"""One instance is kept or it is not, whatever the storage does; what nobody knows is left to the sweeper."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import FailureReason
from app.index.connection import Connection
from app.storage import folders
from app.storage.object_store import Bucket
from app.upkeep import sweep
from tests import make
from tests.faulty import Faulty
from tests.storages import object_storage
from tests.upkeep_tools import files, send, tools, tools_over


@pytest.mark.parametrize(
    ("size", "lose"), [(100, b"PUT /"), (17 << 20, b"?uploadId=")], ids=["one put", "several parts"]
)
async def test_an_upload_whose_last_answer_is_lost_is_the_sweepers(
    database: str, sql: Connection, bucket: Bucket, size: int, lose: bytes
) -> None:
    """The store has the object and its answer never came: the sender is told to come again, and what is left goes."""
    data = make.instance(PixelData=os.urandom(size))
    async with Faulty(bucket.endpoint) as way, object_storage(bucket) as sound:
        way.lose = lose
        mortal = replace(bucket, endpoint=way.endpoint, timeout_s=1.0, retries=1)
        async with object_storage(mortal) as storage, tools_over(database, storage) as away:
            outcome = await send(away, data)
        assert outcome.transient
        assert outcome.failure is not None
        assert outcome.failure.reason is FailureReason.OUT_OF_RESOURCES
        (left,) = [entry.key async for entry in sound.list("objects/")]
        assert await sql.fetch("select from pending where key = $1", left)
        async with tools_over(database, sound) as well:
            assert (await send(well, data)).failure is None
            await sql.execute("update pending set started = started - interval '2 days'")
            await sweep.once(well, sweep.Knobs())
        (kept,) = [entry.key async for entry in sound.list("objects/")]
        assert kept != left
        assert await sql.fetchval("select object_key from instance") == kept


async def test_an_upload_that_got_its_name_and_no_sync_leaves_nothing(
    database: str, sql: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's entry cannot be made durable: refused, removed; where that fails too, the sweeper knows of it."""

    def fail(path: str, **_: object) -> None:
        if not Path(path).is_dir() or any(inner.is_file() for inner in Path(path).iterdir()):
            raise OSError(5, "Input/output error")

    async with tools(database, tmp_path) as opened:
        for unlink_too in (False, True):
            with monkeypatch.context() as patch:
                patch.setattr(folders, "sync", fail)
                if unlink_too:
                    patch.setattr(os, "unlink", fail)
                failure = (await send(opened, make.instance())).failure
                assert failure is not None
                assert failure.reason is FailureReason.OUT_OF_RESOURCES
            left = files(tmp_path, "objects")
            assert len(left) == unlink_too
            assert await sql.fetchval("select count(*) from pending where key = any($1)", left) == len(left)
