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
from fractions import Fraction
from pathlib import Path
from typing import Final, NamedTuple, Protocol, Self

import numpy as np

import app
from app.dicom import transfer_syntax
from app.errors import Unavailable
from app.video import Unplayable, inside
from app.video.boxes import Buffer
from app.video.inside import MESSAGE, MOST_ASKED, MOST_GIVEN, Reason

_TOO_LONG: Final = "Reading the video takes too long."
_CRASHED: Final = "The decoder crashed on this video."
_CRASHES: Final = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL})
_PIPE: Final = 1 << 20
_AHEAD: Final = 4 << 20
"""Bytes of the stream at hand for one who reads on and on, and of what it gives until it is taken: all of it for one
turn of the loop."""
_PIECES: Final = 64
"""So many pieces are enough, however short they are."""
_NOTHING: Final = memoryview(b"")

_DEMUXERS: Final = {"mp4": "mov", "fmp4": "mov", "ts": "mpegts", "ps": "mpeg", "mpeg": "mpegvideo"}
_BARE: Final = {"video/mp4": "h264", "video/H265": "hevc", "video/mpeg": "mpegvideo"}


class File(Protocol):
    """An open file."""

    def fileno(self) -> int:
        """Its descriptor."""


class Part(Protocol):
    """Bytes of a file, which the kernel hands on without a copy."""

    @property
    def file(self) -> File:
        """It stays open while somebody holds it."""

    @property
    def offset(self) -> int:
        """Where they begin."""

    def __len__(self) -> int: ...


Answer = Buffer | Part
Ask = Callable[[int, int], Awaitable[Answer]]
"""As `Read`, but what lies in a file need not be read."""


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
    pictures_per_s: Fraction | None = None
    """Of a bare stream, which keeps no time."""


def demuxer(container: str, transfer_syntax_uid: str) -> str:
    """FFmpeg's name for the container that the scanner found; Unplayable for one that nobody knows."""
    if container == "annexb":
        return _BARE[transfer_syntax.media_type(transfer_syntax_uid)]
    if container not in _DEMUXERS:
        raise Unplayable("The video's container is not one that can be decoded.")
    return _DEMUXERS[container]


@asynccontextmanager
async def child(task: Task, read: Ask, limits: Limits) -> AsyncIterator[Conversation]:
    """A child at work, ended with the block.

    To be entered on the main thread: the child dies with the thread that starts it (prctl(2), PR_SET_PDEATHSIG).
    """
    with _Pipes() as pipes:
        process = await _started(task, limits, pipes)
        conversation = Conversation(pipes, task, read, limits)
        try:
            yield conversation
        except EOFError:
            raise _why(await process.wait()) from None
        finally:
            await _ended(process)
            await conversation.ended()


class Window(NamedTuple):
    """What is at hand of the stream, from `offset` on."""

    offset: int
    content: Answer

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.offset + len(self.content)

    def has(self, offset: int, length: int) -> bool:
        """Whether these bytes are within it."""
        return self.offset <= offset and offset + length <= self.end


class Talk(NamedTuple):
    """What a child gave, and what it said then: which of the words of app/video/inside, a number, a length."""

    pieces: list[memoryview]
    what: bytes
    number: int
    length: int
    content: memoryview


class _Pipes:
    """Two pipes, in which a thread waits and answers: streams of the loop are too slow for that.

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

    async def talked(self, window: Window, asked: tuple[int, int], most: int) -> Talk:
        """What the child gives, `most` bytes, until it says something else or there is enough; EOFError when it is dead.

        What it `asked` for, and asks for meanwhile, is answered out of the window.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._talked, window, asked, most
        )

    def _talked(self, window: Window, asked: tuple[int, int], most: int) -> Talk:
        pieces, given = list[memoryview](), 0
        at, length = asked
        while True:
            if length:
                self._answer(window, at, length)
            what, at, length = MESSAGE.unpack(self._received(MESSAGE.size))
            if what == inside.READ:
                if length > MOST_ASKED or not window.has(at, length):
                    return Talk(pieces, what, at, length, _NOTHING)
                continue
            if length > min(MOST_GIVEN, most - given):
                raise Unplayable(_CRASHED)
            content = self._received(length)
            if what != inside.PIECE:
                return Talk(pieces, what, at, length, content)
            pieces.append(content)
            given, length = given + length, 0
            if given >= _AHEAD or len(pieces) >= _PIECES:
                return Talk(pieces, what, at, 0, _NOTHING)

    def _answer(self, window: Window, at: int, length: int) -> None:
        # One that asked ahead may have ended meanwhile: its last words are there to be read.
        start, content = at - window.offset, window.content
        with contextlib.suppress(BrokenPipeError):
            if isinstance(content, Buffer):
                rest = memoryview(content)[start : start + length]
                while rest:
                    rest = rest[os.write(self.answers, rest) :]
            else:
                self._handed_on(content, start, length)

    def _handed_on(self, part: Part, start: int, length: int) -> None:
        offset = part.offset + start
        end = offset + length
        while offset < end:
            sent = os.sendfile(self.answers, part.file.fileno(), offset, end - offset)
            if not sent:
                raise Unavailable("The stored video is shorter than it was.")
            offset += sent

    def _received(self, length: int) -> memoryview:
        buffer = np.empty(length, np.uint8).data  # not cleared before it is filled
        rest = buffer
        while rest:
            came = os.readv(self.questions, [rest])
            if not came:
                raise EOFError
            rest = rest[came:]
        return buffer


