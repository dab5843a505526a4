"""A server of our own for the time of a benchmark, and the memory of its processes."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from tests import serving as processes
from tests.serving import ROOT, Server

MIB = 1 << 20


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder on the disk of the checkout; temporary folders may be memory."""
    with tempfile.TemporaryDirectory(prefix="reelweb-bench-", dir=ROOT.parent) as path:
        yield Path(path)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(workers: int = 1, **settings: str) -> Iterator[Server]:
    """Serve from an empty folder until the block ends."""
    told = {"workers": str(workers), "log_level": "error"} | settings
    with folder() as path, processes.serving(path, cwd=None, prefix=(), arguments=(), **told) as server:
        yield server


def children(server: Server) -> list[psutil.Process]:
    """All processes of the server but PostgreSQL's."""
    return [process for process in everything(server) if "postgres" not in process.name()]


def everything(server: Server) -> list[psutil.Process]:
    """All processes of the server."""
    parent = psutil.Process(server.process.pid)
    return [parent, *parent.children(recursive=True)]


@dataclass
class Memory:
    """Resident memory of a server's processes, sampled at 10 Hz while the block lasts; bytes."""

    server: Server
    largest: int = 0
    together: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(0.1):
            sizes = []
            for process in children(self.server):
                try:
                    sizes.append(process.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            self.largest = max(self.largest, *sizes, 0)
            self.together = max(self.together, sum(sizes))
