"""The Store Instances Response Module, written while the instances are stored (PS3.18 10.5.3, Annex I)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

import orjson
from starlette.responses import Response, StreamingResponse

from app import store
from app.dicom import dicom_json, native_writer
from app.errors import NoRoom, Unavailable
from app.storage.spool import Spool, Spools
from app.web.accept import Offer

JSON: Final = Offer("application/dicom+json")
OFFERS: Final = (JSON, Offer("application/dicom+xml"))
_RETRIEVE_URL: Final = "00081190"
_WARNING_REASON: Final = "00081196"
_FAILURE_REASON: Final = "00081197"
_FAILED, _REFERENCED, _OTHER = "00081198", "00081199", "0008119A"
_RETRY_AFTER_S: Final = 5
_PIECE: Final = 64 << 10
_MOST_SENTENCES: Final = 3


class Outcomes:
    """What became of the instances of one request, however many, and the answer that tells it."""

    def __init__(self, root_url: str, study: str | None, spools: Spools) -> None:
        self._root = root_url
        self._study, self._is_one_study = study or "", True
        self._items = {tag: _Items(tag, spools.unbounded()) for tag in (_FAILED, _REFERENCED, _OTHER)}
        self._stack = AsyncExitStack()
        self._warned = False
        self._transient = True
        self._sentences: list[str] = []

    async def __aenter__(self) -> Self:
        for items in self._items.values():
            await self._stack.enter_async_context(items.spool)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def stored(self) -> int:
        """How many instances are stored."""
        return self._items[_REFERENCED].count

    def __len__(self) -> int:
        return sum(items.count for items in self._items.values())

    async def settle(self) -> None:
        """Bring what is held to the spools, if it is more than a little."""
        try:
            for items in self._items.values():
                await items.spool.settle()
        except NoRoom as error:  # what is stored is stored: sent again, it is the same again
            raise Unavailable(str(error)) from error

    def add(self, outcome: store.Outcome) -> None:
        """Take one instance's outcome into the answer."""
        if outcome.failure is None:
            self._add_stored(outcome)
            return
        self._transient &= outcome.transient
        if len(self._sentences) < _MOST_SENTENCES and str(outcome.failure) not in self._sentences:
            self._sentences.append(str(outcome.failure))
        reason = {_FAILURE_REASON: dicom_json.attribute("US", int(outcome.failure.reason))}
        if outcome.head is None:
            self._items[_OTHER].add(reason)
        else:
            self._items[_FAILED].add(_reference(outcome) | reason)

    def _add_stored(self, outcome: store.Outcome) -> None:
        assert outcome.head is not None
        head = outcome.head
        self._is_one_study &= self._study in {"", head.study_instance_uid}
        self._study = self._study or head.study_instance_uid
        url = (
            f"{self._root}/studies/{head.study_instance_uid}/series/{head.series_instance_uid}"
            f"/instances/{head.sop_instance_uid}"
        )
        item = _reference(outcome) | {_RETRIEVE_URL: dicom_json.attribute("UR", url)}
        if outcome.warning is not None:
            self._warned = True
            item[_WARNING_REASON] = dicom_json.attribute("US", int(outcome.warning))
        self._items[_REFERENCED].add(item)

    def status(self) -> HTTPStatus:
        """200 all stored, 202 some, 409 none, 503 none because nothing could be kept just now."""
        if len(self) == self.stored:
            return HTTPStatus.ACCEPTED if self._warned else HTTPStatus.OK
        if self.stored:
            return HTTPStatus.ACCEPTED
        return HTTPStatus.SERVICE_UNAVAILABLE if self._transient else HTTPStatus.CONFLICT

    async def response(self, offer: Offer) -> Response:
        """The module; what is short goes out in one piece with its length, the rest is streamed from the spool."""
        status = self.status()
        headers = {"Retry-After": str(_RETRY_AFTER_S)} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
        if self._sentences:
            headers["Warning"] = ", ".join(
                f'299 {self._root} "{text}"' for text in map(_quotable, self._sentences)
            )
        pieces = self._xml() if offer.media_type.endswith("xml") else self._json()
        if sum(items.spool.size for items in self._items.values()) <= _PIECE:
            body = b"".join([piece async for piece in pieces])
            return Response(body, status, headers, offer.media_type)
        kept = self._stack.pop_all()  # until the answer has gone out, or its client
        return _Spooled(pieces, kept, status, headers, offer.media_type)

    def _url(self) -> dict[str, Any]:
        """Of the study, when all instances are of one (Table I.2-1)."""
        if not (self._study and self._is_one_study):
            return {}
        return {_RETRIEVE_URL: dicom_json.attribute("UR", f"{self._root}/studies/{self._study}")}

    async def _json(self) -> AsyncIterator[bytes]:
        yield dicom_json.written(self._url())[:-1]
        begun = bool(self._url())
        for tag, items in self._items.items():
            if items.count:
                yield b'%b"%b":{"vr":"SQ","Value":[' % (b"," if begun else b"", tag.encode())
                async for piece in items.joined():
                    yield piece
                yield b"]}"
                begun = True
        yield b"}"

    async def _xml(self) -> AsyncIterator[bytes]:
        yield native_writer.OPENING + native_writer.attributes(self._url())
        for tag, items in self._items.items():
            if items.count:
                yield native_writer.opened(tag, "SQ")
                number = 0
                async for lines in items.lines():
                    pieces = []
                    for line in lines:
                        number += 1
                        pieces.append(native_writer.item(orjson.loads(line), number))
                    yield b"".join(pieces)
                yield native_writer.CLOSED
        yield native_writer.CLOSING


class _Items:
    """The items of one sequence as JSON, each followed by a comma and a line's end."""

    def __init__(self, tag: str, spool: Spool) -> None:
        self.tag, self.spool, self.count = tag, spool, 0

    def add(self, item: dict[str, Any]) -> None:
        self.count += 1
        self.spool.hold(dicom_json.written(item) + b",\n")

    async def joined(self) -> AsyncIterator[bytes]:
        """As the inside of a JSON array."""
        async for piece in self.spool.pieces(0, self.spool.size - 2):
            yield piece

    async def lines(self) -> AsyncIterator[list[bytes]]:
        """Some items at a time."""
        rest = b""
        async for piece in self.spool.pieces(0, self.spool.size):
            *whole, rest = (rest + piece).split(b",\n")
            yield whole


class _Spooled(StreamingResponse):
    """Streamed from spools that are closed at its end, whatever ends it."""

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        kept: AsyncExitStack,
        status: HTTPStatus,
        headers: dict[str, str],
        media_type: str,
    ) -> None:
        super().__init__(pieces, status, headers, media_type)
        self._kept = kept

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with self._kept:
            await super().__call__(scope, receive, send)


def _reference(outcome: store.Outcome) -> dict[str, Any]:
    assert outcome.head is not None
    return {
        "00081150": dicom_json.attribute("UI", outcome.head.sop_class_uid),
        "00081155": dicom_json.attribute("UI", outcome.head.sop_instance_uid),
    }


def _quotable(text: str) -> str:
    """For a header: the sentence is ours, but a stranger's UID may stand in it."""
    printable = "".join(character for character in text if " " <= character <= "~")
    return printable.replace("\\", "").replace('"', "'")
