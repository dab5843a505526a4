"""The application as it ships, on a real socket, in a thread of the test's process; jobs run beside it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from app import jobs, wiring
from app.settings import Settings
from app.web import connection


@contextmanager
def running(settings: Settings) -> Iterator[str]:
    """Serve with these settings while the block lasts; gives the server's address."""
    ready, ends = threading.Event(), list[Callable[[], object]]()
    # By its number, as a web worker gets it: so it knows its protocol, and asyncio turns off Nagle's delay.
    listening = socket.socket(fileno=socket.create_server(("127.0.0.1", 0)).detach())
    port: int = listening.getsockname()[1]
    thread = threading.Thread(target=lambda: asyncio.run(_serve(settings, listening, ready, ends)))
    thread.start()
    try:
        assert ready.wait(30), "the server did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        for end in ends:
            end()
        thread.join(30)
        assert not thread.is_alive(), "the server did not stop"


async def _serve(
    settings: Settings, listening: socket.socket, ready: threading.Event, ends: list[Callable[[], object]]
) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    config = uvicorn.Config(
        wiring.web(settings),
        http=connection.Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    server = _Server(config)

    def end() -> None:
        server.should_exit = True
        stop.set()

    ends.append(lambda: loop.call_soon_threadsafe(end))
    async with wiring.tools(settings) as opened, asyncio.TaskGroup() as group:
        group.create_task(jobs.run(opened, stop=stop))
        serving = group.create_task(server.serve(sockets=[listening]))
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn tells by a flag
            await asyncio.sleep(0.01)
        ready.set()


class _Server(uvicorn.Server):
    """uvicorn without signal handlers, which only a main thread may set."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
