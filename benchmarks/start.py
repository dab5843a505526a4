"""Seconds until the server answers: an empty folder, a second start, after SIGKILL; beside postgres alone.

python benchmarks/start.py
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).parents[1]))
from app.embedded.cluster import running_sync
from benchmarks.serving import folder
from tests.serving import Server


def postgres(path: Path) -> tuple[float, float]:
    """Seconds until PostgreSQL alone takes connections: a new cluster, an existing one."""
    took: list[float] = []
    for _ in range(2):
        began = time.perf_counter()
        with running_sync(path):
            took.append(time.perf_counter() - began)
    return took[0], took[1]


def measure(path: Path) -> list[tuple[str, float]]:
    """Seconds of each step of a server's life over one folder."""
    rows: list[tuple[str, float]] = []

    def step(name: str, work: Callable[[], Server | int]) -> Server | int:
        began = time.perf_counter()
        result = work()
        rows.append((name, time.perf_counter() - began))
        return result

    def start() -> Server:
        return Server(path, log_level="error").until_ready()

    server = cast("Server", step("first start, with initdb and migrations", start))
    step("stop", partial(server.tell, signal.SIGTERM))
    server = cast("Server", step("second start", start))
    server.tell(signal.SIGKILL)
    server = cast("Server", step("start after SIGKILL of the supervisor", start))
    server.close()
    return rows


def main() -> None:
    with folder() as path:
        rows = measure(path / "serve")
        new, existing = postgres(path / "postgres")
    rows += [("PostgreSQL alone, new cluster", new), ("PostgreSQL alone, existing cluster", existing)]
    for name, took in rows:
        print(f"{name:44}{took:6.2f} s")


if __name__ == "__main__":
    main()
