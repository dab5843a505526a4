"""STOW-RS: the Store transaction (PS3.18 10.5)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final

from starlette.responses import Response

from app import compose, store
from app.compose import Composition
from app.dicom import media_types, uids
from app.dicom.media_types import MediaType
from app.errors import BadRequest, Refused
from app.web import accept, multipart, upload
from app.web.outcomes import JSON, OFFERS, Outcomes
from app.web.problems import UnsupportedMediaType
from app.web.state import Request, accepted, root

DICOM: Final = "application/dicom"
METADATA: Final = frozenset({compose.JSON, compose.XML})
_TAKEN: Final = {DICOM} | METADATA
_OCTETS: Final = MediaType("application/octet-stream")


async def studies(request: Request) -> Response:
    """Store the instances of one request, in the study of the path if it names one."""
    study = request.path_params.get("study")
    if study is not None and not uids.is_acceptable(study):
        raise BadRequest("The study in the address is not a UID.")
    sent = _sent(request)
    tools = request.state["tools"]
    with request.state["uploads"].place():
        await upload.admit(request, tools.max_instance_bytes if sent.type == DICOM else None)
        async with Outcomes(root(request), study, tools.spools) as outcomes:
            await _store(request, sent, outcomes, study)
            if not len(outcomes):
                raise BadRequest("The request holds no part to store.")
            offer = accept.choose(accepted(request), OFFERS, otherwise=JSON).offer
            return await outcomes.response(offer)


def _sent(request: Request) -> MediaType:
    """The body's type, or 415 before its first byte is read."""
    upload.coding(request)
    sent = media_types.parse(request.headers.get("content-type", ""))
    if sent is not None:
        inner = sent.parameters.get("type", DICOM) if sent.type == "multipart/related" else sent.type
        root_type = media_types.parse(inner)
        if root_type is not None and root_type.type in _TAKEN:
            return sent
    raise UnsupportedMediaType(
        "This resource takes application/dicom, application/dicom+json and application/dicom+xml, "
        "each alone or as the type of multipart/related."
    )


async def _store(request: Request, sent: MediaType, outcomes: Outcomes, study: str | None) -> None:
    tools, body = request.state["tools"], upload.received(request)
    if sent.type == DICOM:
        outcomes.add(await store.instance(tools, body, study, upload.expected(request)))
        return
    async with AsyncExitStack() as stack:
        parts = _Parts(request, outcomes, study, stack)
        if sent.type in METADATA:
            await parts.put_aside(sent, "", body)
        else:
            await parts.take_all(multipart.Reader(body, sent.parameters.get("boundary", "")))
        await parts.finish()


class _Parts:
    """The parts of one request: instances are kept as they come, metadata and bulk data put aside till the end."""

    def __init__(
        self, request: Request, outcomes: Outcomes, study: str | None, stack: AsyncExitStack
    ) -> None:
        self._request, self._outcomes, self._study, self._stack = request, outcomes, study, stack
        self._tools, self._expected = request.state["tools"], upload.expected(request)
        self._composition: Composition | None = None

    async def take_all(self, reader: multipart.Reader) -> None:
        """Every part in turn; what came before a body breaks off stays, and is told."""
        try:
            async for part in reader.parts():
                await self._take(part)
                await self._outcomes.settle()
        except multipart.Malformed as error:
            if not self._outcomes.stored:
                raise
            self._composition = None
            self._outcomes.add(store.Outcome(None, Refused(str(error))))

    async def _take(self, part: multipart.Part) -> None:
        location = part.headers.get("content-location", "")
        sent = media_types.parse(part.headers.get("content-type") or (str(_OCTETS) if location else DICOM))
        if sent is not None and sent.type == DICOM:
            self._outcomes.add(await store.instance(self._tools, part.chunks, self._study, self._expected))
        elif sent is not None and (location or sent.type in METADATA):
            await self.put_aside(sent, location, part.chunks)
        else:
            refusal = Refused(
                "The part is neither application/dicom, nor metadata, nor has it a Content-Location."
            )
            self._outcomes.add(store.Outcome(None, refusal))

    async def put_aside(
        self, sent: MediaType, location: str, chunks: AsyncIterator[bytes | memoryview]
    ) -> None:
        """Metadata or bulk data; what cannot be is told."""
        if self._composition is None:
            self._composition = await self._stack.enter_async_context(
                Composition(self._tools, str(self._request.url.replace(query="")))
            )
        try:
            if sent.type in METADATA and not location:
                await self._composition.add_metadata(sent.type, chunks)
            else:
                await self._composition.add_bulk(sent, location, chunks)
        except Refused as refusal:
            self._outcomes.add(store.refused(None, refusal))

    async def finish(self) -> None:
        """All parts are here: the instances that they make."""
        if self._composition is not None:
            async for outcome in self._composition.outcomes(self._study):
                self._outcomes.add(outcome)
                await self._outcomes.settle()
