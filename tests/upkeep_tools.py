"""The tools over a database and a folder, and a dictionary's view of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from app import store
from app.dicom.scanner import Limits
from app.index import Journal, Knobs, opened
from app.storage import keys
from app.storage.local import LocalStorage
from app.storage.protocol import Storage, put
from app.tools import Tools
from app.workers import Workers

Conflict = Literal["reject", "keep", "replace"]


@asynccontextmanager
async def tools(
    database: str, folder: Path, on_conflict: Conflict = "reject", *, rebuilds: bool = False
) -> AsyncIterator[Tools]:
    """As wiring opens them, over a folder."""
    async with (
        LocalStorage(folder) as storage,
        tools_over(database, storage, on_conflict, rebuilds=rebuilds) as opened_tools,
    ):
        yield opened_tools


@asynccontextmanager
async def tools_over(
    database: str, storage: Storage, on_conflict: Conflict = "reject", *, rebuilds: bool = False
) -> AsyncIterator[Tools]:
    """The same over any storage."""
    knobs = Knobs(readers=2, replaces=on_conflict == "replace", rebuilds=rebuilds)
    async with (
        opened(database, keys.new, knobs, Journal(keys.record, partial(put, storage))) as index,
        Workers() as workers,
    ):
        yield Tools(index, storage, workers, Limits(normalise=True), on_conflict)


async def send(tools: Tools, content: bytes) -> store.Outcome:
    """Store one instance as the door does."""

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 65536):
            yield content[at : at + 65536]

    return await store.instance(tools, chunks())


async def content(tools: Tools, key: str) -> bytes:
    """All of an object."""
    return bytes(await tools.storage.read(key, 0, await tools.storage.size(key)))


def files(folder: Path, kind: str) -> set[str]:
    """Keys of the objects of a kind."""
    return {path.relative_to(folder).as_posix() for path in (folder / kind).rglob("*") if path.is_file()}
