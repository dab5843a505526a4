"""A body on its way in: admitted, decoded, and given up when it stalls (RFC 9110 8.4, 10.1.1)."""

from __future__ import annotations

import zlib
from asyncio import CancelledError, Task, current_task, get_running_loop
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

from starlette.requests import ClientDisconnect
from starlette.types import Message

from app.errors import NoRoom, Unavailable
from app.web import multipart
from app.web.problems import ContentTooLarge, Stalled, UnsupportedContentEncoding
from app.web.state import Request

_CODINGS: Final = {"gzip": "gzip", "x-gzip": "gzip", "identity": ""}
_GZIP: Final = 16 + zlib.MAX_WBITS
_PIECE: Final = 256 << 10
_FREE: Final = 16 << 20  # bytes that any body may inflate to
_RATIO: Final = 200
_SMALL: Final = 1 << 20
_MOST_CODINGS: Final = 1


def expected(request: Request) -> int | None:
    """The most bytes that any instance of this request can have; unknown when they are compressed."""
    if coding(request):
        return None
    return told_length(request)


def told_length(request: Request) -> int | None:
    """The Content-Length, where there is one."""
    told = request.headers.get("content-length", "")
    return int(told) if told.isascii() and told.isdigit() else None


def coding(request: Request) -> str:
    """How the body is coded: `gzip`, or not at all; UnsupportedContentEncoding for all else."""
    names = [name.strip().lower() for name in request.headers.get("content-encoding", "").split(",")]
    codings = [_CODINGS.get(name) for name in names if name]
    if None in codings or len([one for one in codings if one]) > _MOST_CODINGS:
        raise UnsupportedContentEncoding(
            "This resource takes bodies that are coded with gzip, or not at all."
        )
    return "gzip" if "gzip" in codings else ""


async def admit(request: Request, most: int | None) -> None:
    """Refuse what there is no room for before its first byte is read; `most` is what one body may have."""
    length = told_length(request)
    if most is not None and length is not None and length > most and not coding(request):
        raise ContentTooLarge("The body is larger than this server takes.")
    if length is None or length <= _SMALL:
        return  # whoever keeps it will tell, for each instance
    try:
        await request.state["tools"].storage.admit()
    except NoRoom as error:
        raise Unavailable(str(error), 60) from error


@contextmanager
def received(request: Request) -> Iterator[AsyncIterator[bytes]]:
    """The body as it was before it was coded."""
    with _Body(request) as body:
        yield _inflated(body) if coding(request) else body


class _Body:
    """The body as it comes; a sender that falls silent or only trickles is given up.

    Only the time counts in which the sender was waited for, not what the storage took. One timer looks now and then
    since when that is: most chunks are there at once, and a timer for each costs more than what it guards.
    """

    def __init__(self, request: Request) -> None:
        policy, self._loop = request.state["policy"], get_running_loop()
        self._receive, self._is_over = request.receive, False
        self._limit_s, self._least_rate = policy.upload_idle_timeout_s, policy.upload_min_rate
        self._size, self._waited = 0, 0.0
        self._waiting: Task[Any] | None = None
        self._since = 0.0
        self._is_late = False
        self._timer = self._loop.call_later(self._limit_s, self._look)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._is_over:
            message = await self._message()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self._is_over = not message.get("more_body", False)
            chunk: bytes = message.get("body", b"")
            self._mind_rate(len(chunk))
            if chunk:
                return chunk
        raise StopAsyncIteration

    async def _message(self) -> Message:
        self._waiting, self._since = current_task(), self._loop.time()
        try:
            return await self._receive()
        except CancelledError:
            if self._is_late and self._waiting is not None and self._waiting.uncancel() == 0:
                raise Stalled(f"Nothing of the body came for {self._limit_s:g} seconds.") from None
            raise
        finally:
            self._waiting = None

    def _look(self) -> None:
        left = self._since + self._limit_s - self._loop.time() if self._waiting else self._limit_s
        if self._waiting and left <= 0:
            self._is_late = True
            self._waiting.cancel()
        else:
            self._timer = self._loop.call_later(left, self._look)

    def _mind_rate(self, size: int) -> None:
        self._size, self._waited = self._size + size, self._waited + self._loop.time() - self._since
        if self._waited >= self._limit_s:
            if self._size < self._waited * self._least_rate:
                raise Stalled(f"The body came at less than {self._least_rate} bytes a second.")
            self._size, self._waited = 0, 0.0


async def _inflated(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """One or more gzip members (RFC 1952 2.2), in bounded pieces."""
    inflater, is_begun = zlib.decompressobj(_GZIP), False
    taken = made = 0
    async for chunk in source:
        taken += len(chunk)
        left = chunk
        while left:
            try:
                piece = inflater.decompress(left, _PIECE)
            except zlib.error as error:
                raise multipart.Malformed(
                    "The body is not the gzip stream that its header promises."
                ) from error
            is_begun = True
            left = inflater.unconsumed_tail
            made += len(piece)
            if made > _FREE + taken * _RATIO:
                raise multipart.Malformed("The body inflates to too much.")
            if piece:
                yield piece
            if inflater.eof:
                left, is_begun = inflater.unused_data, False
                inflater = zlib.decompressobj(_GZIP)
            elif len(piece) == _PIECE and not left:
                left = inflater.unconsumed_tail
    if is_begun:
        raise multipart.Malformed("The body's gzip stream ends too early.")
