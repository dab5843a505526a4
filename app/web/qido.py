"""QIDO-RS: the Search transaction at the three levels (PS3.18 10.6)."""

from __future__ import annotations

from starlette.responses import Response

from app import query
from app.dicom import matching
from app.dicom.attributes import Level
from app.index.search import ROOT_MARK
from app.web import accept
from app.web.state import Request, root

COUNTED = 1000  # beyond, counting what is left would cost more than the page
FUZZY = "The fuzzymatching parameter is not supported. Only literal matching has been performed."


async def studies(request: Request) -> Response:
    """Search for studies."""
    return await _search(request, Level.STUDY)


async def series(request: Request) -> Response:
    """Search for series, of one study if the path names it."""
    return await _search(request, Level.SERIES)


async def instances(request: Request) -> Response:
    """Search for instances, of one study or series if the path names it."""
    return await _search(request, Level.INSTANCE)


async def _search(request: Request, level: Level) -> Response:
    accept.choose(request, accept.DICOM_JSON)
    path = request.path_params
    asked = matching.parse(
        level, path.get("study"), path.get("series"), request.query_params.multi_items()
    )
    found = await query.search(request.state["tools"].index, asked)
    rows = b",".join(found.rows).replace(ROOT_MARK, ROOT_MARK.replace(b"@", root(request).encode()))
    answer = Response(b"[" + rows + b"]", media_type="application/dicom+json")
    for text in _warnings(found.remaining, fuzzy=asked.fuzzy):
        answer.headers.append("Warning", f'299 {root(request)} "{text}"')
    return answer


def _warnings(remaining: int, *, fuzzy: bool) -> list[str]:
    texts = []
    if remaining > COUNTED:
        texts.append("There are additional results that can be requested")
    elif remaining:
        texts.append(f"There are {remaining} additional results that can be requested")
    if fuzzy:
        texts.append(FUZZY)
    return texts
