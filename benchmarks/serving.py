"""A server of our own for the time of a benchmark, and the memory of its processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import psutil

ROOT = Path(__file__).parents[1]
MIB = 1 << 20


@dataclass
class Server:
    """A running `reelweb serve` and where it is."""

    process: subprocess.Popen[bytes]
    address: str
    folder: Path

    @property
    def dicomweb(self) -> str:
        return f"{self.address}/dicom-web"

    def children(self) -> list[psutil.Process]:
        """All processes of the server but PostgreSQL's."""
        parent = psutil.Process(self.process.pid)
        return [parent, *(p for p in parent.children(recursive=True) if "postgres" not in p.name())]

    def postgres(self) -> list[psutil.Process]:
        """PostgreSQL's."""
        parent = psutil.Process(self.process.pid)
        return [p for p in parent.children(recursive=True) if "postgres" in p.name()]


def started(folder: Path, workers: int = 1) -> Server:
    """A server over `folder` on a free port, once it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "REELWEB_DATA_DIR": str(folder),
        "REELWEB_PORT": str(port),
        "REELWEB_WORKERS": str(workers),
        "REELWEB_LOG_LEVEL": "error",
    }
    command = [sys.executable, "-m", "app", "serve"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    server = Server(process, f"http://127.0.0.1:{port}", folder)
    _wait_until_ready(server)
    return server


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(workers: int = 1, **settings: str) -> Iterator[Server]:
    """Serve from an empty folder until the block ends."""
    with tempfile.TemporaryDirectory(prefix="reelweb-bench-", dir=ROOT.parent) as folder:
        server = started(Path(folder), workers)
        try:
            yield server
        finally:
            server.process.terminate()
            server.process.wait(30)


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{server.address}/readyz").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise TimeoutError("the server did not become ready within a minute")


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
            for process in self.server.children():
                try:
                    sizes.append(process.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            self.largest = max(self.largest, *sizes, 0)
            self.together = max(self.together, sum(sizes))
