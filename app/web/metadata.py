"""WADO-RS metadata at three levels: DICOM JSON, stored compressed, never made twice (PS3.18 10.4.1.1.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import Response, StreamingResponse

from app import retrieve
from app.web import accept, ranges
from app.web.accept import Offer
from app.web.ranges import Validators
from app.web.state import Request, accepted, root

OFFERS: Final = (Offer("application/dicom+json"), Offer("application/json"))
HEADERS: Final = {"Cache-Control": "private, no-cache", "Vary": "Accept, Accept-Encoding"}


async def metadata(request: Request) -> Response:
    """The data sets of a study, a series or an instance, without their bulk data."""
    choice = accept.choose(accepted(request), OFFERS)
    path = request.path_params
    document = await retrieve.metadata(
        request.state["tools"], root(request), path["study"], path.get("series"), path.get("instance")
    )
    compressed = takes_gzip(request.headers.get("accept-encoding", ""))
    tag = Validators(f'"{document.etag}{"-gzip" if compressed else ""}"')
    headers = HEADERS | tag.headers() | ({"Content-Encoding": "gzip"} if compressed else {})
    if ranges.is_unchanged(request.headers, tag):
        headers.pop("Content-Encoding", None)
        return Response(status_code=304, headers=headers)
    pieces = document.gzip() if compressed else document.identity()
    first = await anext(pieces)  # an error is told before the status is sent
    return StreamingResponse(_chained(first, pieces), headers=headers, media_type=choice.offer.media_type)


def takes_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header (RFC 9110 12.5.3) lets gzip through."""
    weights: dict[str, float] = {}
    for element in header.split(","):
        coding, _, parameters = element.partition(";")
        name, _, q = parameters.strip().partition("=")
        try:
            weights[coding.strip().lower()] = float(q) if name.strip().lower() == "q" else 1.0
        except ValueError:
            continue
    return weights.get("gzip", weights.get("*", 0.0)) > 0


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
