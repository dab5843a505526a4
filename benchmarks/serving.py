"""A server of our own for the time of a benchmark; the processor time and the memory of a server's processes."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from tests import seaweed
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


@contextmanager
def serving_from(kind: str, workers: int = 1) -> Iterator[Server]:
    """The same with objects in the `folder`, or in `s3`: a SeaweedFS that ends with the block."""
    with ExitStack() as stack:
        place = {}
        if kind == "s3":
            s3 = stack.enter_context(seaweed.running())
            os.environ |= seaweed.CREDENTIALS
            place = {"storage_url": f"s3://{seaweed.BUCKET}/a", "s3_endpoint": s3.endpoint}
        yield stack.enter_context(serving(workers, **place))


def everything(pid: int) -> list[psutil.Process]:
    """A server's processes, by the pid of the first."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def is_database(process: psutil.Process) -> bool:
    """One of PostgreSQL's."""
    with suppress(psutil.NoSuchProcess):
        return "postgres" in process.name()
    return False


def cpu(processes: Sequence[psutil.Process]) -> float:
    """Seconds spent by those that still run."""
    spent = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            spent += sum(process.cpu_times()[:2])
    return spent


@dataclass
class Memory:
    """Resident memory of a server's processes but PostgreSQL's, sampled at 10 Hz while the block lasts; bytes."""

    pid: int
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
            for process in everything(self.pid):
                with suppress(psutil.NoSuchProcess):
                    if not is_database(process):
                        sizes.append(process.memory_info().rss)
            self.largest = max(self.largest, *sizes, 0)
            self.together = max(self.together, sum(sizes))
