"""Seconds until the server answers: an empty folder, a second start, after SIGKILL; beside postgres alone.

python benchmarks/start.py
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from app.embedded.cluster import running_sync
from benchmarks.serving import ROOT, Server, started


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def postgres(folder: Path) -> tuple[float, float]:
    """Seconds until PostgreSQL alone takes connections: a new cluster, an existing one."""

    def once() -> None:
        with running_sync(folder):
            took.append(time.perf_counter() - began)

    took: list[float] = []
    for _ in range(2):
        began = time.perf_counter()
        once()
    return took[0], took[1]


def measure(folder: Path) -> list[tuple[str, float]]:
    servers: list[Server] = []

    def start() -> None:
        servers.append(started(folder))

    def stop() -> None:
        servers[-1].process.send_signal(signal.SIGTERM)
        servers[-1].process.wait(30)

    rows = [("first start, with initdb and migrations", seconds(start)), ("stop", seconds(stop))]
    rows.append(("second start", seconds(start)))
    servers[-1].process.kill()
    servers[-1].process.wait(30)
    rows.append(("start after SIGKILL of the supervisor", seconds(start)))
    stop()
    return rows


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="reelweb-bench-", dir=ROOT.parent))
    try:
        rows = measure(folder / "serve")
        new, existing = postgres(folder / "postgres")
        rows += [("PostgreSQL alone, new cluster", new), ("PostgreSQL alone, existing cluster", existing)]
    finally:
        shutil.rmtree(folder)
    for name, took in rows:
        print(f"{name:44}{took:6.2f} s")


if __name__ == "__main__":
    main()
