"""Extents to a socket: a representation with byte ranges, or many as multipart/related (PS3.18 8.6.1).

Whatever goes wrong on the way ends the connection short of its Content-Length or last chunk, so that no
client takes a part for the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import structlog
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app.errors import ReelwebError
from app.extent import Extents
from app.storage.protocol import Piece, Slice, Storage
from app.storage.stream import stream, unread
from app.web import multipart, ranges, sendfile
from app.web.asked import represents
from app.web.client import Client
from app.web.ranges import Validators

Body = Extents | bytes
Pieces = AsyncGenerator[Piece, None]
Source = Callable[[Body], Pieces]
Header = tuple[bytes, bytes]

_log = structlog.get_logger(__name__)
STALL_S: Final = 60.0
_JOINED: Final = 16 << 10  # up to this length a part's header and body are one message
_UNVALIDATED: Final = Validators()
# Patients' data: shared caches keep nothing.
_HEADERS: Final = {"cache-control": "private, no-cache"}


class ExtentsResponse(Response):
    """One representation, whole or the range asked for; HEAD, 304 and 206 included.

    Raises what `ranges.answer` raises, and what reading the first bytes raises, before anything is sent.
    """

    def __init__(
        self,
        storage: Storage,
        body: Body,
        content_type: str,
        *,
        validators: Validators = _UNVALIDATED,
        headers: Mapping[str, str] | None = None,
        stall_s: float = STALL_S,
    ) -> None:
        self.status_code, self.background = 200, None
        self._storage, self._body, self._validators, self._stall_s = storage, body, validators, stall_s
        self.init_headers({**_HEADERS, "content-type": content_type, **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = self._body
        length = body.length if isinstance(body, Extents) else len(body)
        answer = ranges.answer(scope["method"], _fields(scope), length, self._validators)
        self.status_code = answer.status
        self.raw_headers += _raw(answer.headers)
        if scope["method"] == "HEAD" or answer.start == answer.stop:
            await _send_head(self, send)
            return
        if answer.status == HTTPStatus.PARTIAL_CONTENT and isinstance(body, Extents):
            represents(scope, body)
        whole = answer.stop - answer.start == length
        part = body if whole else _cut(body, answer.start, answer.stop)
        sender = _Sender(scope, receive, send, self._stall_s)
        await sender.run(self, _source(self._storage, scope)(part), answer.stop - answer.start)


class UnmadeResponse(Response):
    """What is known of a representation that nobody has to make: a HEAD's answer without the length, or a 304."""

    def __init__(self, content_type: str, *, validators: Validators, headers: Mapping[str, str]) -> None:
        self.status_code, self.background = 200, None
        self._validators = validators
        self.init_headers({**_HEADERS, "content-type": content_type, **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = ranges.answer(scope["method"], _fields(scope), 0, self._validators)
        self.status_code = answer.status
        self.raw_headers += _raw(answer.headers)
        if answer.status == HTTPStatus.OK:
            del self.headers["content-length"]
        await _send_head(self, send)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart answer; `content_type` tells what its bytes are."""

    content_type: str
    body: Body
    location: str = ""


class MultipartResponse(Response):
    """Many representations after each other; with a Content-Length when all parts are known."""

    def __init__(
        self,
        storage: Storage,
        root_type: str,
        parts: Sequence[Part] | AsyncGenerator[Part, None],
        *,
        headers: Mapping[str, str] | None = None,
        stall_s: float = STALL_S,
    ) -> None:
        self.status_code, self.background = 200, None
        self._storage, self._parts, self._stall_s = storage, parts, stall_s
        self._boundary = multipart.new_boundary()
        content_type = multipart.content_type(root_type, self._boundary)
        self._length = _length(parts, self._boundary) if isinstance(parts, Sequence) else None
        self.init_headers({**_HEADERS, "content-type": content_type, **(headers or {})})
        if self._length is not None:
            self.headers["content-length"] = str(self._length)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["method"] == "HEAD":
            await _send_head(self, send)
            return
        parts = _each(self._parts) if isinstance(self._parts, Sequence) else self._parts
        sender = _Sender(scope, receive, send, self._stall_s)
        pieces = _multipart_pieces(_source(self._storage, scope), parts, self._boundary)
        await sender.run(self, pieces, self._length)


class _Sender:
    """Sends pieces at the client's pace; one that is gone or takes nothing for `stall_s` is left."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, stall_s: float) -> None:
        self._client = Client(scope, receive)
        self._request_id, self._send, self._stall_s = scope.get("request_id"), send, stall_s
        self._first: Piece | None = None

    async def run(self, response: Response, pieces: Pieces, length: int | None) -> None:
        async with aclosing(pieces):
            # Read before the status is sent: an object that is gone is an error that the client can read.
            self._first = await anext(pieces, b"")
            await self._send(_start(response))
            if len(self._first) == length and not isinstance(self._first, Slice):
                await self._send(_message(self._first, more=False))
                return
            with self._client:  # the head is sent: what goes wrong now ends the connection
                await self._send_all(pieces, length)

    async def _send_all(self, pieces: Pieces, length: int | None) -> None:
        try:
            async with asyncio.timeout(self._stall_s) as stall:
                await self._send_each(pieces, length, stall)
        except ConnectionError:
            await self._client.cut()  # so that the server takes this for the client's end, not for ours
        except (TimeoutError, ReelwebError) as error:
            cut_short(self._request_id, error)
            if not await self._client.cut():
                raise RuntimeError("an answer was cut short") from error

    async def _send_each(self, pieces: Pieces, length: int | None, stall: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        piece, self._first = self._first, None  # a frame that kept it would keep it as long as the viewer
        if piece is None:
            piece = await anext(pieces, None)
        renewal, sent = loop.time() + self._stall_s / 4, 0
        while piece is not None:
            sent += len(piece)
            await self._send(_message(piece, more=sent != length))
            if sent == length:
                return
            if not isinstance(piece, Slice):
                await self._send(_DRAINED)
            if self._client.gone():
                raise ConnectionResetError
            if loop.time() >= renewal:  # a new timer for each piece would cost more than the piece
                renewal = loop.time() + self._stall_s / 4
                stall.reschedule(loop.time() + self._stall_s)
            piece = await anext(pieces, None)
        await self._send(_LAST)


def cut_short(request_id: str | None, error: TimeoutError | ReelwebError) -> None:
    """Log why an answer ends before its end."""
    _log.warning("answer cut short", request_id=request_id, reason=str(error) or "The client takes nothing.")


def _fields(scope: Scope) -> dict[str, str]:
    """What was asked, by lower-case name; of several fields of a name the first."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


def _raw(headers: Mapping[str, str]) -> list[Header]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _message(piece: Piece, *, more: bool) -> Message:
    if isinstance(piece, Slice):
        where = {"file": piece.file, "offset": piece.offset, "count": piece.length}
        return {"type": sendfile.EXTENSION, **where, "more_body": more}
    return {"type": "http.response.body", "body": piece, "more_body": more}


# The server takes an empty message only when the one before has left its buffer: no second piece is held.
_DRAINED: Final = _message(b"", more=True)
_LAST: Final = _message(b"", more=False)


def _start(response: Response) -> Message:
    return {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}


async def _send_head(response: Response, send: Send) -> None:
    await send(_start(response))
    await send(_LAST)


def _cut(body: Body, start: int, stop: int) -> Body:
    return body.slice(start, stop) if isinstance(body, Extents) else body[start:stop]


def _source(storage: Storage, scope: Scope) -> Source:
    """How pieces are had: out of files unread, where there are files and the server can send them."""
    read = unread if sendfile.EXTENSION in scope.get("extensions", {}) else stream

    def source(body: Body) -> Pieces:
        return _one(body) if isinstance(body, bytes) else read(storage, body)

    return source


async def _one(body: bytes) -> Pieces:
    yield body


async def _each(parts: Sequence[Part]) -> AsyncGenerator[Part, None]:
    for part in parts:
        yield part


async def _headed(head: bytes, body: Pieces) -> Pieces:
    """The head goes out only when the body's first bytes were read."""
    async with aclosing(body):
        first = await anext(body, b"")
        if isinstance(first, Slice) or len(first) > _JOINED:
            yield head
            yield first
        else:
            yield b"".join((head, first))
        async for piece in body:
            yield piece


async def _multipart_pieces(source: Source, parts: AsyncGenerator[Part, None], boundary: str) -> Pieces:
    first = True
    async with aclosing(parts):
        async for part in parts:
            head = multipart.opening(boundary, part.content_type, part.location, first=first)
            first = False
            async with aclosing(_headed(head, source(part.body))) as pieces:
                async for piece in pieces:
                    yield piece
    yield multipart.closing(boundary)


def _length(parts: Sequence[Part], boundary: str) -> int:
    total = len(multipart.closing(boundary))
    for number, part in enumerate(parts):
        total += len(multipart.opening(boundary, part.content_type, part.location, first=not number))
        total += part.body.length if isinstance(part.body, Extents) else len(part.body)
    return total
