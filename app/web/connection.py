"""uvicorn's HTTP protocol, with a way to cut a connection whose client has stopped reading.

ASGI can only close a connection, and closing waits until the client took what was written: for ever.
"""

from __future__ import annotations

import asyncio

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

DRAINED = 64 << 20  # bytes of a body that are read after it was answered
_ABORT = "reelweb.abort"


class Protocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=Protocol)`."""

    def on_message_begin(self) -> None:
        """Let the application reach the transport's abort through the scope."""
        self._unset_keepalive_if_required()
        self._drained = 0
        super().on_message_begin()
        self.scope["extensions"] = {_ABORT: {"transport": self.transport}}

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


def abort(scope: Scope) -> bool:
    """Cut the connection at once; False where the server gave no way to."""
    extension = scope.get("extensions", {}).get(_ABORT)
    if extension is None:
        return False
    transport: asyncio.Transport = extension["transport"]
    transport.abort()
    return True
