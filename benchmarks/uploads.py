"""Sixteen uploads of 1 GiB at once, into a folder and into S3: the largest process, and the time.

python benchmarks/uploads.py [folder] [s3]      # REELWEB_BENCH_BYTES: another size of each
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.large_instance import blocks
from benchmarks.ranges import within
from benchmarks.serving import MIB, Memory, serving_from
from tests import make_video
from tests.serving import Server

UPLOADS = 16
BYTES = int(os.environ.get("REELWEB_BENCH_BYTES", str(1 << 30)))


def store(server: Server, path: Path, number: int) -> None:
    """Half of them tell their length, half do not."""
    headers = {"Content-Type": "application/dicom"}
    if number % 2:
        headers["Content-Length"] = str(path.stat().st_size)
    answer = httpx.post(
        f"{server.url}/dicom-web/studies", content=blocks(path), headers=headers, timeout=3600
    )
    answer.raise_for_status()


def measure(kind: str, folder: Path) -> None:
    path = folder / "large.dcm"
    make_video.large(path, BYTES)  # one instance for all: the first is stored, the others are the same again
    with serving_from(kind) as server:
        began = time.perf_counter()
        with Memory(server.process.pid) as memory, ThreadPoolExecutor(UPLOADS) as pool:
            list(pool.map(partial(store, server, path), range(UPLOADS)))
        took, size = time.perf_counter() - began, path.stat().st_size
        print(
            f"{kind:8} {UPLOADS} x {size / MIB:5.0f} MiB in {took:6.1f} s  {UPLOADS * size / took / 1e6:6.0f} MB/s"
            f"   largest process {memory.largest / MIB:5.0f} MiB",
            flush=True,
        )


def main() -> None:
    for kind in sys.argv[1:] or ["folder", "s3"]:
        within(partial(measure, kind))


if __name__ == "__main__":
    main()
