"""Make a picture or a video, or find it already made (PS3.18 10.4.1.1.3, 8.7.4)."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Final

import orjson

from app import retrieve
from app.dicom import sop_class, tags, transfer_syntax
from app.errors import NotAcceptable, Unavailable
from app.extent import Extent, Extents
from app.index import metadata, renditions
from app.index.located import Located
from app.index.renditions import Rendition
from app.index.videos import Playable, Video
from app.pixels import decode
from app.pixels import picture as pictures
from app.pixels.image import Image, describe
from app.pixels.picture import Options
from app.storage.stream import read_all
from app.tools import Tools

MAX_FRAME_BYTES: Final = 512 << 20


async def picture(tools: Tools, located: Located, number: int, options: Options) -> bytes:
    """Frame `number`, from 1, as the object itself says it is looked at, or as `options` say.

    A video has one so far, its poster; raises as `video` does. NotAcceptable when there is no picture at all.
    """
    extents = await source(tools, located, number)
    if transfer_syntax.is_video(located.transfer_syntax_uid):
        return await tools.workers.run(pictures.again, await read_all(tools.storage, extents), options)
    data, image, bit_offset = await _frame(tools, located, number, extents)
    return await tools.workers.run(pictures.picture, data, image, options, bit_offset)


async def source(tools: Tools, located: Located, number: int) -> Extents:
    """What a picture is made from: the frame's stored bytes, or a video's poster; raises as `picture` does."""
    if transfer_syntax.is_video(located.transfer_syntax_uid):
        if number != 1:
            raise NotAcceptable("Of a video's pictures only the first is shown here yet.")
        return _own(await retrieve.rendition(tools, located, renditions.POSTER))
    if not located.number_of_frames:
        raise NotAcceptable(
            f"The instance has no picture ({sop_class.name(located.sop_class_uid)}); it can be retrieved as stored."
        )
    (extents,) = await retrieve.frames(tools, located, [number])
    return extents


async def decoded(tools: Tools, located: Located, number: int) -> bytes:
    """Frame `number`, from 1, uncompressed in the layout that the instance's metadata tells."""
    (extents,) = await retrieve.frames(tools, located, [number])
    data, image, bit_offset = await _frame(tools, located, number, extents)
    return await tools.workers.run(decode.stored_frame, data, image, bit_offset)


async def _frame(tools: Tools, located: Located, number: int, extents: Extents) -> tuple[bytes, Image, int]:
    """A frame's stored bytes, what they mean, and the bit of the first byte with which they begin."""
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


async def video(tools: Tools, found: Playable) -> Video:
    """The instance's video as MP4; waits a little for one in the making.

    Raises NotAcceptable with the reason when it cannot be played, Unavailable while it is being made.
    """
    if found.video:
        return found.video
    at = found.located
    if not transfer_syntax.is_video(at.transfer_syntax_uid):
        raise NotAcceptable("The instance is not a video; /rendered shows it as image/jpeg or image/png.")
    await retrieve.rendition(tools, at, renditions.MP4)
    again = await retrieve.playable(tools, at.study_instance_uid, at.series_instance_uid, at.sop_instance_uid)
    if again.video is None:
        raise Unavailable("The video was prepared, and is gone again; try again.")
    return again.video


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


def _own(made: Rendition) -> Extents:
    """The rendition's own object."""
    assert made.key is not None
    assert made.size is not None
    return Extents([Extent(made.key, 0, made.size)])
