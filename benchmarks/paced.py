"""A line of so many bytes a second in front of a server, which counts what came through."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

PIECE = 16 << 10


@dataclass
class Line:
    """What all connections together got to read; `rate` is bytes a second, or 0 for no limit."""

    rate: float
    origin: str = ""
    sent: int = 0
    _free_at: float = 0.0

    async def pace(self, size: int) -> None:
        """Wait until so many bytes may pass."""
        if not self.rate:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + size / self.rate
        await asyncio.sleep(self._free_at - now)


async def _answers(line: Line, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while piece := await source.read(PIECE):
        await line.pace(len(piece))
        line.sent += len(piece)
        target.write(piece)
        await target.drain()


async def _requests(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while piece := await source.read(PIECE):
        target.write(piece)
        await target.drain()


@asynccontextmanager
async def paced(port: int, rate: float) -> AsyncIterator[Line]:
    """The server on this port of loopback, behind a line; its own address is `origin`."""
    line = Line(rate)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, asking = await asyncio.open_connection("127.0.0.1", port, limit=PIECE)
        ways = [
            asyncio.create_task(_answers(line, upstream, writer)),
            asyncio.create_task(_requests(reader, asking)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            with contextlib.suppress(OSError):
                await asyncio.gather(*ways, return_exceptions=True)
            asking.close()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=PIECE)
    line.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        server.close()
