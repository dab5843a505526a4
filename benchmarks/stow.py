"""STOW-RS beside another DICOMweb server, in turn: instances a second, processor time, memory; one Markdown table.

python benchmarks/stow.py [folder] [s3] [large] [callbacks] [--workers 1] [--peer NAME URL PID] [--turns 3] [--seconds 3]

CT instances of half a mebibyte in requests of 1, 10 and 100 at 1, 4 and 16 connections into a folder and into S3,
and one `large` instance of REELWEB_BENCH_BYTES (1 GiB) beside dd. The peer is whatever answers below URL,
http://127.0.0.1:8042/dicom-web say, with its processes below PID; it keeps what it was sent. PostgreSQL's processor
time is told apart after a +, its memory is not counted; nor is SeaweedFS, which is the S3. `callbacks` tells how
long our event loop was held at most, in processor time of its thread, under the fullest of these loads.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from itertools import product
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import stow_load
from benchmarks.large_instance import seconds_of_dd
from benchmarks.serving import MIB, Memory, cpu, everything, folder, is_database, serving_from
from tests.serving import ROOT, Server

PER_REQUEST, CONNECTIONS = (1, 10, 100), (1, 4, 16)
LARGE = int(os.environ.get("REELWEB_BENCH_BYTES", str(1 << 30)))
HEAD = ("instances", "a second", "CPU ms each", "largest process, all, MiB")


@dataclass(frozen=True, slots=True)
class Side:
    """A server under load."""

    name: str
    url: str
    pid: int


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side did in one turn; bytes, and seconds of processors."""

    instances: int
    seconds: float
    cpu: float
    database: float
    sender: float
    largest: int
    together: int

    @property
    def rate(self) -> float:
        return self.instances / self.seconds


@dataclass(frozen=True, slots=True)
class Figures:
    """The medians of a side's turns, and its largest processes."""

    turns: Sequence[Turn]

    @property
    def rate(self) -> float:
        return median(turn.rate for turn in self.turns)

    @property
    def cells(self) -> tuple[str, str, str]:
        """Of one instance: how many a second, milliseconds of processors, memory."""
        cpu_ms = median(turn.cpu / turn.instances for turn in self.turns) * 1e3
        database_ms = median(turn.database / turn.instances for turn in self.turns) * 1e3
        memory = max(turn.largest for turn in self.turns), max(turn.together for turn in self.turns)
        return (
            f"{self.rate:.0f}" if self.rate >= 10 else f"{self.rate:.3f}",
            f"{cpu_ms:.1f}{f' + {database_ms:.1f}' if database_ms else ''}",
            f"{memory[0] / MIB:.0f}, {memory[1] / MIB:.0f}",
        )


def spent(side: Side) -> tuple[float, float]:
    """Seconds of processors of the server and of its PostgreSQL, of all that run now."""
    family = everything(side.pid)
    return cpu([one for one in family if not is_database(one)]), cpu(list(filter(is_database, family)))


def watched(side: Side, send: partial[tuple[int, float, float]]) -> Turn:
    """One turn: `send` tells how many instances it stored, in how many seconds, with how much of a processor."""
    time.sleep(0.5)  # what the turn before has left to do
    before = spent(side)
    with Memory(side.pid) as memory:
        instances, seconds, sender = send()
    server, database = (after - at for after, at in zip(spent(side), before, strict=True))
    return Turn(instances, seconds, server, database, sender, memory.largest, memory.together)


def small(url: str, per_request: int, connections: int, seconds: float) -> tuple[int, float, float]:
    """Many instances, from a process of its own."""
    load = [sys.executable, ROOT / "benchmarks/stow_load.py", url, per_request, connections, seconds]
    told = subprocess.run([str(word) for word in load], check=True, capture_output=True, text=True)
    stored, took, spent = told.stdout.split()
    return int(stored), float(took), float(spent)


