"""The jobs process: leases renditions, has them made, and writes down what became of them; and it sweeps.

The table is the queue (app/index/renditions.py): a crash costs a lease's time, and the next process begins
anew. What is made twice is the same, so nothing needs to be undone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from app import makers
from app.dicom import uids
from app.errors import ReelwebError
from app.index import renditions
from app.index.renditions import Job
from app.makers import Made, Maker
from app.storage import keys
from app.storage.protocol import Upload
from app.tools import Tools
from app.upkeep import sweep
from app.video import Unplayable

log = structlog.get_logger()

_GIVEN_UP: Final = "The rendition could not be made; the stored original can still be retrieved."
_BEAT_S: Final = 2
_PATIENCE_S: Final = 60
_SLOWEST: Final = 2 << 20  # bytes a second that any rendition is made with


class _Lost(ReelwebError):
    """Somebody else has the lease, or the instance is gone."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """How patient the jobs are."""

    poll_s: float = 1
    lease_s: float = 60
    attempts: int = 5
    sweep: sweep.Knobs = field(default_factory=sweep.Knobs)


@dataclass(frozen=True, slots=True)
class Lane:
    """Work of which one is done at a time: of these kinds, and where it matters of these containers."""

    makers: Mapping[str, Maker]
    containers: Sequence[str] | None = None


# What takes milliseconds must not wait behind what reads a whole video or decodes pictures.
_LANES: Final = (
    Lane({renditions.MP4: makers.mp4}, makers.QUICK),
    Lane({renditions.MP4: makers.mp4}, makers.SLOW),
    Lane({renditions.POSTER: makers.picture}),
    Lane({renditions.STREAM: makers.described}),
    Lane({renditions.NORMALISED: makers.normalised}),
)


async def run(tools: Tools, *, stop: asyncio.Event, knobs: Knobs | None = None) -> None:
    """Makes what is asked for until `stop`, one of each lane at a time, and sweeps."""
    knobs = knobs or Knobs()
    async with asyncio.TaskGroup() as lanes:
        for lane in _LANES:
            lanes.create_task(_lane(tools, lane, stop, knobs))
        lanes.create_task(sweep.run(tools, knobs.sweep, stop))


async def _lane(tools: Tools, lane: Lane, stop: asyncio.Event, knobs: Knobs) -> None:
    hurry = asyncio.Event()

    def heard(*_: object) -> None:
        hurry.set()

    while not stop.is_set():
        hurry.clear()
        if not await _one(tools, lane, heard, knobs):
            await _pause(stop, hurry, knobs.poll_s)


async def _one(tools: Tools, lane: Lane, heard: Callable[..., None], knobs: Knobs) -> bool:
    """Whether a rendition was made, so that the next may be waiting; after a failure comes a pause."""
    try:
        await renditions.listen(tools.index, heard)  # before looking: what comes in between is not missed
        leased = renditions.lease(
            tools.index, list(lane.makers), knobs.lease_s, knobs.attempts, lane.containers
        )
        job = await leased
        return job is not None and await _made(tools, job, lane.makers[job.kind], knobs)
    except ReelwebError as away:  # the database: the lease ends by itself
        log.warning("jobs.away", why=str(away))
        return False


async def _made(tools: Tools, job: Job, make: Maker, knobs: Knobs) -> bool:
    told = log.bind(sop_instance_uid=uids.told(job.located.sop_instance_uid), kind=job.kind)
    try:
        await _held(tools, job, make, knobs)
    except Unplayable as reason:
        told.info("jobs.unplayable", why=str(reason))
        await renditions.fail(tools.index, job, str(reason), final=True)
        return True
    except _Lost:
        told.info("jobs.lost")
        return True
    except Exception as error:  # noqa: BLE001 - the top of a worker: one bad video stops no other
        final = job.attempt >= knobs.attempts
        told.exception("jobs.failed", final=final)
        await renditions.fail(tools.index, job, _GIVEN_UP if final else type(error).__name__, final=final)
        return False
    told.info("jobs.made")
    return True


async def _held(tools: Tools, job: Job, make: Maker, knobs: Knobs) -> None:
    """Made while the lease is renewed; who lost the lease stops."""
    work = _Work()
    making = asyncio.ensure_future(_kept(tools, job, make, work))
    beating = asyncio.ensure_future(_beating(tools, job, work, knobs.lease_s))
    try:
        await asyncio.wait((making, beating), return_when=asyncio.FIRST_COMPLETED)
        if not making.done():
            raise _Lost
        making.result()
    finally:
        making.cancel()
        beating.cancel()
        await asyncio.wait((making, beating))


async def _beating(tools: Tools, job: Job, work: _Work, lease_s: float) -> None:
    """Tells how far the work is, which renews the lease; ends when it was lost."""
    held = True
    while held:
        await asyncio.sleep(min(_BEAT_S, lease_s / 4))
        with suppress(ReelwebError):  # the database is away: it may be back before the lease ends
            held = await renditions.progress(tools.index, job, work.share, lease_s)


class _Work:
    """Where a maker's bytes go, and how far it is."""

    def __init__(self) -> None:
        self.share = 0.0
        self.upload: Upload | None = None

    async def write(self, piece: bytes | memoryview) -> None:
        assert self.upload is not None
        await self.upload.write(piece)

    def reached(self, share: float) -> None:
        self.share = share


async def _kept(tools: Tools, job: Job, make: Maker, work: _Work) -> None:
    """Its object is durable before the row tells of it."""
    key = await tools.index.pending.reserve(keys.rendition())
    size = job.located.size
    upload = tools.storage.upload(key, 2 * size)
    try:
        # The more there is to read the longer it may take: the lease is renewed meanwhile.
        async with asyncio.timeout(_PATIENCE_S + size / _SLOWEST), upload:
            work.upload = upload
            made = await make(tools, job.located, work)
    except Exception:
        if not upload.may_remain:
            with suppress(ReelwebError):
                await tools.index.pending.drop([key])
        raise
    # Should this raise, the row may tell of the object all the same: it stays, and the sweeper judges.
    if not await _told(tools, job, made, upload):
        await tools.storage.delete(key)
        await tools.index.pending.drop([key])
        raise _Lost


async def _told(tools: Tools, job: Job, made: Made, upload: Upload) -> bool:
    kept = upload.stored
    told = (made.layout, made.media_type, kept.dataset_sha256, made.description)
    return await renditions.finish(tools.index, job, kept.key, kept.size, *told)


async def _pause(stop: asyncio.Event, hurry: asyncio.Event, poll_s: float) -> None:
    """Until there may be something to do."""
    waiting = [asyncio.create_task(event.wait()) for event in (stop, hurry)]
    try:
        await asyncio.wait(waiting, timeout=poll_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
