"""STOW-RS: the Store transaction (PS3.18 10.5)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Final

from starlette.responses import Response

from app import compose, store
from app.compose import Composition
from app.dicom import media_types, uids
from app.dicom.media_types import MediaType
from app.dicom.scanner import Head
from app.errors import BadRequest, Refused
from app.web import accept, multipart, upload
from app.web.ahead import Ahead
from app.web.outcomes import JSON, OFFERS, Outcomes
from app.web.problems import UnsupportedMediaType
from app.web.state import Request, accepted, root

DICOM: Final = "application/dicom"
METADATA: Final = frozenset({compose.JSON, compose.XML})
_TAKEN: Final = {DICOM} | METADATA
_NEITHER: Final = "The part is neither application/dicom, nor metadata, nor has it a Content-Location."
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
            with upload.received(request) as body:
                await _store(request, body, sent, outcomes, study)
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


async def _store(
    request: Request, body: AsyncIterator[bytes], sent: MediaType, outcomes: Outcomes, study: str | None
) -> None:
    if sent.type == DICOM:
        tools = request.state["tools"]
        outcomes.add(await store.instance(tools, body, study, upload.expected(request)))
        return
    async with AsyncExitStack() as stack:
        parts = _Parts(request, outcomes, study, stack)
        try:
            async with Ahead(request.state["room"], outcomes.add) as ahead:
                await parts.take(sent, body, ahead)
        except multipart.Malformed as error:
            if not outcomes.stored:
                raise
            outcomes.add(store.Outcome(None, Refused(str(error))))  # what came before it stays, and is told


class _Parts:
    """The parts of one request: instances are kept as they come, metadata and bulk data put aside till the end."""

    def __init__(
        self, request: Request, outcomes: Outcomes, study: str | None, stack: AsyncExitStack
    ) -> None:
        self._request, self._outcomes, self._stack = request, outcomes, stack
        self._tools = request.state["tools"]
        self._keep = partial(store.instance, self._tools, study=study)
        self._keep_sent = partial(self._keep, expected=upload.expected(request))
        self._composition: Composition | None = None

    async def take(self, sent: MediaType, body: AsyncIterator[bytes], ahead: Ahead[store.Outcome]) -> None:
        """Everything in turn; at its end the instances that metadata and bulk data make."""
        if sent.type in METADATA:
            await self._put_aside(sent, "", body)
        else:
            async for part in multipart.Reader(body, sent.parameters.get("boundary", "")).parts():
                await self._take(part, ahead)
                await self._outcomes.settle()
        if self._composition is not None:
            async for made in self._composition.instances():
                if isinstance(made, store.Outcome):
                    await ahead.add(_nothing(), partial(_told, made))
                else:
                    await ahead.add(made.chunks, partial(self._keep_made, made.head))
                await self._outcomes.settle()

    async def _take(self, part: multipart.Part, ahead: Ahead[store.Outcome]) -> None:
        location = part.headers.get("content-location", "")
        sent = media_types.parse(part.headers.get("content-type") or (str(_OCTETS) if location else DICOM))
        if sent is not None and sent.type == DICOM:
            await ahead.add(part.chunks, self._keep_sent)
        elif sent is not None and (location or sent.type in METADATA):
            await self._put_aside(sent, location, part.chunks)
        else:
            await ahead.add(part.chunks, partial(_told, store.Outcome(None, Refused(_NEITHER))))

    async def _put_aside(
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

    async def _keep_made(self, head: Head | None, chunks: AsyncIterator[memoryview]) -> store.Outcome:
        """A refusal that comes before the scanner knows the instance has its name from the metadata."""
        outcome = await self._keep(chunks)
        return outcome if outcome.head else replace(outcome, head=head)


async def _told(outcome: store.Outcome, _chunks: AsyncIterator[memoryview]) -> store.Outcome:
    return outcome


async def _nothing() -> AsyncIterator[memoryview]:
    return
    yield
