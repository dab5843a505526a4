"""How each rendition is made: a maker reads the stored stream, writes the rendition's own object, and tells the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Protocol

import orjson

from app import retrieve
from app.dicom.normalise import Normaliser
from app.extent import Extent, Extents, Span
from app.index import metadata, renditions
from app.index.located import Located
from app.storage.stream import read_all, read_together, stream
from app.tools import Tools
from app.video import (
    NeedsRemux,
    Unplayable,
    agreement,
    annexb,
    confined,
    faststart,
    pace,
    poster,
    probe,
    remux,
    sample_index,
)
from app.video.boxes import Buffer, Read
from app.video.confined import Answer, Ask
from app.video.inside import MOST_ASKED, SAMPLE
from app.video.samples import Unfit

_RECORDS: Final = "records"  # bytes of them at the end of a copy's object


class Work(Protocol):
    """A rendition in the making."""

    async def write(self, piece: bytes | memoryview) -> None:
        """The next bytes of its object."""

    def reached(self, share: float) -> None:
        """So much of the work is done."""


@dataclass(frozen=True, slots=True)
class Made:
    """What the row tells of a rendition beside its object: the layout of the whole, its media type."""

    layout: tuple[Span, ...]
    media_type: str
    description: Mapping[str, Any] | None = None


Maker = Callable[[Tools, Located, Work], Awaitable[Made]]


async def mp4(tools: Tools, located: Located, work: Work) -> Made:
    """The video as MP4, in the way that its container asks for."""
    pixels = await retrieve.pixels(tools, located)
    if pixels.container not in _MP4:
        raise Unplayable("The video's container is not one that can be served as MP4.")
    return await _MP4[pixels.container](tools, located, work)


async def _virtual(tools: Tools, located: Located, work: Work) -> Made:
    """A header of our own before the stored media data: nothing is copied."""
    stored = await retrieve.stream(tools, located)
    plan = await faststart.plan(_reader(tools, stored), stored.length)
    await work.write(plan.header)
    return Made(plan.layout, plan.media_type)


async def _copied(tools: Tools, located: Located, work: Work) -> Made:
    """The packets copied, for what no header alone turns into an MP4."""
    return await _copied_at(tools, located, work, None)


async def _copied_at(tools: Tools, located: Located, work: Work, pictures_per_s: Fraction | None) -> Made:
    pixels = await retrieve.pixels(tools, located)
    demuxer = confined.demuxer(pixels.container, located.transfer_syntax_uid)
    stored = await retrieve.stream(tools, located)
    copy = remux.Copy(_giver(tools, stored), stored.length, demuxer, pictures_per_s=pictures_per_s)
    async with aclosing(copy.pieces()) as pieces:
        async for piece in pieces:
            await work.write(piece)
            work.reached(copy.share)
    assert copy.plan is not None
    description = None
    if copy.samples:  # they lie behind what is served, until the stream is described
        told, records = copy.samples
        await work.write(records)
        description = {**told, _RECORDS: len(records)}
    return Made(copy.plan.layout, copy.plan.media_type, description)


async def _bare(tools: Tools, located: Located, work: Work) -> Made:
    """A header made from an index of the stream's units; where that is not proven right, the packets copied."""
    told = pace.told(orjson.loads(await metadata.dataset(tools.index, located.instance_id)))
    stored = await retrieve.stream(tools, located)
    try:
        plan = await annexb.plan(_passing(tools, stored, work), told)
    except NeedsRemux:
        rate = pace.snapped(told.rate) if told.rate else None
        return await _copied_at(tools, located, work, rate)
    for piece in (plan.file.header, *plan.table):
        await work.write(piece)
    return Made(plan.layout, plan.file.media_type)


async def _passing(tools: Tools, stored: Extents, work: Work) -> AsyncIterator[memoryview]:
    """The stream from its beginning, in pieces."""
    done = 0
    async for piece in stream(tools.storage, stored):
        yield piece
        done += len(piece)
        work.reached(done / stored.length)


async def _mpeg2(tools: Tools, located: Located, work: Work) -> Made:
    raise Unplayable(remux.MPEG2)


