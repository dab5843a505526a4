"""DELETE of studies, series and instances: the field's extension of DICOMweb, off unless it is allowed."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import Response

from app import store
from app.web.state import Request


async def instances(request: Request) -> Response:
    """Remove what lies below the address; those who read it now may end."""
    path = request.path_params
    await store.remove(request.state["tools"], path["study"], path.get("series"), path.get("instance"))
    return Response(status_code=HTTPStatus.NO_CONTENT)
