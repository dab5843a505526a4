"""The written contract of this server, `openapi/openapi.yaml`, as JSON."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import orjson
import yaml
from starlette.responses import Response

from app.web.state import Request

FILE = Path(__file__).parents[1] / "openapi" / "openapi.yaml"


@cache
def read() -> dict[str, Any]:
    """The OpenAPI document."""
    document: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
    return document


async def document(request: Request) -> Response:
    """Answer with the contract."""
    return Response(orjson.dumps(read()), media_type="application/json")
