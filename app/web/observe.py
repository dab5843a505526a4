"""One log line, one request id and the metrics of each request; the last resort for errors."""

from __future__ import annotations

import inspect
import os
import re
import time
from functools import cache
from http import HTTPStatus

import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid7

from app.errors import where
from app.web import sendfile
from app.web.problems import problem

log = structlog.get_logger("reelweb.request")

REQUESTS = Counter("reelweb_requests", "Requests answered", ["method", "route", "status"])
SECONDS = Histogram("reelweb_request_seconds", "Seconds from the first to the last byte", ["route"])
BYTES = Counter("reelweb_response_bytes", "Bytes of bodies sent", ["route"])
IN_FLIGHT = Gauge("reelweb_requests_in_flight", "Requests being answered", multiprocess_mode="livesum")
_NOSNIFF = (b"x-content-type-options", b"nosniff")  # what strangers stored is not what a browser takes it for
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
        scope["request_id"] = uuid7().hex
        seen = _Seen(send, scope["request_id"])
        started = time.perf_counter()
        with IN_FLIGHT.track_inprogress():
            try:
                await self._app(scope, receive, seen.send)
            except ClientDisconnect:
                seen.status = seen.status or CLIENT_GONE
            finally:
                _report(scope, seen, time.perf_counter() - started)


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
            _tell(scope, error)
            if not begun:
                detail = "The server failed; its log has the request's id."
                await problem(scope, HTTPStatus.INTERNAL_SERVER_ERROR, detail)(scope, receive, send)
            # else: returning without the rest makes the server close the connection: a cut answer


class _Seen:
    """The sending side of one request: its status, its bytes, its id on the way."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._id = send, request_id.encode()
        self.status: int | None = None
        self.size = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self._id), _NOSNIFF]
        elif message["type"] == "http.response.body":
            self.size += len(message.get("body", b""))
        elif message["type"] == sendfile.EXTENSION:
            self.size += message["count"]
        await self._send(message)


def _tell(scope: Scope, error: Exception) -> None:
    """The text of a stranger's error may hold an attribute of a patient: the log gets where, not what."""
    log.error("failed", request_id=scope["request_id"], error=type(error).__name__, at=where(error))


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


@cache
def _figures(method: str, route: str, status: int) -> tuple[Counter, Histogram, Counter]:
    """What counts such requests: as many as there are handlers, methods and statuses."""
    return REQUESTS.labels(method, route, str(status)), SECONDS.labels(route), BYTES.labels(route)


def _report(scope: Scope, seen: _Seen, seconds: float) -> None:
    route = _route(scope)
    method = scope["method"] if scope["method"] in METHODS else "other"
    requests, took, sent = _figures(method, route, seen.status or 0)
    requests.inc()
    took.observe(seconds)
    sent.inc(seen.size)
    log.info(
        "request",
        request_id=scope["request_id"],
        method=method,
        path="" if route == "none" else _path(scope),
        status=seen.status,
        bytes=seen.size,
        ms=round(seconds * 1000, 1),
    )


async def metrics(request: Request) -> Response:
    """Answer with the figures of all processes together."""
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # untyped in the library
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
