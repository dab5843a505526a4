"""The jobs process: leases renditions, makes them, and writes down what became of them; and it sweeps.

The table is the queue (app/index/renditions.py): a crash costs a lease's time, and the next process begins
anew. A header made twice is the same header, so nothing needs to be undone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from app import retrieve
from app.dicom import uids
from app.dicom.normalise import Normaliser
from app.errors import ReelwebError
from app.extent import Extents, Span
from app.index import renditions
from app.index.located import Located
from app.index.renditions import Job
from app.storage import keys
from app.storage.stream import read_all, stream
from app.tools import Tools
from app.upkeep import sweep
from app.video import Unplayable, faststart, poster

log = structlog.get_logger()

_GIVEN_UP: Final = "The rendition could not be made; the stored original can still be retrieved."

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
    sweep: sweep.Knobs = field(default_factory=sweep.Knobs)


@dataclass(frozen=True, slots=True)
class Product:
    """What becomes a rendition: the bytes of its own object, the layout of the whole, its media type."""

    content: AsyncIterator[bytes]
    layout: tuple[Span, ...]
    media_type: str


async def run(tools: Tools, *, stop: asyncio.Event, knobs: Knobs | None = None) -> None:
    """Makes what is asked for until `stop`, one of each lane at a time, and sweeps."""
    knobs = knobs or Knobs()
    async with asyncio.TaskGroup() as lanes:
        for makers in _LANES:
            lanes.create_task(_lane(tools, makers, stop, knobs))
        lanes.create_task(sweep.run(tools, knobs.sweep, stop))


async def _lane(tools: Tools, makers: Makers, stop: asyncio.Event, knobs: Knobs) -> None:
    hurry = asyncio.Event()

    def heard(*_: object) -> None:
        hurry.set()

    while not stop.is_set():
        hurry.clear()
        if not await _one(tools, makers, heard, knobs):
            await _pause(stop, hurry, knobs.poll_s)


async def _one(tools: Tools, makers: Makers, heard: Callable[..., None], knobs: Knobs) -> bool:
    """Whether a rendition was made, so that the next may be waiting; after a failure comes a pause."""
    try:
        await renditions.listen(tools.index, heard)  # before looking: what comes in between is not missed
        job = await renditions.lease(tools.index, list(makers), knobs.lease_s, knobs.attempts)
        return job is not None and await _made(tools, job, makers[job.kind], knobs)
    except ReelwebError as away:  # the database: the lease ends by itself
        log.warning("jobs.away", why=str(away))
        return False


async def _made(tools: Tools, job: Job, make: Maker, knobs: Knobs) -> bool:
    told = log.bind(sop_instance_uid=uids.told(job.located.sop_instance_uid), kind=job.kind)
    try:
        async with asyncio.timeout(0.8 * knobs.lease_s):  # nobody else takes it up meanwhile
            await _keep(tools, job, await make(tools, job.located))
    except Unplayable as reason:
        told.info("jobs.unplayable", why=str(reason))
        await renditions.fail(tools.index, job, str(reason), final=True)
        return True
    except Exception as error:  # noqa: BLE001 - the top of a worker: one bad video stops no other
        final = job.attempt >= knobs.attempts
        told.exception("jobs.failed", final=final)
        await renditions.fail(tools.index, job, _GIVEN_UP if final else type(error).__name__, final=final)
        return False
    told.info("jobs.made")
    return True


async def _keep(tools: Tools, job: Job, product: Product) -> None:
    """Its object is durable before the row tells of it."""
    key = await tools.index.pending.reserve(keys.rendition())
    async with tools.storage.upload(key) as upload:
        async for piece in product.content:
            await upload.write(piece)
    kept = upload.stored
    # Should this raise, the row may tell of the object all the same: it stays, and the sweeper judges.
    mine = await renditions.finish(
        tools.index, job, kept.key, kept.size, product.layout, product.media_type, kept.dataset_sha256
    )
    if not mine:
        await tools.storage.delete(kept.key)
        await tools.index.pending.drop([kept.key])


async def _mp4(tools: Tools, located: Located) -> Product:
    """The header of a virtual MP4; a container that no header turns into one is Unplayable."""
    pixels = await retrieve.pixels(tools, located)
    if pixels.container != "mp4":
        raise Unplayable(_NOT_YET.get(pixels.container, _UNKNOWN))
    stored = await retrieve.stream(tools, located)
    plan = await faststart.plan(_reader(tools, stored), stored.length)
    return Product(_once(plan.header), plan.layout, plan.media_type)


async def _poster(tools: Tools, located: Located) -> Product:
    """A picture that stands for the video, whatever its container."""
    pixels = await retrieve.pixels(tools, located)
    demuxer = poster.demuxer(pixels.container, located.transfer_syntax_uid)
    stored = await retrieve.stream(tools, located)
    picture = await poster.jpeg(_reader(tools, stored), stored.length, demuxer)
    return Product(_once(picture), (Span("rendition", 0, len(picture)),), "image/jpeg")


async def _normalised(tools: Tools, located: Located) -> Product:
    """The object inflated and in little endian: its extents are those that the index tells."""
    return Product(_inflated(tools, located), (), "application/dicom")


async def _inflated(tools: Tools, located: Located) -> AsyncIterator[bytes]:
    normaliser = Normaliser(tools.limits)
    async for chunk in stream(tools.storage, retrieve.whole(located)):
        for piece in normaliser.feed(chunk):
            yield piece
            await asyncio.sleep(0)  # the other lanes go on
    yield normaliser.close()


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _reader(tools: Tools, stored: Extents) -> Callable[[int, int], Awaitable[bytes]]:
    async def read(offset: int, length: int) -> bytes:
        return await read_all(tools.storage, stored.slice(offset, offset + length))

    return read


async def _pause(stop: asyncio.Event, hurry: asyncio.Event, poll_s: float) -> None:
    """Until there may be something to do."""
    waiting = [asyncio.create_task(event.wait()) for event in (stop, hurry)]
    try:
        await asyncio.wait(waiting, timeout=poll_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


Maker = Callable[[Tools, Located], Awaitable[Product]]
Makers = Mapping[str, Maker]

# A header takes milliseconds and must not wait behind pictures that are decoded.
_LANES: Final[tuple[Makers, ...]] = (
    {renditions.MP4: _mp4},
    {renditions.POSTER: _poster},
    {renditions.NORMALISED: _normalised},
)
