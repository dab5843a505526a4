"""Make a picture or a video, or find it already made (PS3.18 10.4.1.1.3, 8.7.4)."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import orjson

from app import retrieve, units
from app.dicom import sop_class, tags, transfer_syntax
from app.errors import NotAcceptable, NotFound
from app.extent import Extent, Extents, Span, joined
from app.index import metadata, renditions
from app.index.extents import Located
from app.index.renditions import Rendition
from app.pixels import decode
from app.pixels import picture as pictures
from app.pixels.image import Image, describe
from app.pixels.picture import Options
from app.storage.stream import read_all
from app.tools import Tools
from app.woven import Woven

MAX_FRAME_BYTES: Final = 512 << 20
_MPEG: Final = frozenset({"mpeg", "ps", "ts"})


@dataclass(frozen=True, slots=True)
class Video:
    """A video as it is served: extents, a media type, and what tells this rendition from another."""

    extents: Extents
    media_type: str
    version: str
    warnings: tuple[str, ...] = ()


async def picture(tools: Tools, located: Located, number: int, options: Options) -> bytes:
    """Frame `number`, from 1, as the object itself says it is looked at, or as `options` say.

    A video has one so far, its poster; raises as `video` does. NotAcceptable when there is no picture at all.
    """
    if transfer_syntax.is_video(located.transfer_syntax_uid):
        if number != 1:
            raise NotAcceptable("Of a video's pictures only the first is shown here yet.")
        return await _poster(tools, located, options)
    if not located.number_of_frames:
        raise NotAcceptable(
            f"The instance has no picture ({sop_class.name(located.sop_class_uid)}); it can be retrieved as stored."
        )
    data, image, bit_offset = await _frame(tools, located, number)
    return await tools.workers.run(pictures.picture, data, image, options, bit_offset)


async def _poster(tools: Tools, located: Located, options: Options) -> bytes:
    made = await retrieve.rendition(tools, located, renditions.POSTER)
    data = await read_all(tools.storage, _own(made))
    return await tools.workers.run(pictures.again, data, options)


async def decoded(tools: Tools, located: Located, number: int) -> bytes:
    """Frame `number`, from 1, uncompressed in the layout that the instance's metadata tells."""
    data, image, bit_offset = await _frame(tools, located, number)
    return await tools.workers.run(decode.stored_frame, data, image, bit_offset)


async def _frame(tools: Tools, located: Located, number: int) -> tuple[bytes, Image, int]:
    """A frame's stored bytes, what they mean, and the bit of the first byte with which they begin."""
    (extents,) = await retrieve.frames(tools, located, [number])
    if extents.length > MAX_FRAME_BYTES:
        raise NotAcceptable("The frame is too large to be decoded here; it can be retrieved as stored.")
    row = await retrieve.pixels(tools, located)
    json = await metadata.dataset(tools.index, located.instance_id)
    image = await _described(tools, located, json, number)
    data = await read_all(tools.storage, extents)
    return data, image, (number - 1) * row.frame_bits % 8


async def _described(tools: Tools, located: Located, json: bytes, number: int) -> Image:
    syntax = transfer_syntax.normalised(located.transfer_syntax_uid)
    image = await tools.workers.run(_describe, json, number, syntax, {})
    if not image.needs:
        return image
    bulk = {}
    for path in image.needs:
        value = await retrieve.bulkdata(tools, located, path)
        bulk[path] = await read_all(tools.storage, value.extents.slice(0, MAX_FRAME_BYTES))
    return await tools.workers.run(_describe, json, number, syntax, bulk)


def _describe(json: bytes, number: int, transfer_syntax_uid: str, bulk: Mapping[str, bytes]) -> Image:
    return describe(orjson.loads(json), number, transfer_syntax_uid, bulk)


