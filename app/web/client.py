"""The client at the other end: whether it is still there, and cutting it off when it has stopped reading.

ASGI can only close a connection, and closing waits until the client took what was written: for ever. And
it tells of a client that left only to a task that waits for the message, which costs more than a short
range. Our server protocol (connection.py) shows the transport, which knows at once.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Self

from starlette.types import Receive, Scope

EXTENSION: Final = "reelweb.transport"


class Client(AbstractContextManager["Client"]):
    """Watches one client while it is answered, under any server, best under ours."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        extension = scope.get("extensions", {}).get(EXTENSION, {})
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
