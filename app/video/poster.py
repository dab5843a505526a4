"""A poster: a stream's first picture worth looking at, decoded in a child (app/video/inside/first_picture.py)."""

from __future__ import annotations

import asyncio
from typing import Final

from app.errors import Unavailable
from app.video import Unplayable, confined
from app.video.confined import Ask, Limits, Task
from app.video.inside import Reason

_REASONS: Final = {
    Reason.NOTHING: "No picture of the video can be decoded.",
    Reason.MEMORY: "The video's pictures are too large to be decoded here.",
    Reason.CODEC: "The video's pictures are coded in a way that is not decoded here.",
}
_TOO_LONG: Final = "Decoding the video's first picture takes too long."


async def jpeg(read: Ask, length: int, demuxer: str, limits: Limits = Limits()) -> bytes:  # noqa: B008 - frozen
    """The poster of the unpadded stream of `length` bytes, as large as the video.

    Raises Unplayable when it has none, Unavailable when the child was ended by somebody else. On the main thread.
    """
    task = Task("poster", demuxer, length, _REASONS)
    try:
        async with asyncio.timeout(limits.wall_s) as wall, confined.child(task, read, limits) as child:
            async for _ in child.pieces():
                raise Unplayable(_REASONS[Reason.NOTHING])
    except TimeoutError:
        if not wall.expired():
            raise
        raise Unavailable(_TOO_LONG) from None
    made = bytes(child.conclusion)
    if not made.startswith(b"\xff\xd8\xff"):
        raise Unplayable(_REASONS[Reason.NOTHING])
    return made
