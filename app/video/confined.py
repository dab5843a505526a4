"""A child that reads a stored stream and may crash, hang or be greedy (app/video/inside).

The stream's bytes reach the child through us, so any storage will do and the child opens nothing. What it says
is not believed either: everything it asks for and gives has its bounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import app
from app.dicom import transfer_syntax
from app.errors import Unavailable
from app.video import Unplayable, inside
from app.video.inside import MESSAGE, MOST_ASKED, MOST_GIVEN, Reason

Read = Callable[[int, int], Awaitable[bytes]]
"""`await read(offset, length)` gives these bytes of the stream."""

_TOO_LONG: Final = "Reading the video takes too long."
_CRASHED: Final = "The decoder crashed on this video."
_CRASHES: Final = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL})
_PIPE: Final = 1 << 20

_DEMUXERS: Final = {"mp4": "mov", "fmp4": "mov", "ts": "mpegts", "ps": "mpeg", "mpeg": "mpegvideo"}
_BARE: Final = {"video/mp4": "h264", "video/H265": "hevc", "video/mpeg": "mpegvideo"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may cost; 4096 × 2304 in HEVC needs about 350 MiB, of which the libraries take 130."""

    memory_bytes: int = 768 << 20
    cpu_s: int = 20
    wall_s: float = 40
    """Between two of its messages."""
    given_bytes: int = MOST_GIVEN


@dataclass(frozen=True, slots=True)
class Task:
    """What is made, of which stream, through which of FFmpeg's demuxers."""

    name: str
    demuxer: str
    length: int
    reasons: Mapping[Reason, str]


def demuxer(container: str, transfer_syntax_uid: str) -> str:
    """FFmpeg's name for the container that the scanner found; Unplayable for one that nobody knows."""
    if container == "annexb":
        return _BARE[transfer_syntax.media_type(transfer_syntax_uid)]
    if container not in _DEMUXERS:
        raise Unplayable("The video's container is not one that can be decoded.")
    return _DEMUXERS[container]


@asynccontextmanager
async def child(task: Task, read: Read, limits: Limits) -> AsyncIterator[Conversation]:
    """A child at work, ended with the block.

    To be entered on the main thread: the child dies with the thread that starts it (prctl(2), PR_SET_PDEATHSIG).
    """
    with _Pipes() as pipes:
        process = await _started(task, limits, pipes)
        conversation = Conversation(pipes, task, read, limits)
        try:
            yield conversation
        except (EOFError, BrokenPipeError):
            raise _why(await process.wait()) from None
        finally:
            conversation.close()
            await _ended(process)


class _Pipes:
    """Two pipes, in which a thread waits: whole messages without a copy, which streams of the loop are too slow for.

    To be closed when the child is dead: only then nobody waits in them any more.
    """

    def __init__(self) -> None:
        self.questions, self._questioner = os.pipe()
        self._answered, self.answers = os.pipe()
        for pipe in (self.questions, self.answers):
            with contextlib.suppress(OSError):  # it is smaller than it could be
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
        self._thread = ThreadPoolExecutor(1, "confined")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.given_away()
        self._thread.shutdown()
        os.close(self.questions)
        os.close(self.answers)

    @property
    def ends(self) -> tuple[int, int]:
        """The child's input and output."""
        return self._answered, self._questioner

    def given_away(self) -> None:
        """The child has its ends; ours would keep the pipes open when it dies."""
        for end in {self._answered, self._questioner} - {-1}:
            os.close(end)
        self._answered = self._questioner = -1

    async def receive(self, length: int) -> bytearray:
        """So many bytes; EOFError when the child is dead."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._received, length)

    async def send(self, data: bytes) -> None:
        """BrokenPipeError when the child is dead."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._sent, data)

    def _received(self, length: int) -> bytearray:
        buffer = bytearray(length)
        rest = memoryview(buffer)
        while rest:
            came = os.readv(self.questions, [rest])
            if not came:
                raise EOFError
            rest = rest[came:]
        return buffer

    def _sent(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.answers, rest) :]


async def _started(task: Task, limits: Limits, pipes: _Pipes) -> Process:
    words = (task.name, os.getpid(), task.demuxer, task.length, limits.memory_bytes, limits.cpu_s)
    # No secret of ours reaches the child, only what an interpreter needs to find its libraries.
    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PYTHONHOME") if name in os.environ}
    here = str(Path(app.__file__).parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [here, *sys.path]))
    answered, questioner = pipes.ends
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-S", "-m", inside.__name__, *map(str, words)),
            stdin=answered,
            stdout=questioner,
            stderr=DEVNULL,
            env=environment,
            cwd="/",
        )
    finally:
        pipes.given_away()


async def _ended(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _why(status: int) -> Unplayable | Unavailable:
    if -status == signal.SIGXCPU:
        return Unplayable(_TOO_LONG)
    if -status in _CRASHES:
        return Unplayable(_CRASHED)
    return Unavailable(f"The decoder ended with status {status}.")


class Conversation:
    """The child asks for pieces of the stream until it has told all, or a reason why there is nothing."""

    def __init__(self, pipes: _Pipes, task: Task, read: Read, limits: Limits) -> None:
        self.position = 0
        """How far it has come in the stream."""
        self.number = 0
        self.conclusion = bytearray()
        self._pipes, self._task, self._limits = pipes, task, limits
        self._source = _Source(read, task.length)
        self._left = limits.given_bytes

    async def pieces(self) -> AsyncIterator[bytearray]:
        """The product; then `conclusion` and `number` are known. Raises Unplayable, or Unavailable."""
        while True:
            try:
                async with asyncio.timeout(self._limits.wall_s) as wall:
                    what, number, content = await self._told()
            except TimeoutError:
                if not wall.expired():
                    raise
                raise Unavailable(_TOO_LONG) from None
            if what == inside.END:
                self.number, self.conclusion = number, content
                return
            yield content

    async def _told(self) -> tuple[bytes, int, bytearray]:
        """The next piece, or the end."""
        while True:
            what, number, length = MESSAGE.unpack(await self._pipes.receive(MESSAGE.size))
            if what == inside.READ and length <= MOST_ASKED and number + length <= self._task.length:
                await self._pipes.send(await self._source.read(number, length))
                self.position = number + length
            elif what in {inside.PIECE, inside.END} and length <= min(MOST_GIVEN, self._left):
                self._left -= length
                return what, number, await self._pipes.receive(length)
            elif what == inside.FAILURE and number in self._task.reasons:
                raise Unplayable(self._task.reasons[Reason(number)])
            else:
                raise Unplayable(_CRASHED)

    def close(self) -> None:
        """Nothing is read any more."""
        self._source.close()


class _Source:
    """Reads the next piece ahead for one who goes straight on: it comes while the child works."""

    def __init__(self, read: Read, length: int) -> None:
        self._read, self._length = read, length
        self._next = -1
        self._ahead: asyncio.Task[bytes] | None = None
        self._asked = (0, 0)

    async def read(self, offset: int, length: int) -> bytes:
        ahead, asked = self._ahead, self._asked
        goes_on, self._next = offset == self._next, offset + length
        if ahead is not None and asked == (offset, length):
            piece = await ahead
            self._ahead = None
        else:
            self.close()
            piece = await self._read(offset, length)
        if goes_on and self._next < self._length:
            self._asked = self._next, min(length, self._length - self._next)
            self._ahead = asyncio.ensure_future(self._read(*self._asked))
        return piece

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.cancel()
            self._ahead = None
