"""Alive, and ready: what an orchestrator and a balancer ask."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import structlog
from starlette.responses import PlainTextResponse, Response

from app.errors import ReelwebError
from app.web.problems import problem
from app.web.state import Request

log = structlog.get_logger("reelweb.health")

READY_WITHIN_S = 2.0


async def alive(request: Request) -> Response:
    """Answer: the process runs and its loop turns."""
    return PlainTextResponse("alive\n", headers={"Cache-Control": "no-store"})


async def ready(request: Request) -> Response:
    """Answer whether database and storage answer; what can only be read is ready, and says so."""
    tools = request.state["tools"]
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            await tools.index.ready()
            wrong = await tools.storage.check()
    except (ReelwebError, TimeoutError) as error:
        log.warning("not ready", reason=str(error) or "It takes too long to answer.")
        return problem(
            request.scope,
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The database or the storage does not answer.",
            {"Retry-After": "2"},
        )
    return PlainTextResponse(
        f"ready\n{wrong}\n" if wrong else "ready\n", headers={"Cache-Control": "no-store"}
    )
