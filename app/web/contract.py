"""The written contract of this server, `openapi/openapi.yaml`, as JSON."""

from __future__ import annotations

import asyncio
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
    document: dict[str, Any] = yaml.load(FILE.read_bytes(), yaml.CSafeLoader)
    return document


async def document(request: Request) -> Response:
    """Answer with the contract."""
    read_once = await asyncio.to_thread(read)  # no work for the loop
    return Response(orjson.dumps(read_once), media_type="application/json")