def large(url: str, instance: stow_load.Large) -> tuple[int, float, float]:
    """One large instance, sent by the kernel."""
    instance.rename()
    address, opening, closing = urlsplit(url), stow_load.OPENING, stow_load.CLOSING
    http = HTTPConnection(address.hostname or "", address.port or 80, timeout=3600)
    length = len(opening) + instance.size + len(closing)
    began, spent = time.perf_counter(), time.process_time()
    http.request(
        "POST", f"{address.path}/studies", headers=stow_load.HEADERS | {"Content-Length": str(length)}
    )
    with instance.path.open("rb") as file:
        http.send(opening)
        http.sock.sendfile(file)
        http.send(closing)
    answer = http.getresponse()
    told = answer.read()
    http.close()
    assert answer.status == 200, told[:500]
    return 1, time.perf_counter() - began, time.process_time() - spent


def row(name: str, sides: Sequence[Side], turns: Sequence[Figures]) -> None:
    cells = [cell for figures in turns for cell in figures.cells]
    sender = median(turn.sender / turn.instances for figures in turns for turn in figures.turns) * 1e3
    ratio = [f"{turns[0].rate / theirs.rate:.1f} x" for theirs in turns[1:]]
    print(f"| {' | '.join([name, *cells, *ratio, f'{sender:.2f}'])} |", flush=True)


def compare(
    name: str, sides: Sequence[Side], sends: Sequence[partial[tuple[int, float, float]]], turns: int
) -> None:
    """Whose turn it is alternates."""
    done: list[list[Turn]] = [[] for _ in sides]
    for _ in range(turns):
        for side, send, figures in zip(sides, sends, done, strict=True):
            figures.append(watched(side, send))
    row(name, sides, [Figures(figures) for figures in done])


def many(kind: str, server: Server, peer: Sequence[Side], turns: int, seconds: float) -> None:
    sides = [ours(server), *peer]
    for per_request, connections in product(PER_REQUEST, CONNECTIONS):
        sends = [partial(small, side.url, per_request, connections, seconds) for side in sides]
        compare(f"{kind}, {per_request} a request, {connections} connection(s)", sides, sends, turns)


def one(server: Server, peer: Sequence[Side], turns: int) -> None:
    """In the folder, beside dd."""
    sides = [ours(server), *peer]
    with folder() as path:
        instance = stow_load.Large(path / "large.dcm", LARGE)
        dd = median(seconds_of_dd(instance.path, path) for _ in range(turns))
        sends = [partial(large, side.url, instance) for side in sides]
        compare(f"folder, one of {instance.size / MIB:.0f} MiB (dd: {1 / dd:.3f})", sides, sends, turns)


def callbacks(folder: Path, seconds: float) -> None:
    """The longest ones of the event loop: many small instances, then a large one."""
    told = folder / "callbacks"
    os.environ |= {"CALLBACKS": str(told), "PYTHONPATH": str(ROOT / "benchmarks/callbacks")}
    with serving_from("folder") as server:
        url = ours(server).url
        small(url, PER_REQUEST[1], CONNECTIONS[-1], seconds)
        large(url, stow_load.Large(folder / "large.dcm", LARGE))
        small(url, 1, 1, 1)  # the file is written now and then
    print("\nheld the event loop longest:", *told.read_text("utf-8").splitlines(), sep="\n", flush=True)
    del os.environ["CALLBACKS"], os.environ["PYTHONPATH"]


def ours(server: Server) -> Side:
    return Side("reelweb", f"{server.url}/dicom-web", server.process.pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="folder | s3 | large | callbacks")
    parser.add_argument("--peer", nargs=3, metavar=("NAME", "URL", "PID"))
    parser.add_argument(
        "--workers", type=int, default=1, help="web processes of ours; a peer has all processors"
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    told = parser.parse_args()
    kinds = told.kinds or ["folder", "s3", "large", "callbacks"]
    peer = [Side(told.peer[0], told.peer[1].rstrip("/"), int(told.peer[2]))] if told.peer else []
    names = [f"{name}: {what}" for name in ["reelweb", *(side.name for side in peer)] for what in HEAD[1:]]
    names = ["", *names, *["ratio" for _ in peer], "sender: CPU ms each"]
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}", flush=True)
    for kind in kinds:
        if kind == "callbacks":
            with folder() as path:
                callbacks(path, 4 * told.seconds)
        elif kind == "large":
            with serving_from("folder") as server:
                one(server, peer, told.turns)
        else:
            with serving_from(kind, told.workers) as server:
                many(kind, server, peer if kind == "folder" else [], told.turns, told.seconds)


if __name__ == "__main__":
    main()
