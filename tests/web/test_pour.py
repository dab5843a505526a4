"""A range reaches its client as it is, at whatever pace; where it cannot, the connection never looks complete."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from struct import pack
from typing import Any, cast

import pytest
import uvloop
from uvicorn.protocols.http.flow_control import FlowControl

from app.errors import Unavailable
from app.extent import Extents
from app.storage.at_hand import AtHand
from app.storage.local import LocalStorage
from app.storage.stream import read_all, unread
from app.web.connection import HELD
from app.web.pour import Pour
from app.web.sendfile import Wire
from tests.storage.test_units import made

HEAD = b"HTTP/1.1 206 Partial Content\r\n\r\n"
ROWS = [(4, 100_000), *[(4, 700)] * 300, (3, 400_000)] * 12
Run = Callable[..., Any]
Work = Callable[[LocalStorage, Extents, bytes], Awaitable[None]]


class Serving(asyncio.Protocol):
    """A connection on which a range is poured; told of its pace as the server's own protocol is."""

    def __init__(self) -> None:
        self.made = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(HELD, 0)
        self.flow = FlowControl(self.transport)
        self.wire = Wire(self.transport, self.flow)
        self.made.set()

    def pause_writing(self) -> None:
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        self.flow.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.wire.release()
        self.flow.resume_writing()


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Work with units in a folder, on the event loops that a server of ours may run on."""

    async def worked(work: Work) -> None:
        async with LocalStorage(tmp_path / "root") as storage:
            extents, whole = await made(storage, ROWS)
            assert await read_all(storage, extents) == whole  # so that it is open
            await work(storage, extents, whole)

    return lambda work: request.param(worked(work))


async def connected() -> tuple[socket.socket, Serving]:
    """A client with a small window, and the server's side of it."""
    loop = asyncio.get_running_loop()
    theirs, ours = socket.socket(), Serving()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
    server = await loop.create_server(lambda: ours, "127.0.0.1", 0)
    theirs.settimeout(0)
    await loop.sock_connect(theirs, server.sockets[0].getsockname())
    await asyncio.wait_for(ours.made.wait(), 10)
    server.close()
    return theirs, ours


async def taken(client: socket.socket, pause_s: float = 0.0) -> bytes:
    """All that comes before the connection ends."""
    loop, pieces = asyncio.get_running_loop(), list[bytes]()
    while piece := await loop.sock_recv(client, 300_000):
        pieces.append(piece)
        await asyncio.sleep(pause_s)
    return b"".join(pieces)


def poured(storage: LocalStorage, extents: Extents, side: Serving, bounds: tuple[int, int]) -> Pour:
    return Pour(side.wire, AtHand(storage), extents, bounds, HEAD)


@pytest.mark.parametrize("pause_s", [0.0, 0.002], ids=["fast", "slow"])
@pytest.mark.parametrize("is_read", [False, True], ids=["in memory", "read"])
def test_any_range_comes_as_it_is(
    run: Run, monkeypatch: pytest.MonkeyPatch, *, pause_s: float, is_read: bool
) -> None:
    """With no more than its head before it; also when nothing is known to be in memory."""

    async def work(storage: LocalStorage, extents: Extents, whole: bytes) -> None:
        if is_read:
            monkeypatch.setattr(LocalStorage, "files", None)
        for start, stop in ((0, len(whole)), (8, 9), (100_005, 3_000_000), (50, 200_000)):
            client, side = await connected()
            with client:
                pour = poured(storage, extents, side, (start, stop))
                reading = asyncio.create_task(taken(client, pause_s))
                pour.turn()
                await pour.rest(partial(unread, storage), 10.0)
                assert pour.is_over
                assert pour.size == stop - start
                side.transport.close()
                assert await reading == HEAD + whole[start:stop]

    run(work)


def test_who_is_gone_or_takes_nothing_is_left(run: Run) -> None:
    async def work(storage: LocalStorage, extents: Extents, whole: bytes) -> None:
        client, side = await connected()
        pour = poured(storage, extents, side, (0, len(whole)))
        with pytest.raises(TimeoutError):
            await pour.rest(partial(unread, storage), 0.3)
        assert 0 < pour.size < len(whole)
        client.close()
        with pytest.raises(ConnectionError):
            await pour.rest(partial(unread, storage), 10.0)

    run(work)


def test_to_who_has_just_left_nothing_is_sent(run: Run) -> None:
    """The transport would take it all, four kibibytes at a time, and all that time serve nobody else."""

    async def work(storage: LocalStorage, extents: Extents, whole: bytes) -> None:
        for wait_s in (0.0, 0.05):
            client, side = await connected()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
            client.close()
            await asyncio.sleep(wait_s)
            pour = poured(storage, extents, side, (200_000, len(whole)))
            with pytest.raises(ConnectionError):
                await pour.rest(partial(unread, storage), 10.0)
            assert pour.size < 1 << 20

    run(work)


def test_who_takes_little_by_little_is_not(run: Run) -> None:
    """However long it takes altogether."""

    async def work(storage: LocalStorage, extents: Extents, whole: bytes) -> None:
        client, side = await connected()
        with client:
            reading = asyncio.create_task(taken(client, 0.01))
            pour = poured(storage, extents, side, (0, 4_000_000))
            await pour.rest(partial(unread, storage), 0.3)
            side.transport.close()
            assert await reading == HEAD + whole[:4_000_000]

    run(work)


def test_a_file_that_is_cut_on_the_way_is_told(run: Run, tmp_path: Path) -> None:
    async def work(storage: LocalStorage, extents: Extents, whole: bytes) -> None:
        client, side = await connected()
        with client:
            reading = asyncio.create_task(taken(client, 0.001))
            pour = poured(storage, extents, side, (0, len(whole)))
            pour.turn()
            for path in (tmp_path / "root").rglob("*"):
                if path.is_file() and path.stat().st_size > 1_000_000:
                    os.truncate(path, len(whole) - 200_000)
            with pytest.raises(Unavailable):
                await pour.rest(partial(unread, storage), 10.0)
            side.transport.close()
            assert whole.startswith((await reading)[len(HEAD) :])
            assert pour.size < len(whole)

    run(work)
