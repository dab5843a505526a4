"""QIDO-RS: the Search transaction at the three levels (PS3.18 10.6)."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from app import query
from app.dicom import matching
from app.dicom.attributes import Level
from app.web import accept
from app.web.state import Request, accepted, root

OFFERS: Final = (accept.Offer("application/dicom+json"), accept.Offer("application/json"))
COUNTED: Final = 1000  # beyond, counting what is left would cost more than the page
UNAPPLIED: Final = {  # the standard's own sentences (8.3.4)
    "fuzzymatching": "Only literal matching has been performed.",
    "emptyvaluematching": "Empty Value Matching has not been performed.",
    "multiplevaluematching": "Multiple Value Matching has not been performed.",
}


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
    choice = accept.choose(accepted(request), OFFERS)
    path, parameters = request.path_params, request.query_params.multi_items()
    asked = matching.parse(level, path.get("study"), path.get("series"), parameters)
    found = await query.search(request.state["tools"].index, asked)
    here = query.PLACEHOLDER.replace(b"@", root(request).encode())
    rows = b",".join(found.rows).replace(query.PLACEHOLDER, here)
    answer = Response(
        b"[" + rows + b"]",
        headers={"Cache-Control": "private, no-cache", "Vary": "Accept"},
        media_type=choice.offer.media_type,
    )
    for text in _warnings(found.remaining, asked.unapplied):
        answer.headers.append("Warning", f'299 {root(request)} "{text}"')
    return answer


def _warnings(remaining: int, unapplied: frozenset[str]) -> list[str]:
    texts = []
    if remaining > COUNTED:
        texts.append("There are additional results that can be requested")
    elif remaining:
        texts.append(f"There are {remaining} additional results that can be requested")
    texts += [
        f"The {name} parameter is not supported. {text}"
        for name, text in UNAPPLIED.items()
        if name in unapplied
    ]
    return texts
