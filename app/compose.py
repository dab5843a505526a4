"""Make instances of metadata and bulk data that come apart, and keep each (PS3.18 10.5.1.4, 10.5.2).

An element's length stands before its bytes, and what a picture tells of itself stands before the picture: so the
parts wait in a spool, in whatever order they come. Then each instance streams from there into `store.instance`
like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urljoin

import orjson

from app import store
from app.dicom import dicom_json, encoder, native_model, tags, transfer_syntax, uids
from app.dicom.dataset import IDENTITY
from app.dicom.encoder import Content, Span
from app.dicom.json_objects import Splitter
from app.dicom.media_types import MediaType
from app.dicom.scanner import Head
from app.errors import FailureReason, NoRoom, Refused, Unavailable
from app.pixels import told, transformed
from app.storage.spool import Spool
from app.tools import Tools

JSON: Final = "application/dicom+json"
XML: Final = "application/dicom+xml"
_SLICE: Final = 16 << 10
_QUICK: Final = 16 << 10  # bytes of metadata that are parsed on the loop
_MOST_MEMBERS: Final = 500_000  # and values: each is many times its text in memory
_OCTETS: Final = frozenset({"application/octet-stream", ""})
_DOCUMENT: Final = "00420011"


@dataclass(slots=True)
class Part:
    """Bulk data that came: where it lies in the spool, what it is, whether some metadata name it."""

    span: Span
    media_type: str
    transfer_syntax_uid: str
    is_used: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """An instance to be kept, as a file that is read while it is made."""

    head: Head
    chunks: AsyncIterator[memoryview]


Parts = dict[str, list[Part]]
"""By the URI that the metadata of one instance have."""


class Composition:
    """The metadata and the bulk data of one request, put aside; `base` is the address of the request."""

    def __init__(self, tools: Tools, base: str) -> None:
        self._tools, self._base = tools, base
        self._spool: Spool = tools.spools.new()
        self._metadata: list[Span] = []
        self._parts: Parts = {}
        self._count = 0

    async def __aenter__(self) -> Self:
        await self._spool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._spool.__aexit__(kind, error, trace)

    async def add_metadata(self, media_type: str, chunks: AsyncIterator[bytes | memoryview]) -> None:
        """One part of metadata: the objects of a JSON array, or one data set in XML."""
        if media_type == XML:
            await self._add_xml(chunks)
            return
        splitter = Splitter(self._tools.limits.metadata_bytes)
        async for piece in _sliced(chunks):
            for found in splitter.feed(piece):
                await self._add(found)
        splitter.close()

    async def _add_xml(self, chunks: AsyncIterator[bytes | memoryview]) -> None:
        reader, size = native_model.Reader(), 0
        async for piece in _sliced(chunks):
            size += len(piece)
            if size > self._tools.limits.metadata_bytes:
                raise Refused("The metadata of an instance are too long.", FailureReason.OUT_OF_RESOURCES)
            reader.feed(piece)
        await self._add(orjson.dumps(reader.close()))

    async def _add(self, found: bytes) -> None:
        self._mind_count()
        self._metadata.append(await self._keep_bytes(found))

    async def add_bulk(
        self, media: MediaType, location: str, chunks: AsyncIterator[bytes | memoryview]
    ) -> None:
        """One part of bulk data; of several with one location each is a frame, in the order they come."""
        self._mind_count()
        start = self._spool.size
        async for chunk in chunks:
            await self._spool.write(chunk)
        span = Span(start, self._spool.size - start)
        syntax = media.parameters.get("transfer-syntax", "")
        self._parts.setdefault(self._address(location), []).append(Part(span, media.type, syntax))

    async def instances(self) -> AsyncIterator[Made | store.Outcome]:
        """Each instance in turn, or why it cannot be made; then what came and belongs to none of them."""
        for span in self._metadata:
            yield await self._made(span)
        for parts in self._parts.values():
            for _ in [part for part in parts if not part.is_used]:
                yield store.Outcome(None, Refused("No metadata of the request name this bulk data."))

    def _mind_count(self) -> None:
        self._count += 1
        if self._count > self._tools.limits.bulk_values:
            raise Refused("The request has too many parts to be put aside.", FailureReason.OUT_OF_RESOURCES)

    def _address(self, location: str) -> str:
        """Absolute, so that relative and absolute ones meet (RFC 2557 4)."""
        try:
            return urljoin(self._base, location.strip())
        except ValueError:
            return location

    async def _made(self, span: Span) -> Made | store.Outcome:
        head: Head | None = None
        try:
            async with self._tools.spools.turn:
                with store.unforeseen():
                    dataset = await self._parsed(span)
                    head = _head(dataset)
                    pieces = await self._composed(dataset, is_quick=span.length <= _QUICK)
                    del dataset
        except Refused as refusal:
            return store.refused(head, refusal)
        except Unavailable as error:  # too many pictures to decode just now
            return store.Outcome(head, NoRoom(str(error)), transient=True)
        return Made(head, self._bytes(pieces))

    async def _parsed(self, span: Span) -> dict[str, Any]:
        text = await self._spool.read(span.offset, span.length)
        if len(text) > _QUICK and text.count(b",") + text.count(b":") > _MOST_MEMBERS:
            raise Refused("The metadata have too many members.", FailureReason.OUT_OF_RESOURCES)
        try:
            found = orjson.loads(text) if len(text) <= _QUICK else await asyncio.to_thread(orjson.loads, text)
        except orjson.JSONDecodeError:
            raise Refused("The metadata are no JSON.") from None
        assert isinstance(found, dict)  # the splitter cuts at braces
        return {name.upper(): attribute for name, attribute in found.items()}

    async def _composed(self, dataset: dict[str, Any], *, is_quick: bool) -> list[encoder.Piece]:
        """The file of one instance, its bulk data by reference."""
        parts = self._referred(dataset)
        pixels = _uri(dataset, tags.PIXEL_DATA)
        syntax, more = await self._described(parts, pixels)
        for document in parts.get(_uri(dataset, _DOCUMENT), [])[:1]:
            more |= _of_document(document)
        contents = {
            uri: Content(
                tuple(part.span for part in named), uri == pixels and transfer_syntax.is_encapsulated(syntax)
            )
            for uri, named in parts.items()
            if named
        }
        made = encoder.file(_completed(dataset, more), syntax, contents)
        return list(made) if is_quick else await asyncio.to_thread(list, made)

    def _referred(self, dataset: encoder.DataSet) -> Parts:
        """The parts that the metadata name."""
        parts = {uri: list(self._parts.get(self._address(uri), ())) for uri in encoder.references(dataset)}
        for named in parts.values():
            for part in named:
                part.is_used = True
        return parts

    async def _described(self, parts: Parts, pixels: str) -> tuple[str, told.Attributes]:
        """The transfer syntax, and what Pixel Data tell of themselves; `parts` then have what is to be stored."""
        frames = parts.get(pixels, [])
        if not frames or _is_native(frames[0]):
            return transfer_syntax.EXPLICIT_VR_LITTLE_ENDIAN, {}
        if frames[0].media_type in transformed.MEDIA_TYPES:
            span, attributes = await self._transformed(frames)
            parts[pixels] = [replace(frames[0], span=span)]
            return transfer_syntax.EXPLICIT_VR_LITTLE_ENDIAN, attributes
        found = [await self._told(frame) for frame in frames]
        parts[pixels] = [
            replace(frame, span=Span(frame.span.offset + one.start, one.length))
            for frame, one in zip(frames, found, strict=True)
        ]
        first = found[0]
        if any(one.transfer_syntax_uid != first.transfer_syntax_uid for one in found):
            raise Refused("The frames are not all in one transfer syntax.")
        return first.transfer_syntax_uid, first.attributes | _counted(len(frames))

    async def _told(self, frame: Part) -> told.Told:
        head = await self._spool.read(frame.span.offset, min(frame.span.length, told.HEAD))
        return told.compressed(frame.media_type, frame.transfer_syntax_uid, head, frame.span.length)

    async def _transformed(self, frames: Sequence[Part]) -> tuple[Span, told.Attributes]:
        """PNG and GIF decoded, their pixels put aside in place of them."""
        if len(frames) > 1 or frames[0].span.length > transformed.LONGEST:
            raise Refused("A picture to be decoded is too large, or is more than one.")
        data = await self._spool.read(frames[0].span.offset, frames[0].span.length)
        picture = await self._tools.workers.run(transformed.native, frames[0].media_type, data)
        photometric = "RGB" if picture.samples == 3 else "MONOCHROME2"
        attributes = told.image_pixel(
            picture.rows, picture.columns, picture.samples, picture.bits, photometric
        ) | _counted(picture.number_of_frames)
        return await self._keep_bytes(picture.pixels), attributes

    async def _keep_bytes(self, data: bytes) -> Span:
        span = Span(self._spool.size, len(data))
        await self._spool.write(data)
        return span

    async def _bytes(self, pieces: list[encoder.Piece]) -> AsyncIterator[memoryview]:
        pieces.reverse()
        while pieces:  # none is held longer than it takes to hand it on
            piece = pieces.pop()
            if isinstance(piece, bytes):
                yield memoryview(piece)
                continue
            async for chunk in self._spool.pieces(piece.offset, piece.length):
                yield memoryview(chunk)


async def _sliced(chunks: AsyncIterator[bytes | memoryview]) -> AsyncIterator[memoryview]:
    """Small pieces, and a turn for others between them."""
    async for chunk in chunks:
        view = memoryview(chunk)
        for at in range(0, len(view), _SLICE):
            yield view[at : at + _SLICE]
            await asyncio.sleep(0)


def _uri(dataset: encoder.DataSet, tag: str) -> str:
    attribute = dataset.get(tag)
    uri = attribute.get("BulkDataURI") if isinstance(attribute, dict) else None
    return uri if isinstance(uri, str) else ""


def _is_native(part: Part) -> bool:
    return part.media_type in _OCTETS and not transfer_syntax.is_encapsulated(part.transfer_syntax_uid)


def _completed(dataset: encoder.DataSet, more: told.Attributes) -> encoder.DataSet:
    """What the metadata say stands, for nothing is coerced; what they leave open is filled in."""
    absent = {
        tag: attribute for tag, attribute in more.items() if not (dataset.get(tag) or {}).keys() - {"vr"}
    }
    return {**dataset, **absent}


def _of_document(document: Part) -> told.Attributes:
    """MIME Type and length of an Encapsulated Document (PS3.3 C.24.2)."""
    return {
        "00420012": dicom_json.attribute("LO", document.media_type),
        "00420015": dicom_json.attribute("UL", document.span.length),
    }


def _counted(frames: int) -> told.Attributes:
    return {tags.NUMBER_OF_FRAMES: dicom_json.attribute("IS", frames)} if frames > 1 else {}


def _head(dataset: encoder.DataSet) -> Head:
    """Which instance the metadata are of; what tells that of none is refused before anything is written."""
    told_uids = {tag: encoder.text(dataset, tag) for tag in IDENTITY}
    for tag, uid in told_uids.items():
        if not uids.is_acceptable(uid):
            raise Refused(f"The {IDENTITY[tag]} is {'not valid' if uid else 'missing'}.")
    return Head(
        told_uids[tags.SOP_CLASS_UID],
        told_uids[tags.SOP_INSTANCE_UID],
        told_uids[tags.STUDY_INSTANCE_UID],
        told_uids[tags.SERIES_INSTANCE_UID],
        transfer_syntax.EXPLICIT_VR_LITTLE_ENDIAN,
    )
