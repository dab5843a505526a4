"""Storages to try, and what is left in them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from app.storage.local import LocalStorage
from app.storage.object_store import Bucket, ObjectStorage
from app.storage.protocol import Storage
from app.storage.s3_multipart import Keys, Multipart, Unfinished
from tests import seaweed

SIGNER = Keys(seaweed.ACCESS_KEY, seaweed.SECRET_KEY)


def object_storage(bucket: Bucket, budget: int = 64 << 20) -> ObjectStorage:
    """As wiring opens it."""
    return ObjectStorage(bucket, signer=SIGNER, budget=budget)


def uploads(bucket: Bucket) -> Multipart:
    """The bucket's unfinished uploads."""
    return Multipart(bucket.url(), "us-east-1", SIGNER, bucket.prefix)


async def unfinished(bucket: Bucket) -> list[Unfinished]:
    """Uploads that were begun and not ended."""
    return await asyncio.to_thread(lambda: list(uploads(bucket).unfinished()))


def half(folder: Path, *pids: int) -> list[str]:
    """Files of uploads in flight below a folder, named or not: what these processes have open for them."""
    found = []
    for pid in pids:
        with suppress(FileNotFoundError):  # the process ended meanwhile, and what it had open with it
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(FileNotFoundError):
                    found.append(str(link.readlink()))
    return [path for path in found if path.startswith(f"{folder}/tmp/")]


async def left(storage: Storage) -> list[str]:
    """Everything a storage keeps, finished or not."""
    if isinstance(storage, LocalStorage):
        return [str(path) for path in storage._root.rglob("*") if path.is_file()]
    assert isinstance(storage, ObjectStorage)
    entries = [entry.key async for entry in storage.list("")]
    return entries + [upload.key for upload in await unfinished(storage._bucket)]
