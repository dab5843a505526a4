"""What the kernel sends of a file is what the file has, whoever reads it how; nothing of it looks complete when it is not."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
import uvicorn
import uvloop
from starlette.types import Message, Receive, Scope, Send

from app.web.connection import Protocol
from app.web.sendfile import EXTENSION

DATA = os.urandom(9_000_000)
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sendfile") / "data"
    path.write_bytes(DATA)
    return path


class Files:
    """Answers `/start/stop` with that part of a file; `how` it does so is the query."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failed: list[type[BaseException]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert EXTENSION in scope["extensions"]
        start, stop = map(int, scope["path"].strip("/").split("/"))
        how = scope["query_string"].decode()
        length = [] if how == "chunked" else [(b"content-length", str(stop - start).encode())]
        try:
            with self.path.open("rb") as file:
                await send({"type": "http.response.start", "status": 200, "headers": length})
                for message in self.messages(file, start, stop, how):
                    await send(message)
        except Exception as error:
            self.failed.append(type(error))
            raise

    @staticmethod
    def messages(file: Any, start: int, stop: int, how: str) -> list[Message]:
        def part(begin: int, end: int, *, more: bool) -> Message:
            return {
                "type": EXTENSION,
                "file": file,
                "offset": begin,
                "count": end - begin,
                "more_body": more,
            }

        if how == "untold":
            file.seek(start)
            return [{"type": EXTENSION, "file": file}]
        if how in {"mixed", "chunked"}:
            middle = (start + stop) // 2
            last = {"type": "http.response.body", "body": DATA[stop - 1 : stop], "more_body": False}
            body = {"type": "http.response.body", "body": DATA[middle : middle + 3], "more_body": True}
            return [part(start, middle, more=True), body, part(middle + 3, stop - 1, more=True), last]
        return [part(start, stop, more=False)]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """The event loops that a server of ours may run on."""
    loop: Run = request.param
    return loop


@contextmanager
def serving(app: Any, run: Run, **config: Any) -> Iterator[uvicorn.Server]:
    listening = socket.socket(fileno=socket.create_server(("127.0.0.1", 0)).detach())
    server = _Server(uvicorn.Config(app, http=Protocol, lifespan="off", log_config=None, **config))
    thread = threading.Thread(target=run, args=(server.serve(sockets=[listening]),))
    thread.start()
    while not server.started:
        time.sleep(0.005)
    server.address = listening.getsockname()
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


class _Server(uvicorn.Server):
    address: tuple[str, int]

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def client(server: Any, buffer: int = 0) -> Iterator[socket.socket]:
    with socket.socket() as made:
        if buffer:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        made.settimeout(20)
        made.connect(server.address)
        yield made


