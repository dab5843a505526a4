"""Files straight from the page cache to the socket: ASGI's extension `http.response.zerocopysend`.

uvloop has no sendfile and lets nobody else wait for its sockets. So the kernel is given what it takes at once;
when it takes no more, the next few bytes go through the transport, and with them the waiting for the client.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.errors import Unavailable
from app.storage.protocol import SHORTER, Piece, Slice

if TYPE_CHECKING:
    from starlette.types import Message
    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope

EXTENSION: Final = "http.response.zerocopysend"
NUDGE: Final = 4 << 10  # through the transport, which then waits: more than it takes without holding us back
TURN: Final = 1 << 20  # then it is somebody else's
# Linux: bytes the kernel takes beyond what is under way. A bound on SO_SNDBUF would bound the stalled viewer
# as well, but the speed of a distant one too: it has to hold everything that is under way.
UNSENT: Final = 128 << 10
UNSENT_FAST: Final = 1 << 20  # for who takes it at once: fewer turns, and little of it is a copy
_AT_ONCE_S: Final = 0.005


class Wire:
    """A connection's socket, which takes at once what it can, unless the transport still holds what comes before."""

    __slots__ = ("_bound", "_flow", "_socket", "_transport")

    def __init__(self, transport: asyncio.Transport, flow: FlowControl) -> None:
        self._transport, self._flow = transport, flow
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
    def is_held(self) -> bool:
        """The transport waits for the client."""
        return self._flow.write_paused

    def give(self, piece: Piece, *, more: bool, head: bytes = b"") -> int:
        """How much of it is on its way, not all when the kernel takes no more; 0 where a file has no such bytes.

        A head before it is so in any case. Raises ConnectionResetError: a transport that closes takes all that it is
        given, and throws it away.
        """
        if self._transport.is_closing():
            raise ConnectionResetError
        is_free = not self._transport.get_write_buffer_size()
        if head:
            sent = self._take(head, more=True) if is_free else 0
            if sent < len(head):
                self._transport.write(head[sent:])
                is_free = False
        taken = self._take(piece, more=more) if is_free else 0
        return taken if taken == len(piece) else taken + self._nudge(piece[taken : taken + NUDGE])

    def _take(self, piece: Piece, *, more: bool) -> int:
        """How much of it the kernel took; the transport meets a client that is gone."""
        try:
            if isinstance(piece, Slice):
                return os.sendfile(self._socket.fileno(), piece.file.fileno(), piece.offset, piece.length)
            return self._socket.send(piece, socket.MSG_MORE if more else 0)
        except OSError:
            return 0

    def _nudge(self, piece: Piece) -> int:
        try:
            if isinstance(piece, Slice):
                piece = os.pread(piece.file.fileno(), piece.length, piece.offset)
        except OSError:  # whoever reads it again tells why
            return 0
        self._transport.write(bytes(piece))
        return len(piece)

    async def until_free(self) -> None:
        """Wait for the client, and see how long it takes, or give others their turn; raises ConnectionResetError."""
        loop, was_held = asyncio.get_running_loop(), self.is_held
        began = loop.time()
        await (self._flow.drain() if was_held else asyncio.sleep(0))
        if self._transport.is_closing():
            raise ConnectionResetError
        if was_held:
            self.bound(UNSENT_FAST if loop.time() - began < _AT_ONCE_S else UNSENT)


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
        cycle, piece = self._cycle, _asked(message)
        head = await self._head()
        if cycle.disconnected:  # then nothing is known of a length either
            raise ConnectionResetError
        if cycle.chunked_encoding:
            head += b"%x\r\n" % piece.length
        elif cycle.scope["method"] != "HEAD":
            if piece.length > cycle.expected_content_length:
                raise RuntimeError("a file is longer than Content-Length")
            cycle.expected_content_length -= piece.length
        if cycle.scope["method"] == "HEAD":
            cycle.transport.write(head)
        else:
            await self._pour(piece, head)
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

    async def _pour(self, piece: Slice, head: bytes) -> None:
        """A file at the client's pace."""
        turn = 0
        while piece:
            given = self._wire.give(piece[:TURN], more=len(piece) > TURN, head=head)
            if not given:
                raise Unavailable(SHORTER)
            piece, turn, head = piece[given:], turn + given, b""
            if piece and (self._wire.is_held or turn >= TURN):
                await self._wire.until_free()
                turn = 0


def _asked(message: Message) -> Slice:
    """Which part of the file; untold it is from its position all that follows."""
    file, offset, count = message["file"], message.get("offset"), message.get("count")
    offset = os.lseek(file.fileno(), 0, os.SEEK_CUR) if offset is None else offset
    return Slice(file, offset, os.fstat(file.fileno()).st_size - offset if count is None else count)


class _Kept(asyncio.Transport):
    """Takes what is written."""

    written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data
