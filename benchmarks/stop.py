"""A stop in the midst of thousands of viewers, some of whom read nothing: when nobody is let in, when all has ended.

python benchmarks/stop.py [VIEWERS...]        # without numbers: 2000; every tenth is stalled; they have 5 s to end
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.ranges import stored, with_video
from benchmarks.serving import serving
from tests.serving import ROOT, Server, until

ARRIVE_S, BOUND_S = 20, 5


def is_refused(server: Server) -> bool:
    return not server.answers()


def run(numbers: list[int], _folder: Path, video: Path) -> None:
    for viewers in numbers:
        with serving(2, shutdown_timeout_s=str(BOUND_S)) as server:
            url = stored(server, video)
            length = httpx.head(url, headers={"Accept": "video/mp4"}).headers["content-length"]
            kinds = (viewers - viewers // 10, viewers // 10, 0)
            words = map(str, (url, length, *kinds, ARRIVE_S, 600))
            with subprocess.Popen([sys.executable, str(ROOT / "benchmarks/viewer_load.py"), *words]) as load:
                time.sleep(ARRIVE_S + 5)
                server.process.send_signal(signal.SIGTERM)
                began = time.perf_counter()
                until(partial(is_refused, server))
                refused = time.perf_counter() - began
                status = server.wait()
                over = time.perf_counter() - began
                load.kill()
            print(
                f"{kinds[0]:6d} moving {kinds[1]:5d} stalled   nobody let in after {refused:5.2f} s   ended after {over:5.2f} s"
                f" (bound {BOUND_S} s)   status {status}   left {len(server.left_behind())}   tracebacks {server.told.count('Traceback')}",
                flush=True,
            )


def main() -> None:
    with_video(partial(run, [int(word) for word in sys.argv[1:]] or [2000]))


if __name__ == "__main__":
    main()