async def _started(task: Task, limits: Limits, pipes: _Pipes) -> Process:
    pace = [task.pictures_per_s] if task.pictures_per_s else []
    stored = (task.demuxer, task.length, *pace)
    words = (task.name, os.getpid(), limits.memory_bytes, limits.cpu_s, *stored)
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

    def __init__(self, pipes: _Pipes, task: Task, read: Ask, limits: Limits) -> None:
        self.position = 0
        """How far it has come in the stream."""
        self.number = 0
        self.conclusion = _NOTHING
        self._pipes, self._task, self._read, self._limits = pipes, task, read, limits
        self._left = limits.given_bytes
        self._window, self._asked = Window(0, b""), (0, 0)
        self._is_over = False
        self._coming: asyncio.Task[list[memoryview]] | None = None

    async def pieces(self) -> AsyncIterator[memoryview]:
        """The product, the next of it made while these are taken; then `conclusion` and `number` are known.

        Raises Unplayable, or Unavailable.
        """
        self._coming = asyncio.create_task(self._given())
        is_last = False
        while not is_last:
            pieces, is_last = await self._coming, self._is_over
            if not is_last:
                self._coming = asyncio.create_task(self._given())
            for piece in pieces:
                yield piece

    async def index(self) -> memoryview:
        """Behind the product: what is told of the stream (inside.INDEX); nothing of a child that dies of it."""
        with contextlib.suppress(EOFError, Unplayable, TimeoutError):
            async with asyncio.timeout(self._limits.wall_s):
                talk = await self._pipes.talked(self._window, (0, 0), self._left)
                return talk.content if talk.what == inside.INDEX else _NOTHING
        return _NOTHING

    async def ended(self) -> None:
        """What was being made for nobody is waited for: the child is dead."""
        if self._coming:
            self._coming.cancel()
            await asyncio.wait([self._coming])
            with contextlib.suppress(asyncio.CancelledError):
                self._coming.exception()

    async def _given(self) -> list[memoryview]:
        """The next that it gives, or nothing and the end."""
        try:
            async with asyncio.timeout(self._limits.wall_s) as wall:
                while not (self._is_over or (pieces := await self._talked())):
                    pass
        except TimeoutError:
            if not wall.expired():
                raise
            raise Unavailable(_TOO_LONG) from None
        return pieces

    async def _talked(self) -> list[memoryview]:
        await self._reached(*self._asked)
        talk = await self._pipes.talked(self._window, self._asked, self._left)
        pieces, what, number, length, content = talk
        self._asked = (0, 0)
        self._left -= sum(map(len, pieces)) + len(content)
        if what == inside.READ and length <= MOST_ASKED and number + length <= self._task.length:
            self._asked = (number, length)
            self.position = number + length
        elif what == inside.END:
            self.number, self.conclusion, self._is_over = number, content, True
        elif what == inside.FAILURE and number in self._task.reasons:
            raise Unplayable(self._task.reasons[Reason(number)])
        elif what != inside.PIECE:
            raise Unplayable(_CRASHED)
        return pieces

    async def _reached(self, offset: int, length: int) -> None:
        """The window, over what is asked for: of one who reads on it grows, for of a stream as little is read as can be."""
        if not length:
            return
        before = self._window
        goes_on = before.offset < offset <= before.end
        wide = min(2 * len(before.content), _AHEAD) if goes_on else length
        self._window = Window(offset, _NOTHING)  # nobody holds what was in it
        wide = min(max(length, wide), self._task.length - offset)
        self._window = Window(offset, await self._read(offset, wide))
