"""Many viewers of one video, each from a random position at its own pace, and some that stopped reading.

python benchmarks/viewer_load.py URL LENGTH MOVING NEVER_READ STOPPED ARRIVE_S WATCH_S    # prints one JSON object
A viewer has started when two seconds of video are there; it stalls when it has seen all that came.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
import time
from random import Random
from typing import Any, Final, cast
from urllib.parse import urlsplit

import uvloop

RATE: Final = 32_000  # bytes a second: 256 kb/s
STARTED: Final = 2 * RATE
AHEAD: Final = 8 * RATE  # what a player buffers
BUFFER: Final = bytearray(256 << 10)


class Viewer(asyncio.BufferedProtocol):
    """Reads at its pace: what it does not take holds the server back."""

    stop_after = 1 << 62  # a stalled one reads so much and no more

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._began = time.perf_counter()
        self.received = self.stalls = 0
        self.start_s: float | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)
        if not self.stop_after:
            self.transport.pause_reading()

    def get_buffer(self, sizehint: int) -> bytearray:
        return BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if not self.received and not BUFFER.startswith(b"HTTP/1.1 206"):
            self.transport.abort()
            return
        now = time.perf_counter() - self._began
        seen = RATE * (now - self.start_s) if self.start_s is not None else 0
        self.stalls += seen > self.received
        self.received += nbytes
        if self.start_s is None and self.received >= STARTED:
            self.start_s = now
        if self.received >= self.stop_after:
            self.transport.pause_reading()
        elif self.received > seen + AHEAD:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(2, self._resume)

    def _resume(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


class NeverDrained(Viewer):
    stop_after = 0


class StoppedLater(Viewer):
    stop_after = 1 << 20


def connection() -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 10)  # so that the pace is felt by the server
    made.setblocking(False)  # noqa: FBT003
    return made


async def arrive(kind: type[Viewer], url: str, length: int, random: Random, delay_s: float) -> Viewer:
    await asyncio.sleep(delay_s)
    address, start = urlsplit(url), random.randrange(length * 3 // 4)
    head = f"GET {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nAccept: video/mp4\r\nRange: bytes={start}-\r\n\r\n"
    viewer = kind(head.encode())  # its time begins before it is connected
    loop, made = asyncio.get_running_loop(), connection()
    try:
        await loop.sock_connect(made, (address.hostname, address.port))
        await loop.create_connection(lambda: viewer, sock=made)
    except OSError:
        viewer.lost = True
    return viewer


async def watch(url: str, numbers: list[int]) -> dict[str, Any]:
    length, moving, fresh, drained, arrive_s, watch_s = numbers
    random = Random(7)
    kinds = [Viewer] * moving + [NeverDrained] * fresh + [StoppedLater] * drained
    coming = [arrive(kind, url, length, random, random.random() * arrive_s) for kind in kinds]
    viewers = await asyncio.gather(*coming)
    before = time.process_time()
    await asyncio.sleep(watch_s)
    paced = [viewer for viewer in viewers if type(viewer) is Viewer]
    starts = sorted(viewer.start_s for viewer in paced if viewer.start_s is not None)
    return {
        "viewers": len(paced),
        "started": len(starts),
        "lost": sum(viewer.lost for viewer in paced),
        "stalled": sum(bool(viewer.stalls) for viewer in paced),
        "p50": round(starts[len(starts) // 2], 4) if starts else None,
        "p99": round(starts[len(starts) * 99 // 100], 4) if starts else None,
        "max": round(starts[-1], 4) if starts else None,
        "sent": sum(viewer.received for viewer in viewers),
        "client_cpu": round((time.process_time() - before) / watch_s, 2),
    }


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    url, *numbers = sys.argv[1:]
    print(json.dumps(uvloop.run(watch(url, [int(number) for number in numbers]))))


if __name__ == "__main__":
    main()
