"""Files straight from the page cache to the socket: ASGI's extension `http.response.zerocopysend`.

uvloop has no sendfile and lets nobody else wait for its sockets. So the kernel is given what it takes at once;
when it takes no more, the next few bytes go through the transport, and with them the waiting for the client.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.errors import Unavailable
from app.storage.protocol import SHORTER, File

if TYPE_CHECKING:
    from starlette.types import Message
    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope

EXTENSION: Final = "http.response.zerocopysend"
NUDGE: Final = 4 << 10  # through the transport, which then waits: more than it takes without holding us back
TURN: Final = 1 << 20  # then it is somebody else's
# Linux: bytes the kernel takes beyond what is under way. A bound on SO_SNDBUF would bound the stalled viewer
# as well, but the speed of a distant one too: it has to hold everything that is under way.
UNSENT: Final = 128 << 10
UNSENT_FAST: Final = 1 << 20  # for who takes it at once: fewer turns, and none of it is a copy
_AT_ONCE_S: Final = 0.005


class Wire:
    """A connection's socket, which takes at once what it can, unless the transport still holds what comes before."""

    __slots__ = ("_bound", "_socket", "transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        theirs = transport.get_extra_info("socket")
        self._socket = socket.socket(theirs.family, theirs.type, theirs.proto, theirs.fileno())
        self._bound = 0
        self.bound(UNSENT)

    def release(self) -> None:
        """Leave the socket to its transport."""
        self._socket.detach()

    def bound(self, unsent: int) -> None:
        """Bound what the kernel holds for a viewer that does not read."""
        is_tcp = self._socket.family in {socket.AF_INET, socket.AF_INET6}
        if unsent != self._bound and is_tcp and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            self._bound = unsent
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent)

    @property
    def is_free(self) -> bool:
        """Nothing waits in the transport, and there is a client."""
        return not self.transport.is_closing() and not self.transport.get_write_buffer_size()

    def head(self, head: bytes) -> None:
        """Send it with what comes next, or give it to the transport."""
        sent = 0
        if self.is_free:
            with suppress(OSError):  # the transport will meet it too
                sent = self._socket.send(head, socket.MSG_MORE)
        if sent < len(head):
            self.transport.write(head[sent:])

    def files(self, places: Iterable[Place]) -> int:
        """How much of all of these it took; the transport meets a client that is gone."""
        taken = 0
        try:
            for file, offset, length in places:
                sent = self.file(file.fileno(), offset, length)
                taken += sent
                if sent < length:
                    break
        except OSError:
            pass
        return taken

    def file(self, file: int, offset: int, count: int) -> int:
        """How much of it the kernel took; raises OSError when the client is gone."""
        if not self.is_free:
            return 0
        try:
            return os.sendfile(self._socket.fileno(), file, offset, count)
        except BlockingIOError:
            return 0


Place = tuple[File, int, int]  # an open file, and from where how many of its bytes
Began = Callable[[Any, int, "Sequence[tuple[bytes, bytes]]"], None]


def with_files(
    cycle: RequestResponseCycle, wire: Wire, app: ASGI3Application, began: Began | None = None
) -> ASGI3Application:
    """The application, answering this request with an `Answer`; cancelled, at a stop, it ends the connection."""

    async def answered(scope: Scope, _receive: ASGIReceiveCallable, _send: ASGISendCallable) -> None:
        try:
            await app(scope, cycle.receive, cast("ASGISendCallable", Answer(cycle, wire, began).send))
        except asyncio.CancelledError:
            cycle.disconnected = True  # to uvicorn this is the client's end: it has nothing to tell
            cycle.transport.abort()  # closing would wait for a client that does not read

    return answered


class Answer:
    """The sending side of one request: uvicorn's, and files besides.

    The head waits for what comes first, as ASGI wants it, so that it shares a segment with a file's beginning.
    """

    __slots__ = ("_began", "_cycle", "_start", "_wire")

    def __init__(self, cycle: RequestResponseCycle, wire: Wire, began: Began | None = None) -> None:
        self._cycle, self._wire, self._began = cycle, wire, began
        self._start: Any = None

    async def send(self, message: Message) -> None:
        """Take one of ASGI's messages; raises ConnectionError when the client of a file is gone."""
        kind = message["type"]
        if kind == "http.response.start" and not self._cycle.response_started:
            self._start = message
        elif kind == EXTENSION:
            await self._send_file(message)
        else:
            start, self._start = self._start, None
            if start:
                await self._cycle.send(start)
                self._has_begun(start)
            await self._cycle.send(cast("Any", message))

    async def _send_file(self, message: Message) -> None:
        cycle, (file, offset, count) = self._cycle, _asked(message)
        head = await self._head()
        if cycle.disconnected:  # then nothing is known of a length either
            raise ConnectionResetError
        if cycle.chunked_encoding:
            head += b"%x\r\n" % count
        elif cycle.scope["method"] != "HEAD":
            if count > cycle.expected_content_length:
                raise RuntimeError("a file is longer than Content-Length")
            cycle.expected_content_length -= count
        if cycle.scope["method"] == "HEAD":
            cycle.transport.write(head)
        else:
            if head:
                self._wire.head(head)
            await self._pour(file, offset, count)
            if cycle.chunked_encoding:
                cycle.transport.write(b"\r\n")
        if not message.get("more_body", False):
            await cycle.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _head(self) -> bytes:
        """What uvicorn would write for the start, if it is still to be written."""
        start, self._start = self._start, None
        if not start:
            return b""
        kept, transport = _Kept(), self._cycle.transport
        self._cycle.transport = kept
        try:
            await self._cycle.send(start)
        finally:
            self._cycle.transport = transport
        self._has_begun(start)
        return kept.written

    def _has_begun(self, start: Any) -> None:
        if self._began and self._cycle.keep_alive:
            self._began(self._cycle.scope, start["status"], start["headers"])

    async def _pour(self, file: int, offset: int, count: int) -> None:
        """A file at the client's pace."""
        end, turn = offset + count, 0
        while offset < end:
            if self._cycle.disconnected or self._cycle.transport.is_closing():
                raise ConnectionResetError
            sent = self._wire.file(file, offset, min(end - offset, TURN))
            offset, turn = offset + sent, turn + sent
            if offset < end and sent < TURN:
                piece = os.pread(file, min(end - offset, NUDGE), offset)
                if not piece:
                    raise Unavailable(SHORTER)
                self._cycle.transport.write(piece)
                offset, turn = offset + len(piece), turn + len(piece)
            if offset < end and self._cycle.flow.write_paused:
                await self._drained()
                turn = 0
            elif turn >= TURN:
                await asyncio.sleep(0)
                turn = 0

    async def _drained(self) -> None:
        """Wait for the client, and see how long it takes."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._cycle.flow.drain()
        if not self._cycle.transport.is_closing():
            self._wire.bound(UNSENT_FAST if loop.time() - began < _AT_ONCE_S else UNSENT)


def _asked(message: Message) -> tuple[int, int, int]:
    """Descriptor, offset and count; untold they are the file's position and all that follows it."""
    file = message["file"].fileno()
    offset = message.get("offset")
    offset = os.lseek(file, 0, os.SEEK_CUR) if offset is None else offset
    count = message.get("count")
    return file, offset, os.fstat(file).st_size - offset if count is None else count


class _Kept(asyncio.Transport):
    """Takes what is written."""

    written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data
