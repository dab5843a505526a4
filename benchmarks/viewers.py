"""Thousands of viewers at 256 kb/s from random positions of a virtual MP4, some of whom stop reading.

Start times, stalls, CPU, and user memory (USS) of the web processes a viewer.
python benchmarks/viewers.py [VIEWERS...]        # without numbers: 2000 5000 10000
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.ranges import stored, with_video
from benchmarks.serving import cpu, everything, serving
from tests.serving import ROOT, Server

ARRIVE_S, WATCH_S, STALLED, WORKERS = 30, 20, 1000, 2
Viewers = tuple[int, int, int]  # moving, never reading, reading a mebibyte and no more


def web(server: Server) -> list[psutil.Process]:
    return [process for process in everything(server.process.pid) if "web-worker" in process.cmdline()]


def memory(processes: list[psutil.Process]) -> int:
    return sum(int(process.memory_full_info().uss) for process in processes)


def load(url: str, length: int, viewers: Viewers, arrive_s: int, watch_s: int) -> dict[str, Any]:
    words = (url, length, *viewers, arrive_s, watch_s)
    program = [sys.executable, str(ROOT / "benchmarks/viewer_load.py"), *map(str, words)]
    done = subprocess.run(program, check=True, capture_output=True, text=True, timeout=300)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def measured(server: Server, url: str, length: int, viewers: Viewers) -> None:
    processes = web(server)
    before, began = memory(processes), time.perf_counter()
    peak, over = [before], threading.Event()

    def sample() -> None:
        while not over.wait(1):
            peak[0] = max(peak[0], memory(processes))

    watching = threading.Thread(target=sample)
    watching.start()
    spent = cpu(processes)
    told = load(url, length, viewers, ARRIVE_S, WATCH_S)
    took = time.perf_counter() - began
    over.set()
    watching.join()
    each = (peak[0] - before) / sum(viewers) / 1024
    print(
        f"{viewers[0]:6d} moving {viewers[1]:5d} never read {viewers[2]:5d} stopped   started {told['started']:6d}  lost {told['lost']:4d}"
        f"  stalled {told['stalled']:4d}   start p50 {told['p50'] or 0:.3f} p99 {told['p99'] or 0:.3f} max {told['max'] or 0:.3f} s"
        f"   {told['sent'] / 1e6 / took:5.0f} MB/s  server CPU {100 * (cpu(processes) - spent) / took:4.0f} %"
        f"  client {100 * told['client_cpu']:3.0f} %   {each:6.1f} KiB each",
        flush=True,
    )


def run(viewers: list[int], _folder: Path, video: Path) -> None:
    rounds = [(number, 0, 0) for number in viewers]
    rounds += [(0, STALLED, 0), (0, 0, STALLED), (viewers[0], STALLED // 2, STALLED // 2)]
    for moving, fresh, drained in rounds:  # each on a server of its own: freed memory is kept by malloc
        with serving(WORKERS) as server:
            url = stored(server, video)
            length = int(httpx.head(url, headers={"Accept": "video/mp4"}).headers["content-length"])
            load(url, length, (50, 0, 0), 1, 1)  # what is made once is there
            measured(server, url, length, (moving, fresh, drained))


def main() -> None:
    with_video(partial(run, [int(word) for word in sys.argv[1:]] or [2000, 5000, 10_000]))


if __name__ == "__main__":
    main()