def request(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def answer(made: socket.socket, method: str = "GET") -> tuple[int, bytes]:
    response = http.client.HTTPResponse(made, method=method)
    response.begin()
    return response.status, response.read()


def left(made: socket.socket) -> int:
    """How many bytes come before the connection ends."""
    got = 0
    with suppress(ConnectionError):
        while chunk := made.recv(1 << 20):
            got += len(chunk)
    return got


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("how", ["", "mixed", "chunked"])
def test_any_part_of_a_file_is_sent_as_it_is(file: Path, run: Run, how: str) -> None:
    """Many on one connection, in any order."""
    random = Random(how)
    with serving(Files(file), run) as server, client(server) as made:
        for _ in range(30):
            start = random.randrange(len(DATA) - 10)
            stop = min(start + random.choice((10, 5000, 70_000, 1_500_000, 9_000_000)), len(DATA))
            made.sendall(request(f"/{start}/{stop}?{how}"))
            assert answer(made) == (200, DATA[start:stop])


def test_untold_a_file_is_sent_from_its_position_to_its_end(file: Path, run: Run) -> None:
    with serving(Files(file), run) as server, client(server) as made:
        for start in (0, 5, len(DATA) - 1):
            made.sendall(request(f"/{start}/{len(DATA)}?untold"))
            assert answer(made) == (200, DATA[start:])


def test_requests_sent_ahead_are_answered_in_turn(file: Path, run: Run) -> None:
    """Files, and heads among them, though nobody waits for an answer before asking again."""
    wanted = [(at * 1000, at * 1000 + length) for at, length in enumerate((1, 300_000, 7, 2_000_000, 40_000))]
    with serving(Files(file), run) as server, client(server) as made:
        made.sendall(b"".join(request(f"/{a}/{b}") + request(f"/{a}/{b}", "HEAD") for a, b in wanted))
        stream = made.makefile("rb")
        for start, stop in wanted:
            assert _head(stream) == stop - start
            assert stream.read(stop - start) == DATA[start:stop]
            assert _head(stream) == stop - start


def _head(stream: Any) -> int:
    lines = list(iter(stream.readline, b"\r\n"))
    assert lines[0] == b"HTTP/1.1 200 OK\r\n"
    (length,) = [line for line in lines if line.startswith(b"content-length:")]
    return int(length.partition(b":")[2])


def test_a_connection_that_shall_close_is_closed_after_the_last_byte(file: Path, run: Run) -> None:
    with serving(Files(file), run) as server, client(server, buffer=4096) as made:
        made.sendall(b"GET /0/3000000 HTTP/1.0\r\n\r\n")
        got = b""
        while chunk := made.recv(1 << 16):
            got += chunk
        assert got.partition(b"\r\n\r\n")[2] == DATA[:3_000_000]


def test_a_slow_client_gets_every_byte(file: Path, run: Run) -> None:
    with serving(Files(file), run) as server, client(server, buffer=4096) as made:
        made.sendall(request("/0/3000000"))
        got = b""
        while len(got) < 3_000_000:
            got += made.recv(100_000)
            if len(got) % 7 == 0:
                time.sleep(0.01)
        assert got.partition(b"\r\n\r\n")[2] == DATA[: len(got) - got.index(b"\r\n\r\n") - 4]


@pytest.mark.parametrize("reads", [0, 1_000_000], ids=["at once", "on the way"])
def test_a_client_that_goes_ends_its_answer(file: Path, run: Run, reads: int) -> None:
    app = Files(file)
    with serving(app, run) as server:
        with client(server, buffer=4096) as made:
            made.sendall(request(f"/0/{len(DATA)}"))
            while reads > 0:
                reads -= len(made.recv(100_000))
        until(lambda: len(app.failed) == 1)
        assert issubclass(app.failed[0], OSError)
        until(lambda: not server.server_state.tasks and not server.server_state.connections)
        with client(server) as made:
            made.sendall(request("/5/10"))
            assert answer(made) == (200, DATA[5:10])


def test_a_client_that_went_before_the_answer_is_gone_and_no_error_of_ours(file: Path, run: Run) -> None:
    app = Files(file)

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await app(scope, receive, send)

    with serving(late, run) as server:
        with client(server) as made:
            made.sendall(request("/5/10"))
        until(lambda: bool(app.failed))
        assert issubclass(app.failed[0], ConnectionError)


@pytest.mark.parametrize("left", [0, 100_000, 4_000_000])
def test_a_file_that_is_shorter_than_told_never_looks_complete(tmp_path: Path, run: Run, left: int) -> None:
    (tmp_path / "short").write_bytes(DATA[:left])
    with serving(Files(tmp_path / "short"), run) as server:
        for how in ("", "chunked"):
            with client(server) as made:
                made.sendall(request(f"/0/5000000?{how}"))
                with pytest.raises((http.client.HTTPException, ConnectionError)):
                    answer(made)
        until(lambda: not server.server_state.tasks and not server.server_state.connections)


def test_a_file_that_is_cut_while_it_is_sent_ends_the_connection(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "cut"
    path.touch()
    os.truncate(path, 200_000_000)
    with serving(Files(path), run) as server, client(server, buffer=4096) as made:
        made.sendall(request("/0/200000000"))
        made.recv(10)
        os.truncate(path, 1_000_000)
        assert left(made) < 200_000_000
        until(lambda: not server.server_state.tasks)


def test_a_fast_client_leaves_room_for_others(tmp_path: Path, run: Run) -> None:
    """One that takes a file as fast as it can be sent does not stop the loop for as long."""
    path = tmp_path / "long"
    path.touch()
    os.truncate(path, 1 << 40)
    with serving(Files(path), run) as server, client(server) as fast:
        fast.sendall(request(f"/0/{1 << 40}"))
        ends = threading.Event()

        def read() -> None:
            while not ends.is_set():
                fast.recv(1 << 20)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for _ in range(5):
                with client(server) as made:
                    made.sendall(request("/5/10"))
                    assert answer(made) == (200, bytes(5))
        finally:
            ends.set()
            reader.join(20)


def test_who_is_cancelled_leaves_nothing_open(file: Path, run: Run) -> None:
    """As at a stop: what a stalled client has not taken is not waited for."""
    with (
        serving(Files(file), run, timeout_graceful_shutdown=0) as server,
        client(server, buffer=4096) as made,
    ):
        made.sendall(request(f"/0/{len(DATA)}"))
        until(lambda: bool(server.server_state.tasks))
        server.should_exit = True
        until(lambda: not server.server_state.tasks)
        assert left(made) < len(DATA)


def test_under_tls_nobody_is_offered_what_would_bypass_it(run: Run) -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(EXTENSION in scope["extensions"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    folder = Path(__file__).parents[1] / "storage/tls"
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    pem = str(folder / "server.pem")
    with (
        serving(app, run, ssl_certfile=pem, ssl_keyfile=pem) as server,
        client(server) as made,
        context.wrap_socket(made, server_hostname="localhost") as secured,
    ):
        secured.sendall(request("/"))
        assert answer(secured)[0] == 204
    assert seen == [False]