_MP4: Final[dict[str, Maker]] = {
    "mp4": _virtual,
    "fmp4": _copied,
    "ts": _copied,
    "ps": _copied,
    "annexb": _bare,
    "mpeg": _mpeg2,
}
QUICK: Final = ("mp4", "unknown")
"""Containers whose MP4 takes milliseconds; of the others all is read."""
SLOW: Final = tuple(container for container in _MP4 if container not in QUICK)


async def picture(tools: Tools, located: Located, work: Work) -> Made:
    """A picture that stands for the video, whatever its container."""
    pixels = await retrieve.pixels(tools, located)
    demuxer = confined.demuxer(pixels.container, located.transfer_syntax_uid)
    stored = await retrieve.stream(tools, located)
    jpeg = await poster.jpeg(_giver(tools, stored), stored.length, demuxer)
    await work.write(jpeg)
    return Made((Span("rendition", 0, len(jpeg)),), "image/jpeg")


async def described(tools: Tools, located: Located, work: Work) -> Made:
    """What the stream is, and where its samples lie; disagreements with the data set are warnings."""
    pixels = await retrieve.pixels(tools, located)
    demuxer = confined.demuxer(pixels.container, located.transfer_syntax_uid)
    stored = await retrieve.stream(tools, located)
    ask = _giver(tools, stored)
    if pixels.container == "mp4":
        counted = _tabled(_reader(tools, stored), stored.length, work)
    else:
        counted = _noted(tools, located, work)
    told = await counted
    if told:
        length = told["samples"] * SAMPLE.size
        if "codec" not in told:
            told |= await probe.look(ask, stored.length, demuxer)
    else:
        told, length = await _walked(ask, stored.length, demuxer, work)
    description = {"container": pixels.container, **told}
    attributes = orjson.loads(await metadata.dataset(tools.index, located.instance_id))
    description["warnings"] = agreement.warnings(
        attributes, located.transfer_syntax_uid, description, stored.count
    )
    return Made((Span("rendition", 0, length),), "application/octet-stream", description)


async def _tabled(read: Read, length: int, work: Work) -> dict[str, Any]:
    """The samples of a plain MP4, whose media data need not be read; nothing where its tables do not tell all."""
    try:
        told, rows = await sample_index.of(read, length)
    except (Unplayable, Unfit):
        return {}
    await work.write(rows)
    return told


async def _noted(tools: Tools, located: Located, work: Work) -> dict[str, Any]:
    """What was found while packets were copied (the queue lets an MP4 go first); nothing of others."""
    made = await renditions.find(tools.index, located.instance_id, renditions.MP4)
    if made is None or made.state != "ready" or not made.description:
        return {}
    assert made.key is not None
    assert made.size is not None
    told = made.description
    length = told.pop(_RECORDS)
    async for piece in stream(tools.storage, Extents([Extent(made.key, made.size - length, length)])):
        await work.write(piece)
    return told


async def _walked(ask: Ask, length: int, demuxer: str, work: Work) -> tuple[dict[str, Any], int]:
    """All of the stream read for it."""
    looked, written = probe.Probe(ask, length, demuxer), 0
    async with aclosing(looked.pieces()) as pieces:
        async for piece in pieces:
            await work.write(piece)
            work.reached(looked.share)
            written += len(piece)
    return looked.description, written


async def normalised(tools: Tools, located: Located, work: Work) -> Made:
    """The object inflated and in little endian: its extents are those that the index tells."""
    normaliser = Normaliser(tools.limits)
    async for chunk in stream(tools.storage, retrieve.whole(located)):
        for piece in normaliser.feed(chunk):
            await work.write(piece)
            await asyncio.sleep(0)  # the other lanes go on
    await work.write(normaliser.close())
    return Made((), "application/dicom")


def _reader(tools: Tools, stored: Extents) -> Read:
    async def read(offset: int, length: int) -> Buffer:
        at_once = read_together if length <= MOST_ASKED else read_all
        return await at_once(tools.storage, stored.slice(offset, offset + length))

    return read


def _giver(tools: Tools, stored: Extents) -> Ask:
    """The same for a child: what lies in a file in memory goes to it without being read."""
    files, read = tools.storage.files, _reader(tools, stored)

    async def give(offset: int, length: int) -> Answer:
        part = stored.slice(offset, offset + length)
        if files and part.count == 1:
            (extent,) = part
            if found := await files.slice(extent.key, extent.offset, extent.length):
                return found
        return await read(offset, length)

    return give
