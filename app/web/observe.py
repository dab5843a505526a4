"""One log line, one request id and the figures of each request; the last resort for errors."""

from __future__ import annotations

import inspect
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid7

from app.errors import where
from app.web import figures, sendfile
from app.web.problems import problem

log = structlog.get_logger("reelweb.request")

ID = b"x-request-id"  # alone of the fields that every answer has it is another one each time
CLIENT_GONE = 499  # in log and metrics only: nobody is there to hear it
# UIDs and frames; tags and items. Atomic: digits can be read both ways, and no address shall be slow.
_NUMBERS = re.compile(r"[0-9.,]++|(?>[0-9A-Fa-f]{8}|[0-9]{1,7})(?:/(?>[0-9A-Fa-f]{8}|[0-9]{1,7}))*+")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class Observe:
    """Outermost of all: whatever happens inside is counted, logged and answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and see it end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["request_id"] = new_id()
        seen = Seen(scope["request_id"])
        try:
            await seen.through(self._app, scope, receive, send)
        finally:
            tell(Label.of(scope), seen)


class Failures:
    """The last resort, inside of CORS: what nobody foresaw is answered so that a viewer can read it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and answer for it if need be."""
        begun = False

        async def seen(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, seen)
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - the last door before the socket
            failed(scope["request_id"], error)
            if not begun:
                detail = "The server failed; its log has the request's id."
                await problem(scope, HTTPStatus.INTERNAL_SERVER_ERROR, detail)(scope, receive, send)
            # else: returning without the rest makes the server close the connection: a cut answer


class Seen:
    """One request as it is answered: its id, status and bytes, and since when."""

    __slots__ = ("began", "request_id", "size", "status")

    def __init__(self, request_id: str, status: int | None = None, size: int = 0) -> None:
        self.request_id, self.status, self.size = request_id, status, size
        self.began = time.perf_counter()

    async def through(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """See `app` answer it."""

        async def sent(message: Message) -> None:
            self._see(message)
            await send(message)

        with figures.IN_FLIGHT.track_inprogress():
            try:
                await app(scope, receive, sent)
            except ClientDisconnect:
                self.status = self.status or CLIENT_GONE

    def _see(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            message["headers"] = [*message.get("headers", ()), *own(self.request_id)]
        elif message["type"] == "http.response.body":
            self.size += len(message.get("body", b""))
        elif message["type"] == sendfile.EXTENSION:
            self.size += message["count"]


def own(request_id: str) -> Sequence[tuple[bytes, bytes]]:
    """The header fields that every answer has; what strangers stored is not what a browser takes it for."""
    return (ID, request_id.encode()), (b"x-content-type-options", b"nosniff")


def new_id() -> str:
    """What the answer, its problem document and the log call a request."""
    return uuid7().hex


@dataclass(frozen=True, slots=True)
class Label:
    """What log and metrics say of a request, whatever became of it."""

    method: str
    route: str
    path: str

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """As it was routed."""
        method, route = scope["method"], _route(scope)
        path = "" if route == "none" else _path(scope)
        return cls(method if method in METHODS else "other", route, path)


def tell(label: Label, seen: Seen) -> None:
    """It is over: into the figures, and into the log."""
    seconds = time.perf_counter() - seen.began
    figures.add(label.method, label.route, seen.status or 0, seconds, seen.size)
    bound = log.bind()  # as `log.info` would each time: a line that nobody wants is not even put together
    if bound.is_enabled_for(logging.INFO):
        bound.info(
            "request",
            request_id=seen.request_id,
            method=label.method,
            path=label.path,
            status=seen.status,
            bytes=seen.size,
            ms=round(seconds * 1000, 1),
        )


def failed(request_id: str, error: Exception) -> None:
    """The text of a stranger's error may hold an attribute of a patient: the log gets where, not what."""
    log.error("failed", request_id=request_id, error=type(error).__name__, at=where(error))


def _route(scope: Scope) -> str:
    """The handler's name, `wado.instances`: few values, however many addresses there are."""
    endpoint = scope.get("endpoint")
    if not inspect.isfunction(endpoint):  # nothing, or the mount in which nothing was found
        return "none"
    return f"{endpoint.__module__.rpartition('.')[2]}.{endpoint.__name__}"


def _path(scope: Scope) -> str:
    """The address, or only its pattern where it holds what may be a name: addresses come from strangers."""
    if all(_NUMBERS.fullmatch(value) for value in scope["path_params"].values()):
        return str(scope["path"])
    return str(scope["route"].path_format)
