"""The smallest server of a virtual file with ranges, for a browser; the product's own is tested elsewhere."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


@asynccontextmanager
async def serving(files: Mapping[str, tuple[bytes, str]]) -> AsyncIterator[str]:
    """The origin under which each file of bytes and media type is served by its name."""

    async def file(request: Request) -> Response:
        whole, media_type = files[request.path_params["name"]]
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if asked is None:
            return Response(whole, 200, {"Accept-Ranges": "bytes"}, media_type)
        start, stop = int(asked[1]), min(int(asked[2] or len(whole)) + 1, len(whole))
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/{len(whole)}", "Accept-Ranges": "bytes"}
        return Response(whole[start:stop], 206, headers, media_type)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = Starlette(routes=[Route("/{name}", file)])
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        task = asyncio.create_task(server.serve([listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            with suppress(asyncio.CancelledError):
                await task
