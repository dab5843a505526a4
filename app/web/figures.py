"""The figures of requests for Prometheus: added up in the process, written once a second for all to see."""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from starlette.requests import Request
from starlette.responses import Response

_BOUNDS: Final = tuple(map(float, Histogram.DEFAULT_BUCKETS))
WRITTEN_S: Final = 1.0  # how much older than an answer the figures of another process may be


class _Times(Histogram):
    """A histogram that takes many at once; a write for each would cost more than a short range."""

    def add(self, counts: Sequence[int], seconds: float) -> None:
        """So many in each bucket, taking so long together."""
        self._sum.inc(seconds)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


REQUESTS = Counter("reelweb_requests", "Requests answered", ["method", "route", "status"])
SECONDS = _Times(
    "reelweb_request_seconds", "Seconds from the first to the last byte", ["route"], buckets=_BOUNDS
)
BYTES = Counter("reelweb_response_bytes", "Bytes of bodies sent", ["route"])
IN_FLIGHT = Gauge("reelweb_requests_in_flight", "Requests being answered", multiprocess_mode="livesum")


class _Kind:
    """One kind of request: what was seen of it since that was written last."""

    __slots__ = ("_buckets", "_count", "_seconds", "_size", "_written")

    def __init__(self, method: str, route: str, status: int) -> None:
        self._written = (
            REQUESTS.labels(method, route, str(status)),
            SECONDS.labels(route),
            BYTES.labels(route),
        )
        self._clear()

    def _clear(self) -> None:
        self._count, self._seconds, self._size = 0, 0.0, 0
        self._buckets = [0] * len(_BOUNDS)

    def add(self, seconds: float, size: int) -> None:
        """One more of them."""
        self._count += 1
        self._seconds += seconds
        self._size += size
        self._buckets[bisect_left(_BOUNDS, seconds)] += 1

    def write(self) -> None:
        """Let all see it."""
        if self._count:
            requests, took, sent = self._written
            requests.inc(self._count)
            took.add(self._buckets, self._seconds)
            sent.inc(self._size)
            self._clear()


_kinds: Final = dict[tuple[str, str, int], _Kind]()  # as many as there are handlers, methods and statuses


def add(method: str, route: str, status: int, seconds: float, size: int) -> None:
    """A request is over."""
    kind = _kinds.get((method, route, status))
    if kind is None:
        kind = _kinds[method, route, status] = _Kind(method, route, status)
    kind.add(seconds, size)


def write() -> None:
    """Let all processes see what was added up in this one."""
    for kind in list(_kinds.values()):
        kind.write()


@asynccontextmanager
async def written() -> AsyncIterator[None]:
    """While the block lasts, and when it ends, what is added up here is seen by all."""

    async def from_time_to_time() -> None:
        while True:
            await asyncio.sleep(WRITTEN_S)
            write()

    task = asyncio.create_task(from_time_to_time())
    try:
        yield
    finally:
        task.cancel()
        write()


async def metrics(_request: Request) -> Response:
    """Answer with the figures of all processes together."""
    write()
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # untyped in the library
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
