"""A body on its way in: admitted, decoded, and given up when it stalls (RFC 9110 8.4, 10.1.1)."""

from __future__ import annotations

import zlib
from asyncio import get_running_loop, timeout
from collections.abc import AsyncIterator
from typing import Final

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
        await request.state["tools"].storage.admit(length)
    except NoRoom as error:
        raise Unavailable(str(error), 60) from error


def received(request: Request) -> AsyncIterator[bytes]:
    """The body as it was before it was coded."""
    return _inflated(_paced(request)) if coding(request) else _paced(request)


async def _paced(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes; a sender that falls silent or only trickles is given up.

    Only the time counts in which the sender was waited for, not what the storage took.
    """
    policy, now = request.state["policy"], get_running_loop().time
    source = aiter(request.stream())
    size, waited = 0, 0.0
    while True:
        started = now()
        try:
            async with timeout(policy.upload_idle_timeout_s):
                chunk = await anext(source)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Stalled(f"Nothing of the body came for {policy.upload_idle_timeout_s:g} seconds.") from None
        size, waited = size + len(chunk), waited + now() - started
        if waited >= policy.upload_idle_timeout_s:
            if size < waited * policy.upload_min_rate:
                raise Stalled(f"The body came at less than {policy.upload_min_rate} bytes a second.")
            size, waited = 0, 0.0
        yield chunk


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
