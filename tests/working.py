"""The jobs beside a test: an instance stored as an upload leaves it, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app import jobs
from app.dicom.scanner import Limits, Scanner
from app.index import Index, extents, renditions
from app.index.located import Located
from app.index.renditions import Rendition
from app.storage.local import LocalStorage
from app.tools import Tools
from app.workers import Workers
from tests.make_video import Made


@asynccontextmanager
async def opened(index: Index, folder: Path) -> AsyncIterator[Tools]:
    """The tools over this index and a folder."""
    async with LocalStorage(folder) as storage, Workers() as workers:
        yield Tools(index, storage, workers, Limits(), rendition_wait_s=10)


async def stored(tools: Tools, made: Made) -> Located:
    """The instance as an upload leaves it: object first, row second."""
    scanner, key = Scanner(), await tools.index.pending.take()
    async with tools.storage.upload(key) as upload:
        content = await asyncio.to_thread(made.path.read_bytes)
        scanner.feed(content)
        await upload.write(content)
    await tools.index.committer.add(scanner.close(), upload.stored)
    return await extents.instance(
        tools.index, made.study_instance_uid, made.series_instance_uid, made.sop_instance_uid
    )


@asynccontextmanager
async def working(tools: Tools, poll_s: float = 0.05, attempts: int = 1) -> AsyncIterator[None]:
    """Renditions are made while the block lasts."""
    stop = asyncio.Event()
    knobs = jobs.Knobs(poll_s=poll_s, attempts=attempts)
    task = asyncio.create_task(jobs.run(tools, stop=stop, knobs=knobs))
    try:
        yield
    finally:
        stop.set()
        await task  # what is being made is made to its end, however busy the machine


async def outcome(tools: Tools, located: Located, kind: str = "mp4") -> Rendition:
    """What became of a rendition, once that is known."""
    found = await renditions.wait(tools.index, located.instance_id, kind, 100)
    assert found is not None
    assert found.state in {"ready", "failed"}
    return found
