"""A poster: a stream's first picture worth looking at, decoded in a child that may crash, hang or be greedy.

The stream's bytes reach the child through us, so any storage will do and the child opens nothing
(app/video/first_picture.py). What it says is not believed either: pieces and pictures have their bounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import struct
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.dicom import transfer_syntax
from app.errors import Unavailable
from app.video import Unplayable

Read = Callable[[int, int], Awaitable[bytes]]
"""`await read(offset, length)` gives these bytes of the stream."""

# The protocol of first_picture.py, which is not imported: it brings FFmpeg into the process.
_PROGRAM: Final = Path(__file__).with_name("first_picture.py")
_MESSAGE: Final = struct.Struct("<cQI")
_MOST_ASKED: Final = 256 << 10
_MOST_GIVEN: Final = 64 << 20
_FAILURES: Final = (
    "No picture of the video can be decoded.",
    "The video's pictures are too large to be decoded here.",
    "The video's pictures are coded in a way that is not decoded here.",
)
_TOO_LONG: Final = "Decoding the video's first picture takes too long."
_CRASHED: Final = "The decoder crashed on this video."
_CRASHES: Final = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL})

_DEMUXERS: Final = {"mp4": "mov", "fmp4": "mov", "ts": "mpegts", "ps": "mpeg", "mpeg": "mpegvideo"}
_BARE: Final = {"video/mp4": "h264", "video/H265": "hevc", "video/mpeg": "mpegvideo"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one poster may cost; 4096 × 2304 in HEVC needs about 350 MiB, of which the libraries take 130."""

    memory_bytes: int = 768 << 20
    cpu_s: int = 20
    wall_s: float = 40


def demuxer(container: str, transfer_syntax_uid: str) -> str:
    """FFmpeg's name for the container that the scanner found; Unplayable for one that nobody knows."""
    if container == "annexb":
        return _BARE[transfer_syntax.media_type(transfer_syntax_uid)]
    if container not in _DEMUXERS:
        raise Unplayable("The video's container is not one that can be decoded.")
    return _DEMUXERS[container]


async def jpeg(read: Read, length: int, demuxer: str, limits: Limits | None = None) -> bytes:
    """The poster of the unpadded stream of `length` bytes, as large as the video.

    Raises Unplayable when it has none, Unavailable when the child was ended by somebody else. To be called on
    the main thread: the child dies with the thread that starts it (prctl(2), PR_SET_PDEATHSIG).
    """
    limits = limits or Limits()
    child = await _started(demuxer, length, limits)
    try:
        async with asyncio.timeout(limits.wall_s) as wall:
            return await _Conversation(child, read, length).picture()
    except TimeoutError:
        if not wall.expired():
            raise
        raise Unavailable(_TOO_LONG) from None
    except (asyncio.IncompleteReadError, BrokenPipeError, ConnectionResetError):
        raise _why(await child.wait()) from None
    finally:
        await _ended(child)


async def _started(demuxer: str, length: int, limits: Limits) -> Process:
    words = (os.getpid(), demuxer, length, limits.memory_bytes, limits.cpu_s)
    # No secret of ours reaches the child, only what an interpreter needs to find its libraries.
    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PYTHONHOME") if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-S", str(_PROGRAM), *map(str, words)),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env=environment,
        cwd="/",
    )


async def _ended(child: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    await child.wait()


def _why(status: int) -> Unplayable | Unavailable:
    if -status == signal.SIGXCPU:
        return Unplayable(_TOO_LONG)
    if -status in _CRASHES:
        return Unplayable(_CRASHED)
    return Unavailable(f"The decoder ended with status {status}.")


class _Conversation:
    """The child asks for pieces until it has a picture, or a reason why it has none."""

    def __init__(self, child: Process, read: Read, length: int) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self._asks, self._answers = child.stdout, child.stdin
        self._read, self._length = read, length

    async def picture(self) -> bytes:
        while True:
            what, offset, length = _MESSAGE.unpack(await self._asks.readexactly(_MESSAGE.size))
            if what == b"r" and length <= _MOST_ASKED and offset + length <= self._length:
                self._answers.write(await self._read(offset, length))
                await self._answers.drain()
            elif what == b"p" and length <= _MOST_GIVEN:
                return _checked(await self._asks.readexactly(length))
            elif what == b"f" and offset < len(_FAILURES):
                raise Unplayable(_FAILURES[offset])
            else:
                raise Unplayable(_CRASHED)


def _checked(picture: bytes) -> bytes:
    if not picture.startswith(b"\xff\xd8\xff"):
        raise Unplayable(_CRASHED)
    return picture
