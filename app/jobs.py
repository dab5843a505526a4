"""The jobs process: leases renditions, makes them, and writes down what became of them.

The table is the queue (app/index/renditions.py): a crash costs a lease's time, and the next process begins
anew. A header made twice is the same header, so nothing needs to be undone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from struct import iter_unpack
from typing import Final

import structlog

from app.errors import ReelwebError
from app.extent import Extent, Extents
from app.index import Index, extents, renditions
from app.index.renditions import Job
from app.storage import keys
from app.storage.protocol import Storage, put
from app.storage.stream import stream
from app.video import Unplayable, faststart

log = structlog.get_logger()

_KINDS: Final = ("mp4",)
_GIVEN_UP: Final = "The video could not be prepared; the stored original can still be retrieved."

# Containers that the scanner knows and no header alone turns into an MP4.
_NOT_YET: Final = {
    "fmp4": "The video is a fragmented MP4, which is not served as MP4 yet.",
    "ts": "The video is an MPEG transport stream, which is not served as MP4 yet.",
    "ps": "The video is an MPEG program stream, which is not served as MP4 yet.",
    "annexb": "The video is a bare H.264 or HEVC stream, which is not served as MP4 yet.",
    "mpeg": "The video is a bare MPEG-2 stream, which no browser plays and which is not served as MP4 yet.",
}
_UNKNOWN: Final = "The video's container is not one that can be served as MP4."


@dataclass(frozen=True, slots=True)
class Knobs:
    """How patient the jobs are."""

    poll_s: float = 1
    lease_s: float = 60
    attempts: int = 5


async def run(
    index: Index,
    storage: Storage,
    *,
    stop: asyncio.Event,
    hurry: asyncio.Event | None = None,
    knobs: Knobs | None = None,
) -> None:
    """Makes what is asked for, one after the other, until `stop`; `hurry` tells of new work before the poll does."""
    knobs, hurry = knobs or Knobs(), hurry or asyncio.Event()
    while not stop.is_set():
        hurry.clear()
        if not await _one(index, storage, knobs):
            await _pause(stop, hurry, knobs.poll_s)


async def _one(index: Index, storage: Storage, knobs: Knobs) -> bool:
    """Whether a rendition was made, so that the next may be waiting; after a failure comes a pause."""
    try:
        job = await renditions.lease(index, _KINDS, knobs.lease_s)
        return job is not None and await _made(index, storage, job, knobs)
    except ReelwebError as away:  # the database: the lease ends by itself
        log.warning("jobs.away", why=str(away))
        return False


async def _made(index: Index, storage: Storage, job: Job, knobs: Knobs) -> bool:
    told = log.bind(sop_instance_uid=job.located.sop_instance_uid, kind=job.kind)
    try:
        async with asyncio.timeout(0.8 * knobs.lease_s):  # nobody else takes it up meanwhile
            await _mp4(index, storage, job)
    except Unplayable as reason:
        told.info("jobs.unplayable", why=str(reason))
        await renditions.fail(index, job, str(reason), final=True)
        return True
    except Exception as error:  # noqa: BLE001 - the top of a worker: one bad video stops no other
        final = job.attempt >= knobs.attempts
        told.exception("jobs.failed", final=final)
        await renditions.fail(index, job, _GIVEN_UP if final else type(error).__name__, final=final)
        return False
    told.info("jobs.made")
    return True


async def _mp4(index: Index, storage: Storage, job: Job) -> None:
    """The header of a virtual MP4. Its object is durable before the row tells of it."""
    plan = await _plan(index, storage, job)
    header = await put(storage, keys.rendition(), plan.header)
    # Should this raise, the row may tell of the object all the same: it stays, and the sweeper judges.
    mine = await renditions.finish(
        index, job, header.key, header.size, plan.layout, plan.media_type, header.dataset_sha256
    )
    if not mine:
        await storage.delete(header.key)


async def _plan(index: Index, storage: Storage, job: Job) -> faststart.Plan:
    """How the stored fragments are served; a container that no header turns into an MP4 is Unplayable."""
    located = job.located
    pixels = await extents.pixels(index, located.instance_id)
    if pixels is None or pixels.container != "mp4":
        raise Unplayable(_NOT_YET.get(pixels.container if pixels else "", _UNKNOWN))
    fragments = iter_unpack("<QQ", await extents.fragments(index, located.instance_id))
    stored = Extents(Extent(located.key, offset, length) for offset, length in fragments)
    length = min(pixels.stream_length, stored.length)

    async def read(offset: int, size: int) -> bytes:
        return await _read(storage, stored.slice(offset, min(offset + size, length)))

    return await faststart.plan(read, length)


async def _read(storage: Storage, wanted: Extents) -> bytes:
    return b"".join([piece async for piece in stream(storage, wanted)])


async def _pause(stop: asyncio.Event, hurry: asyncio.Event, poll_s: float) -> None:
    """Until there may be something to do."""
    waiting = [asyncio.create_task(event.wait()) for event in (stop, hurry)]
    try:
        await asyncio.wait(waiting, timeout=poll_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
