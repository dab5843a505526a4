"""A way to a server that can be slow, cut or closed: faults as networks have them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Faulty:
    """Forwards to `target`, and does what it is told to what comes back.

    `cut_after`: a connection ends after so many bytes of answers, as often as `times`.
    `lose`: once a request has these bytes in its head, its answer is lost, and nothing goes through any more.
    `delay_s`: what comes back comes so late. `cut_uploads_after`: the same for what is sent.
    """

    def __init__(self, target: str, tls: ssl.SSLContext | None = None) -> None:
        self._host, self._port = urlsplit(target).hostname, urlsplit(target).port
        self._tls = tls
        self.cut_after: int | None = None
        self.cut_uploads_after: int | None = None
        self.lose: bytes | None = None
        self._lost = False
        self.times = 1 << 30
        self.delay_s = 0.0
        self.sent = bytearray()
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> str:
        port: int = self._server.sockets[0].getsockname()[1]
        return f"{'https' if self._tls else 'http'}://localhost:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._forward(reader, writer)
        except asyncio.CancelledError:
            pass  # our end; the stream's own callback would take it for a failure
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            remote_reader, remote_writer = await asyncio.open_connection(self._host, self._port)
            ways = [
                asyncio.create_task(self._pump(reader, remote_writer, self._up())),
                asyncio.create_task(self._pump(remote_reader, writer, self._down())),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                remote_writer.transport.abort()

    def _up(self) -> Callable[[bytes], bytes | None]:
        def seen(chunk: bytes) -> bytes | None:
            self.sent += chunk[:4096]
            if self._lost and not mine:
                return None
            if self.lose is not None and self.lose in chunk:
                self._lost = True
                mine.append(self._lost)
            return self._cut(chunk, self.cut_uploads_after, passed)

        passed, mine = [0], list[bool]()
        return seen

    def _down(self) -> Callable[[bytes], bytes | None]:
        passed = [0]
        return lambda chunk: None if self._lost else self._cut(chunk, self.cut_after, passed)

    def _cut(self, chunk: bytes, after: int | None, passed: list[int]) -> bytes | None:
        """What goes through; None when the connection ends here."""
        if after is None or self.times <= 0:
            return chunk
        if passed[0] >= after:
            self.times -= 1
            return None
        part = chunk[: after - passed[0]]
        passed[0] += len(part)
        return part

    async def _pump(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        judge: Callable[[bytes], bytes | None],
    ) -> None:
        with suppress(OSError):
            while chunk := await source.read(65536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                judged = judge(chunk)
                if judged is None:
                    return
                target.write(judged)
                await target.drain()
                if len(judged) < len(chunk):
                    self.times -= 1
                    return
