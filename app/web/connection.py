"""uvicorn's HTTP protocol, with a way to cut a connection whose client has stopped reading.

ASGI can only close a connection, and closing waits until the client took what was written: for ever.
"""

from __future__ import annotations

import asyncio

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_ABORT = "reelweb.abort"


class Protocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=Protocol)`."""

    def on_message_begin(self) -> None:
        """Let the application reach the transport's abort through the scope."""
        super().on_message_begin()
        self.scope["extensions"] = {_ABORT: {"transport": self.transport}}


def abort(scope: Scope) -> bool:
    """Cut the connection at once; False where the server gave no way to."""
    extension = scope.get("extensions", {}).get(_ABORT)
    if extension is None:
        return False
    transport: asyncio.Transport = extension["transport"]
    transport.abort()
    return True
