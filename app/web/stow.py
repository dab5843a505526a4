"""STOW-RS: the Store transaction and its response module (PS3.18 10.5, Annex I)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

from app import store
from app.dicom import media_types, uids
from app.errors import BadRequest, Refused
from app.web import multipart
from app.web.ahead import Ahead
from app.web.problems import Stalled, UnsupportedMediaType
from app.web.state import Request, root

DICOM = "application/dicom"


class Outcomes:
    """What became of the instances of one request, and the answer that tells it."""

    def __init__(self, root_url: str, study: str | None) -> None:
        self._root, self._study = root_url, study
        self._stored: list[dict[str, Any]] = []
        self._failed: list[dict[str, Any]] = []
        self._other: list[dict[str, Any]] = []
        self._studies: set[str] = set()
        self._warned = False
        self._transient = True

    @property
    def stored(self) -> int:
        """How many instances are stored."""
        return len(self._stored)

    def __len__(self) -> int:
        return len(self._stored) + len(self._failed) + len(self._other)

    def add(self, outcome: store.Outcome) -> None:
        """Take one instance's outcome into the answer."""
        if outcome.failure is None:
            self._add_stored(outcome)
            return
        self._transient &= outcome.transient
        reason = {"00081197": {"vr": "US", "Value": [int(outcome.failure.reason)]}}
        if outcome.head is None:
            self._other.append(reason)
        else:
            self._failed.append(self._reference(outcome) | reason)

    def _add_stored(self, outcome: store.Outcome) -> None:
        assert outcome.head is not None
        head = outcome.head
        self._studies.add(head.study_instance_uid)
        url = (
            f"{self._root}/studies/{head.study_instance_uid}/series/{head.series_instance_uid}"
            f"/instances/{head.sop_instance_uid}"
        )
        item = self._reference(outcome) | {"00081190": {"vr": "UR", "Value": [url]}}
        if outcome.warning is not None:
            self._warned = True
            item["00081196"] = {"vr": "US", "Value": [int(outcome.warning)]}
        self._stored.append(item)

    def _reference(self, outcome: store.Outcome) -> dict[str, Any]:
        assert outcome.head is not None
        return {
            "00081150": {"vr": "UI", "Value": [outcome.head.sop_class_uid]},
            "00081155": {"vr": "UI", "Value": [outcome.head.sop_instance_uid]},
        }

    def status(self) -> HTTPStatus:
        """200 all stored, 202 some, 409 none, 503 none because nothing could be kept just now."""
        refused = self._failed or self._other
        if not refused:
            return HTTPStatus.ACCEPTED if self._warned else HTTPStatus.OK
        if self._stored:
            return HTTPStatus.ACCEPTED
        return HTTPStatus.SERVICE_UNAVAILABLE if self._transient else HTTPStatus.CONFLICT

    def response(self) -> Response:
        """The Store Instances Response Module (Annex I.2) as DICOM JSON, whatever the client asked for."""
        module: dict[str, Any] = {}
        study = self._study or (next(iter(self._studies)) if len(self._studies) == 1 else None)
        if study:
            module["00081190"] = {"vr": "UR", "Value": [f"{self._root}/studies/{study}"]}
        for tag, items in (("00081198", self._failed), ("00081199", self._stored), ("0008119A", self._other)):
            if items:
                module[tag] = {"vr": "SQ", "Value": items}
        status = self.status()
        headers = {"Retry-After": "5"} if status is HTTPStatus.SERVICE_UNAVAILABLE else None
        return Response(orjson.dumps(module), status, headers, "application/dicom+json")


async def studies(request: Request) -> Response:
    """Store the instances of one request, in the study of the path if it names one."""
    study = request.path_params.get("study")
    if study is not None and not uids.is_acceptable(study):
        raise BadRequest("The study in the address is not a UID.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("This resource takes bodies as they are, without a Content-Encoding.")
    sent = media_types.parse(request.headers.get("content-type", ""))
    outcomes = Outcomes(root(request), study)
    if sent is not None and sent.type == DICOM:
        outcomes.add(
            await store.instance(request.state["tools"], received(request), study, expected(request))
        )
    elif sent is not None and sent.type == "multipart/related" and _root_type(sent) == DICOM:
        await _parts(
            request, multipart.Reader(received(request), sent.parameters.get("boundary", "")), outcomes
        )
    else:
        raise UnsupportedMediaType(
            'This resource takes multipart/related; type="application/dicom", or application/dicom.'
        )
    if not len(outcomes):
        raise BadRequest("The request holds no part to store.")
    return outcomes.response()


async def _parts(request: Request, reader: multipart.Reader, outcomes: Outcomes) -> None:
    keep = partial(
        store.instance,
        request.state["tools"],
        study=request.path_params.get("study"),
        expected=expected(request),
    )
    try:
        async with Ahead(request.state["room"], outcomes.add) as ahead:
            async for part in reader.parts():
                sent = media_types.parse(part.headers.get("content-type", DICOM))
                await ahead.add(part.chunks, keep if sent and sent.type == DICOM else _no_dicom)
    except multipart.Malformed as error:
        if not outcomes.stored:
            raise
        outcomes.add(store.Outcome(None, Refused(str(error))))  # what came before it stays, and is told


async def _no_dicom(chunks: AsyncIterator[memoryview]) -> store.Outcome:
    return store.Outcome(None, Refused("The part is not application/dicom."))


def _root_type(sent: media_types.MediaType) -> str:
    root_type = media_types.parse(sent.parameters.get("type", DICOM))
    return root_type.type if root_type else ""


def expected(request: Request) -> int | None:
    """The most bytes that any instance of this request can have."""
    told = request.headers.get("content-length", "")
    return int(told) if told.isascii() and told.isdigit() else None


async def received(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes; a sender that stalls is given up."""
    idle_s = request.state["policy"].upload_idle_timeout_s
    source = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(idle_s):
                chunk = await anext(source)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Stalled(f"Nothing of the body came for {idle_s:g} seconds.") from None
        yield chunk
