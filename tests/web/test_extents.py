import asyncio
import fcntl
import os
import socket
import sys
import termios
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.errors import NotFound
from app.extent import Extent, Extents
from app.storage.local import LocalStorage
from app.storage.object_store import ObjectStorage
from app.storage.protocol import Slice, Storage, put
from app.web.connection import Protocol
from app.web.extents import ExtentsResponse, MultipartResponse, Part
from app.web.multipart import Reader
from app.web.ranges import Unsatisfiable, Validators
from tests.storages import object_storage

A, B = "objects/aa/aa/a", "objects/bb/bb/b"
DATA = {A: os.urandom(3_000_000), B: os.urandom(100_000)}
EXTENTS = Extents(
    [
        Extent(B, 5, 1000),
        Extent(A, 100, 2_500_000),
        *(Extent(B, 4104 * at, 4096) for at in range(20)),
        Extent(A, 0, 9),
    ]
)
WHOLE = b"".join(DATA[at.key][at.offset : at.offset + at.length] for at in EXTENTS)
VALIDATORS = Validators('"v1"')

Answer = Callable[[Request], Response]


@pytest.fixture(params=["nowait", "threads", "s3"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    """What is served lies in a folder, or in S3."""
    kept: LocalStorage | ObjectStorage = LocalStorage(tmp_path)
    if request.param == "s3":
        kept = object_storage(request.getfixturevalue("bucket"))
    async with kept as opened:
        if isinstance(opened, LocalStorage):
            opened._nowait = opened._nowait and request.param == "nowait"
        for key, data in DATA.items():
            await put(opened, key, data)
        yield opened


async def not_found(request: Request, error: Exception) -> Response:
    return Response(status_code=404)


async def unsatisfiable(request: Request, error: Exception) -> Response:
    assert isinstance(error, Unsatisfiable)
    return Response(status_code=416, headers=error.headers)


@asynccontextmanager
async def serving(answer: Answer, http: type[Protocol] | str = Protocol) -> AsyncIterator[uvicorn.Server]:
    """A real server on a real socket."""

    async def endpoint(request: Request) -> Response:
        return answer(request)

    app = Starlette(
        routes=[Route("/", endpoint)], exception_handlers={NotFound: not_found, Unsatisfiable: unsatisfiable}
    )
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=http, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.005)
    try:
        yield server
    finally:
        server.should_exit = True
        await running


def port_of(server: uvicorn.Server) -> int:
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


def root_of(server: uvicorn.Server) -> str:
    return f"http://127.0.0.1:{port_of(server)}"


@asynccontextmanager
async def client(answer: Answer) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(answer) as server, httpx.AsyncClient(base_url=root_of(server)) as http:
        yield http


@asynccontextmanager
async def raw(
    server: uvicorn.Server, receive_buffer: int = 0
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A viewer that sent its request and has read nothing yet."""
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.setblocking(False)  # noqa: FBT003
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port_of(server)))
    reader, writer = await asyncio.open_connection(sock=connection, limit=4096)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


class Counted(LocalStorage):
    """Counts the bytes read or handed out to be sent, and fails once `fails_after` of them were."""

    total = 0
    fails_after = 1 << 60

    async def read(self, key: str, offset: int, length: int) -> memoryview:
        self._count(length)
        return await super().read(key, offset, length)

    async def slice(self, key: str, offset: int, length: int) -> Slice | None:
        found = await super().slice(key, offset, length)
        if found:
            self._count(length)
        return found

    def _count(self, length: int) -> None:
        if self.total >= self.fails_after:
            raise NotFound("gone")
        self.total += length


BIG = 200_000_000


@pytest.fixture(params=["nowait", "threads"])
async def big(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Counted]:
    """An object that no kernel buffer swallows whole; sent unread, and from a file system that cannot tell."""
    async with Counted(tmp_path) as opened:
        opened._nowait = opened._nowait and request.param == "nowait"
        await put(opened, "objects/big", b"x")
        os.truncate(tmp_path / "objects/big", BIG)
        yield opened


def video(storage: Storage, stall_s: float = 60) -> Answer:
    return lambda request: ExtentsResponse(
        storage, Extents([Extent("objects/big", 0, BIG)]), "video/mp4", stall_s=stall_s
    )


def whole(storage: Storage) -> Answer:
    return lambda request: ExtentsResponse(
        storage, EXTENTS, "video/mp4", validators=VALIDATORS, headers={"Vary": "Accept"}
    )


async def test_the_whole_answer_is_every_extent_in_order(storage: Storage) -> None:
    async with client(whole(storage)) as http:
        response = await http.get("/")
    assert response.content == WHOLE
    assert response.status_code == 200
    expected = {
        "content-type": "video/mp4",
        "content-length": str(len(WHOLE)),
        "etag": '"v1"',
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "vary": "Accept",
    }
    assert expected.items() <= dict(response.headers).items()


async def test_random_ranges_equal_the_whole_answers_bytes(storage: Storage) -> None:
    random = Random(7)
    async with client(whole(storage)) as http:
        for _ in range(60):
            start = random.randrange(len(WHOLE))
            stop = min(start + random.choice([1, 100, 70_000, 3_000_000]), len(WHOLE))
            response = await http.get("/", headers={"Range": f"bytes={start}-{stop - 1}"})
            assert response.status_code == 206
            assert response.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(WHOLE)}"
            assert response.content == WHOLE[start:stop]


async def test_a_head_tells_everything_and_reads_nothing(big: Counted) -> None:
    async with client(video(big)) as http:
        response = await http.head("/")
    assert (response.status_code, response.headers["content-length"], response.content) == (
        200,
        str(BIG),
        b"",
    )
    assert big.total == 0


async def test_a_client_that_has_it_is_sent_nothing(storage: Storage) -> None:
    async with client(whole(storage)) as http:
        response = await http.get("/", headers={"If-None-Match": '"v1"'})
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", '"v1"')
        assert response.headers["cache-control"] == "private, no-cache"


async def test_a_range_beyond_the_end_is_416(storage: Storage) -> None:
    async with client(whole(storage)) as http:
        response = await http.get("/", headers={"Range": f"bytes={len(WHOLE)}-"})
        assert (response.status_code, response.headers["content-range"]) == (416, f"bytes */{len(WHOLE)}")
        assert (await http.get("/", headers={"Range": "bytes=-1"})).content == WHOLE[-1:]


@pytest.mark.parametrize("body", [b"0123456789", b""])
async def test_bytes_in_memory_are_answered_alike(storage: Storage, body: bytes) -> None:
    async with client(lambda request: ExtentsResponse(storage, body, "image/jpeg")) as http:
        response = await http.get("/")
        assert (response.content, response.headers["content-length"]) == (body, str(len(body)))
        if body:
            assert (await http.get("/", headers={"Range": "bytes=3-4"})).content == b"34"


async def test_an_object_that_is_gone_is_told_before_the_answer_begins(storage: Storage) -> None:
    gone = Extents([Extent("objects/none", 0, 5_000_000)])
    parts = [Part("application/dicom", gone)]
    for response in (ExtentsResponse(storage, gone, "a/b"), MultipartResponse(storage, "a/b", parts)):
        async with client(lambda request, response=response: response) as http:  # type: ignore[misc]  # bound early
            assert (await http.get("/")).status_code == 404


@pytest.mark.parametrize("kind", ["single", "multipart", "chunked"])
async def test_an_object_that_vanishes_on_the_way_never_looks_complete(big: Counted, kind: str) -> None:
    """The client is told by the connection, which ends too early; the server goes on."""
    big.fails_after = 2_000_000
    body = Extents([Extent("objects/big", 0, 3_000_000)])

    def answer(request: Request) -> Response:
        part = Part("application/dicom", body)
        if kind == "single":
            return ExtentsResponse(big, body, "a/b")
        return MultipartResponse(big, "application/dicom", [part] if kind == "multipart" else one(part))

    async with client(answer) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/")
        big.fails_after = 1 << 60
        assert (await http.get("/")).status_code == 200


async def one(part: Part) -> AsyncGenerator[Part, None]:
    yield part


async def test_a_viewer_that_goes_stops_the_reading(big: Counted) -> None:
    async with serving(video(big)) as server:
        async with raw(server) as (reader, _writer):
            await reader.readexactly(500_000)
        await asyncio.sleep(0.1)
        read = big.total
        await asyncio.sleep(0.1)
        assert big.total == read < BIG / 4
        assert not server.server_state.tasks


async def test_a_stalled_viewer_is_not_read_for(big: Counted) -> None:
    async with serving(video(big)) as server, raw(server, receive_buffer=4096):
        await asyncio.sleep(0.2)
        read = big.total
        await asyncio.sleep(0.1)
        assert big.total == read < 8_000_000  # what the kernel's buffers took, and one piece


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="Linux only")
async def test_the_kernel_holds_little_for_a_stalled_viewer(big: Counted) -> None:
    """What the viewer's side took is its own; ours is bounded, whatever the buffers could grow to."""
    async with serving(video(big)) as server, raw(server, receive_buffer=4096):
        await asyncio.sleep(0.3)
        (connection,) = server.server_state.connections
        transport = connection.transport
        descriptor = transport.get_extra_info("socket").fileno()
        held = int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        assert held + transport.get_write_buffer_size() < 700_000


async def test_a_short_answer_that_is_never_taken_is_ended(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time that an idle connection has: closing would wait until it was taken, for ever."""
    body = Extents([Extent(A, 0, 250_000)] * 8)
    async with serving(lambda request: ExtentsResponse(storage, body, "a/b")) as server:
        server.config.timeout_keep_alive = 1
        async with raw(server, receive_buffer=4096):
            await asyncio.sleep(0.2)
            for connection in list(server.server_state.connections):
                connection.timeout_keep_alive_handler()  # type: ignore[union-attr]
            await asyncio.sleep(0.1)
            assert not server.server_state.connections


async def left(reader: asyncio.StreamReader) -> int:
    """How many bytes come before the connection ends."""
    got = 0
    while chunk := await reader.read(1 << 20):
        got += len(chunk)
    return got


async def test_a_stalled_viewer_is_cut(big: Counted) -> None:
    """At once, though it never takes what lies in the buffers, and it cannot take it for the whole."""
    async with (
        serving(video(big, stall_s=0.3)) as server,
        raw(server, receive_buffer=4096) as (reader, _writer),
    ):
        await asyncio.sleep(0.6)
        assert not server.server_state.connections
        assert not server.server_state.tasks
        assert await left(reader) < BIG


async def test_a_slow_viewer_is_not_cut(big: Counted) -> None:
    async with (
        serving(video(big, stall_s=1.0)) as server,
        raw(server, receive_buffer=4096) as (reader, _writer),
    ):
        for _ in range(25):
            await reader.readexactly(300_000)
            await asyncio.sleep(0.05)


async def test_a_server_without_our_protocol_still_ends_a_stalled_answer(big: Counted) -> None:
    answer = video(big, stall_s=0.2)
    async with serving(answer, "httptools") as server, raw(server, receive_buffer=4096) as (reader, _writer):
        await asyncio.sleep(0.4)
        assert await left(reader) < BIG


async def parts_of(response: httpx.Response) -> list[tuple[dict[str, str], bytes]]:
    async def source() -> AsyncIterator[bytes]:
        yield response.content

    boundary = response.headers["content-type"].partition("boundary=")[2]
    parts = Reader(source(), boundary).parts()
    return [(part.headers, b"".join([bytes(at) async for at in part.chunks])) async for part in parts]


PARTS = [
    Part("application/dicom; transfer-syntax=1.2.840.10008.1.2.1", EXTENTS, "/studies/1"),
    Part("application/dicom", Extents([Extent(B, 0, 10)])),
    Part("application/dicom", b"made"),
    Part("application/dicom", Extents([])),
]
READ = [
    (
        {
            "content-type": "application/dicom; transfer-syntax=1.2.840.10008.1.2.1",
            "content-location": "/studies/1",
        },
        WHOLE,
    ),
    ({"content-type": "application/dicom"}, DATA[B][:10]),
    ({"content-type": "application/dicom"}, b"made"),
    ({"content-type": "application/dicom"}, b""),
]


async def test_a_multipart_answer_has_every_part_and_its_length(storage: Storage) -> None:
    async with client(lambda request: MultipartResponse(storage, "application/dicom", PARTS)) as http:
        response = await http.get("/")
        head = await http.head("/")
    assert await parts_of(response) == READ
    assert response.headers["content-type"].startswith(
        'multipart/related; type="application/dicom"; boundary='
    )
    assert (
        int(head.headers["content-length"])
        == int(response.headers["content-length"])
        == len(response.content)
    )
    assert response.content.split(b"\r\n", 2)[1].startswith(b"Content-Type: application/dicom")


async def test_parts_may_come_while_they_are_found(storage: Storage) -> None:
    """A study's instances are paged from the index; then the length is not known, and the end is a last chunk."""
    closed = []

    async def found() -> AsyncGenerator[Part, None]:
        try:
            for part in PARTS:
                await asyncio.sleep(0)
                yield part
        finally:
            closed.append(True)

    def answer(request: Request) -> Response:
        return MultipartResponse(storage, "application/dicom", found())

    async with client(answer) as http:
        response = await http.get("/")
        assert await parts_of(response) == READ
        assert response.headers["transfer-encoding"] == "chunked"
        assert (await http.head("/")).status_code == 200
    assert closed == [True]


async def test_what_finds_parts_is_closed_when_the_viewer_goes(big: Counted) -> None:
    closed = asyncio.Event()

    async def found() -> AsyncGenerator[Part, None]:
        try:
            while True:
                yield Part("application/dicom", Extents([Extent("objects/big", 0, BIG)]))
        finally:
            closed.set()

    async with serving(lambda request: MultipartResponse(big, "application/dicom", found())) as server:
        async with raw(server) as (reader, _writer):
            await reader.readexactly(100_000)
        await asyncio.wait_for(closed.wait(), 5)
