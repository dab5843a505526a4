"""The page at `/`: the newest studies and their videos, for the first minute with a new server."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import FileResponse, Response

from app.web.state import Request

FOLDER = Path(__file__).parent / "page_files"
POLICY = (
    "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "Referrer-Policy": "no-referrer"}


async def index(request: Request) -> Response:
    """Answer with the page; it holds nothing but asks the DICOMweb root from the browser."""
    return FileResponse(FOLDER / "index.html", headers=HEADERS)