async def video(tools: Tools, located: Located) -> Video:
    """The instance's video as MP4; waits a little for one in the making.

    Raises NotAcceptable with the reason when it cannot be played, Unavailable while it is being made.
    """
    if not transfer_syntax.is_video(located.transfer_syntax_uid):
        raise NotAcceptable("The instance is not a video; /rendered shows it as image/jpeg or image/png.")
    made = await retrieve.rendition(tools, located, renditions.MP4)
    assert made.media_type is not None
    assert made.sha256 is not None
    spans, sources = await _sources(tools, located, made)
    extents = await _laid_out(tools, spans, sources)
    return Video(extents, made.media_type, made.sha256.hex()[:16], await _warnings(tools, located))


async def _laid_out(tools: Tools, layout: Sequence[Span], sources: Mapping[str, Extents]) -> Extents:
    """The pieces of a rendition as one stream."""
    if [span.source for span in layout] == ["spans"]:
        return Woven(await _rows(tools, layout[0], sources["rendition"]), sources)
    return joined(sources[span.source].slice(span.offset, span.offset + span.length) for span in layout)


async def _rows(tools: Tools, span: Span, own: Extents) -> bytes:
    """Where the pieces of a long video lie: megabytes, which are read once and not for each of its ranges."""
    (place,) = own.slice(span.offset, span.offset + span.length)
    found = tools.rows.get(place.key)
    if found is None:
        found = await read_all(tools.storage, own.slice(span.offset, span.offset + span.length))
        tools.rows.put(place.key, found)
    return found


async def _warnings(tools: Tools, located: Located) -> tuple[str, ...]:
    """Where the data set says otherwise than the stream, if that was looked at already."""
    found = await renditions.find(tools.index, located.instance_id, renditions.STREAM)
    return tuple(found.description["warnings"]) if found and found.description else ()


async def described(tools: Tools, located: Located) -> Mapping[str, Any]:
    """What the instance's video is, by its stream; raises as `video` does."""
    if not transfer_syntax.is_video(located.transfer_syntax_uid):
        raise NotFound("The instance is not a video.")
    made = await retrieve.rendition(tools, located, renditions.STREAM)
    assert made.description is not None
    return made.description


async def mpeg(tools: Tools, located: Located) -> Extents:
    """The MPEG-2 stream as it is stored; raises NotAcceptable where it is something else."""
    row = await retrieve.pixels(tools, located)
    if row.container not in _MPEG:
        raise NotAcceptable("The video is not a bare MPEG-2, program or transport stream.")
    return await retrieve.stream(tools, located)


async def document(tools: Tools, located: Located) -> Extents | bytes:
    """The encapsulated document as it was stored, without the byte that pads it (PS3.3 C.24.2)."""
    told = orjson.loads(await metadata.dataset(tools.index, located.instance_id))
    element = told.get(tags.ENCAPSULATED_DOCUMENT, {})
    length = (told.get(tags.ENCAPSULATED_DOCUMENT_LENGTH, {}).get("Value") or [None])[0]
    if "InlineBinary" in element:
        content = b64decode(element["InlineBinary"])
        return content[: _unpadded(len(content), length)]
    if "BulkDataURI" not in element:
        raise NotAcceptable("The instance holds no document.")
    value = await retrieve.bulkdata(tools, located, tags.ENCAPSULATED_DOCUMENT)
    return value.extents.slice(0, _unpadded(value.extents.length, length))


def _unpadded(stored: int, told: object) -> int:
    """What the sender says is believed where it can be true: at most one byte pads (PS3.5 6.2)."""
    return stored - 1 if told == stored - 1 else stored


async def _sources(
    tools: Tools, located: Located, made: Rendition
) -> tuple[Sequence[Span], Mapping[str, Extents]]:
    """The pieces of a rendition, and what they are pieces of."""
    own, spans, stored = _own(made), made.layout, await retrieve.stream(tools, located)
    if spans[0].source == "table":
        table = own.slice(spans[0].offset, spans[0].offset + spans[0].length)
        stored, spans = await units.opened(partial(read_all, tools.storage), table, stored), spans[1:]
    return spans, {"rendition": own, "stream": stored}


def _own(made: Rendition) -> Extents:
    """The rendition's own object."""
    assert made.key is not None
    assert made.size is not None
    return Extents([Extent(made.key, 0, made.size)])
