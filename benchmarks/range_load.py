"""Asks for random byte ranges on keep-alive connections, as cheaply as a client can: a child of ranges.py.

python benchmarks/range_load.py URL LENGTH SIZE CONNECTIONS SECONDS    # prints: answers bytes seconds
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from random import Random
from typing import cast
from urllib.parse import urlsplit

import uvloop

BUFFER = bytearray(1 << 20)  # what comes is counted and not kept


class Asking(asyncio.BufferedProtocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, request: Callable[[], bytes], size: int, ends: float) -> None:
        self._request, self._size, self._ends = request, size, ends
        self.answers = self._left = 0
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not registered as one
        self._ask()

    def _ask(self) -> None:
        if time.perf_counter() >= self._ends:
            self._transport.close()
            return
        self._left = -1
        self._transport.write(self._request())

    def get_buffer(self, sizehint: int) -> bytearray:
        return BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if self._left < 0:
            head = BUFFER.find(b"\r\n\r\n", 0, nbytes)
            assert BUFFER.startswith(b"HTTP/1.1 206"), bytes(BUFFER[:200])
            assert head > 0, "the header came in pieces"
            self._left = self._size
            nbytes -= head + 4
        self._left -= nbytes
        if not self._left:
            self.answers += 1
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set_result(None)


async def load(url: str, length: int, size: int, connections: int, seconds: float) -> tuple[int, float]:
    """How many answers came, and in which time."""
    address, random = urlsplit(url), Random(7)
    path = f"{address.path}?{address.query}" if address.query else address.path

    def request() -> bytes:
        start = random.randrange(length - size)
        head = f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nAccept: video/mp4\r\n"
        return f"{head}Range: bytes={start}-{start + size - 1}\r\n\r\n".encode()

    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    asking = []
    for _ in range(connections):
        _, protocol = await loop.create_connection(
            lambda: Asking(request, size, began + seconds), address.hostname or "", address.port or 80
        )
        asking.append(protocol)
    await asyncio.gather(*(protocol.over for protocol in asking))
    return sum(protocol.answers for protocol in asking), time.perf_counter() - began


def main() -> None:
    url, *numbers = sys.argv[1:]
    length, size, connections = (int(number) for number in numbers[:3])
    answers, seconds = uvloop.run(load(url, length, size, connections, float(numbers[3])))
    print(answers, answers * size, seconds)


if __name__ == "__main__":
    main()
