"""Find where stored bytes lie; it never makes bytes (PS3.18 10.4)."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from app.dicom import transfer_syntax
from app.errors import NotAcceptable, NotFound, Unavailable
from app.extent import Extent, Extents
from app.index import extents as index_extents
from app.index import metadata as index_metadata
from app.index import renditions
from app.index.extents import PixelRow
from app.index.located import Located
from app.index.metadata import Document
from app.index.renditions import Rendition
from app.index.videos import Playable
from app.tools import Tools

_SOON_S: Final = 2
_LATE_S: Final = 120

FRAGMENT = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True)
class Value:
    """The bytes of one bulk data value; `frames` has them one by one when they are an encapsulated image."""

    extents: Extents
    media_type: str
    transfer_syntax_uid: str
    frames: tuple[Extents, ...] = ()


def instances(tools: Tools, study: str, series: str | None = None) -> AsyncIterator[Sequence[Located]]:
    """All instances of a study or series in pages; no connection is held between them."""
    return index_extents.instances(tools.index, study, series)


async def instance(tools: Tools, study: str, series: str, instance: str) -> Located:
    """One instance; raises NotFound."""
    return await index_extents.instance(tools.index, study, series, instance)


async def playable(tools: Tools, study: str, series: str, instance: str) -> Playable:
    """One instance, with its video when it is ready; raises NotFound."""
    return await tools.index.videos.find(study, series, instance)


async def representative(tools: Tools, study: str, series: str | None = None) -> Located:
    """The instance whose picture stands for a study or series: its first image, else its first video.

    NotFound when nothing is stored there, NotAcceptable when nothing of it has a picture.
    """
    video = None
    async for page in index_extents.instances(tools.index, study, series):
        for located in page:
            if transfer_syntax.is_video(located.transfer_syntax_uid):
                video = video or located
            elif located.number_of_frames:
                return located
    if video is None:
        raise NotAcceptable("Nothing with a picture is stored under this study or series.")
    return video


async def metadata(
    tools: Tools, root: str, study: str, series: str | None = None, instance: str | None = None
) -> Document:
    """The data sets of a study, a series or an instance, with bulk data below `root`; raises NotFound."""
    if series is None:
        return await index_metadata.study(tools.index, study, root)
    if instance is None:
        return await index_metadata.series(tools.index, study, series, root)
    return await index_metadata.instance(tools.index, study, series, instance, root)


async def rendition(tools: Tools, located: Located, kind: str) -> Rendition:
    """One that is ready; one in the making is waited for a little, one that nobody asked for is asked for.

    Raises NotAcceptable with the reason when it cannot be made, Unavailable while it is being made.
    """
    made = await renditions.wait(tools.index, located.instance_id, kind, tools.rendition_wait_s)
    if made is None:
        await renditions.queue(tools.index, located.instance_id, kind)
        made = await renditions.wait(tools.index, located.instance_id, kind, tools.rendition_wait_s)
    if made is not None and made.state == "failed":
        raise NotAcceptable(made.error or "The rendition cannot be made.")
    if made is None or made.state != "ready":
        raise Unavailable("The rendition is being made.", retry_after_s=_left_s(made))
    await renditions.use(tools.index, made)
    return made


def _left_s(made: Rendition | None) -> int:
    """How long the rest of the work takes if it goes on as it went."""
    if made is None or not made.running_s or not made.progress:
        return _SOON_S
    return min(max(round(made.running_s * (1 / made.progress - 1)), _SOON_S), _LATE_S)


async def _key(tools: Tools, located: Located) -> str:
    """The object in which values and frames lie: the stored one, or its form in little endian, inflated."""
    if transfer_syntax.supported(located.transfer_syntax_uid):
        return located.key
    made = await rendition(tools, located, renditions.NORMALISED)
    assert made.key is not None
    return made.key


def whole(located: Located) -> Extents:
    """The instance as stored."""
    return Extents([Extent(located.key, 0, located.size)])


async def pixels(tools: Tools, located: Located) -> PixelRow:
    """Where and how the instance's Pixel Data lies; raises NotFound when it has none."""
    row = await index_extents.pixels(tools.index, located.instance_id)
    if row is None:
        raise NotFound("The instance has no Pixel Data.")
    return row


async def frames(tools: Tools, located: Located, numbers: Sequence[int]) -> list[Extents]:
    """Each frame as stored, in the order asked for; raises NotFound for a number that there is not."""
    if transfer_syntax.is_video(located.transfer_syntax_uid):
        raise NotAcceptable("A frame of a video has no bytes of its own; /rendered plays the video.")
    row = await pixels(tools, located)
    if not all(1 <= number <= row.number_of_frames for number in numbers):
        raise NotFound(f"The instance has {row.number_of_frames} frames.")
    key = await _key(tools, located)
    found = await index_extents.frames(tools.index, located.instance_id, list(numbers))
    return [Extents(Extent(key, *part) for part in parts) for parts in found]


async def bulkdata(tools: Tools, located: Located, path: str) -> Value:
    """One bulk data value; raises NotFound."""
    row = await index_extents.pixels(tools.index, located.instance_id)
    if row is not None and path == row.tag:
        return await _pixel_data(tools, located, row)
    bulk = await index_extents.bulk(tools.index, located.instance_id, path)
    if bulk is None:
        raise NotFound("The instance has no bulk data under this path.")
    _vr, offset, length = bulk
    extents = Extents([Extent(await _key(tools, located), offset, length)])
    return Value(extents, "application/octet-stream", transfer_syntax.EXPLICIT_VR_LITTLE_ENDIAN)


async def _pixel_data(tools: Tools, located: Located, row: PixelRow) -> Value:
    if not row.encapsulated:
        extents = Extents([Extent(await _key(tools, located), row.offset, row.length)])
        return Value(extents, "application/octet-stream", transfer_syntax.EXPLICIT_VR_LITTLE_ENDIAN)
    syntax = located.transfer_syntax_uid
    media_type = transfer_syntax.media_type(syntax)
    whole_stream = await stream(tools, located)
    if transfer_syntax.is_video(syntax):
        return Value(whole_stream, media_type, syntax)
    numbers = range(1, row.number_of_frames + 1)
    return Value(whole_stream, media_type, syntax, tuple(await frames(tools, located, numbers)))


async def stream(tools: Tools, located: Located) -> Extents:
    """The encapsulated stream: all fragments joined, without the byte that pads it."""
    row = await pixels(tools, located)
    fragments = await index_extents.fragments(tools.index, located.instance_id)
    key = await _key(tools, located)
    joined = Extents(Extent(key, *part) for part in FRAGMENT.iter_unpack(fragments))
    return joined.slice(0, row.stream_length)
