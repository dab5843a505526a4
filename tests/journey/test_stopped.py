"""A stop under load: nobody new is let in, what can end ends, the rest is cut, and all of it within its time."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests import make_video
from tests.serving import Server, serving, until

VIEWERS = int(os.environ.get("REELWEB_TEST_VIEWERS", "120"))  # of each kind
VIDEO_BYTES = 96 << 20
SHORT = 3 << 20
BOUND_S = 6.0


@dataclass
class Got:
    """What one viewer was given, of how much."""

    bytes: int = 0
    length: int = 0


def asked(address: str, part: str) -> bytes:
    parts = urlsplit(address)
    return f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: video/mp4\r\nRange: {part}\r\n\r\n".encode()


async def watch(address: str, part: str, pause_s: float) -> Got:
    """Read it at a pace, until the connection ends."""
    parts, got = urlsplit(address), Got()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=64 << 10)
    writer.write(asked(address, part))
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        got.length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        while got.bytes < got.length and (piece := await reader.read(64 << 10)):
            got.bytes += len(piece)
            await asyncio.sleep(pause_s)
    except OSError:
        pass
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return got


def stalled(address: str, stack: ExitStack) -> socket.socket:
    """One that asked and reads nothing."""
    parts = urlsplit(address)
    made = stack.enter_context(socket.socket())
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
    made.connect((parts.hostname, parts.port))
    made.sendall(asked(address, "bytes=0-"))
    return made


@dataclass
class Stop:
    """What came of the viewers; seconds from the signal until nobody was let in, and until all had ended."""

    moving: list[Got]
    short: list[Got]
    refused_s: float
    over_s: float


async def stop(server: Server, address: str) -> Stop:
    moving = [asyncio.create_task(watch(address, f"bytes={at * 1000}-", 0.2)) for at in range(VIEWERS)]
    await asyncio.sleep(1)
    short = [asyncio.create_task(watch(address, f"bytes={at}-{at + SHORT - 1}", 0.02)) for at in range(20)]
    await asyncio.sleep(0.5)
    server.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    await asyncio.to_thread(until, lambda: not server.answers())
    refused_s = time.monotonic() - began
    await asyncio.to_thread(server.process.wait, 60)
    over_s = time.monotonic() - began
    return Stop(await asyncio.gather(*moving), await asyncio.gather(*short), refused_s, over_s)


@pytest.mark.heavy
def test_a_stop_under_load_ends_in_time(tmp_path: Path) -> None:
    """Readiness goes first; short answers arrive whole; long and stalled ones end, and no process is left."""
    make_video.large(tmp_path / "video.dcm", VIDEO_BYTES)
    with (
        serving(tmp_path / "data", shutdown_timeout_s=str(BOUND_S), workers="2") as server,
        ExitStack() as stack,
    ):
        headers = {"Content-Type": "application/dicom"}
        with (tmp_path / "video.dcm").open("rb") as file:
            answer = httpx.post(f"{server.url}/dicom-web/studies", content=file, headers=headers, timeout=120)
        address = f"{answer.json()['00081199']['Value'][0]['00081190']['Value'][0]}/rendered"
        until(lambda: httpx.head(address, headers={"Accept": "video/mp4"}, timeout=60).status_code == 200)
        for _ in range(VIEWERS):
            stalled(address, stack)
        seen = asyncio.run(stop(server, address))
        assert seen.refused_s < BOUND_S / 2
        assert seen.over_s < 3 * BOUND_S
        assert [one.bytes for one in seen.short] == [SHORT] * len(seen.short)
        assert all(0 < one.bytes < one.length for one in seen.moving)
        assert server.wait() == 0
        assert not server.left_behind()
        assert "Exception" not in server.told
        assert "Traceback" not in server.told
