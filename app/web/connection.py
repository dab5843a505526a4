"""The client at the other end: whether it is still there, and cutting it off when it has stopped reading.

ASGI can only close a connection, and closing waits until the client took what was written: for ever. And
it tells of a client that left only to a task that waits for the message, which costs more than a short
range. Our server protocol shows the transport, which knows at once, and sends files by itself (sendfile.py).
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.web import sendfile

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

HEADER_BYTES: Final = 64 << 10  # of a request line and its fields
HEADER_S: Final = 30.0  # in which they have to come
DRAINED: Final = 64 << 20  # bytes of a body that are read after it was answered
_EXTENSION: Final = "reelweb.transport"


# More than this in the transport holds the sender back: a header does not, every piece of a stream does.
HELD: Final = 2 << 10


class Protocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=Protocol)`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Bound what the kernel holds for a viewer that does not read."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(HELD, 0)
        sendfile.bound(transport, sendfile.UNSENT)
        self._await_header()

    def _await_header(self) -> None:
        """A header that is too long or too slow ends its connection, before anybody is asked who they are."""
        self._header_bytes: int | None = 0
        self._deadline = self.loop.call_later(HEADER_S, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        """Count what comes until a header is complete."""
        super().data_received(data)
        if self._header_bytes is not None:
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES:
                self.transport.abort()

    def on_headers_complete(self) -> None:
        """The rest is a body, which has bounds of its own."""
        self._header_bytes = None
        self._deadline.cancel()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._deadline.cancel()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection; one that never took its last, short answer would otherwise wait for ever."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def on_message_begin(self) -> None:
        """Show the application its transport."""
        self._unset_keepalive_if_required()
        self._drained = 0
        self._deadline.cancel()
        self._await_header()
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"transport": self.transport}}
        if self.scheme == "http":  # TLS has to see the bytes
            self.scope["extensions"][sendfile.EXTENSION] = {}

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        super()._start_asgi_task(cycle, sendfile.with_files(cycle, app))

    def on_body(self, body: bytes) -> None:
        """What comes after the answer is read and thrown away, so that the client sees it; not for ever."""
        super().on_body(body)
        if not self.cycle.response_complete:
            return
        self._drained += len(body)
        if self._drained > DRAINED:
            self.transport.close()
        elif not self.transport.is_closing():  # the server forgets the time it gives when anything comes
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )


class Client(AbstractContextManager["Client"]):
    """Watches one client while it is answered, under any server, best under ours."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        extension = scope.get("extensions", {}).get(_EXTENSION, {})
        self._transport: asyncio.Transport | None = extension.get("transport")
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        if not self._transport:
            self._watcher = asyncio.create_task(self._disconnected())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watcher:
            self._watcher.cancel()

    def gone(self) -> bool:
        """Whether nobody reads any more."""
        if self._transport:
            return self._transport.is_closing()
        return self._watcher is not None and self._watcher.done()

    async def cut(self) -> bool:
        """End the connection at once, whatever is still to be taken; False where the server has no way to."""
        if not self._transport:
            return False
        self._transport.abort()
        await self._disconnected()  # so that the server knows why the answer ends here
        return True

    async def _disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
