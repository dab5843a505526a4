"""A 4 GiB video instance is stored and fetched: seconds beside dd and cat, memory of the server's processes.

python benchmarks/large_instance.py [FILE.dcm]      # makes a file of REELWEB_BENCH_BYTES (4.3e9) without one
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.serving import MIB, Memory, serving
from tests import make_video
from tests.serving import Server

BLOCK = 1 * MIB
DEFAULT_BYTES = 4_300_000_000


def blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def digest(parts: Iterator[bytes]) -> tuple[str, int]:
    sha, size = hashlib.sha256(), 0
    for part in parts:
        sha.update(part)
        size += len(part)
    return sha.hexdigest(), size


def store(server: Server, path: Path) -> str:
    """The instance's URL, once it is stored."""
    headers = {"Content-Type": "application/dicom", "Content-Length": str(path.stat().st_size)}
    answer = httpx.post(f"{server.url}/dicom-web/studies", content=blocks(path), headers=headers, timeout=600)
    answer.raise_for_status()
    url: str = answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    return url


def fetch(url: str) -> tuple[str, int]:
    with httpx.stream("GET", url, headers={"Accept": "application/dicom"}, timeout=600) as answer:
        answer.raise_for_status()
        return digest(answer.iter_bytes(BLOCK))


def seconds_of_dd(path: Path, folder: Path) -> float:
    """What the disk itself needs for such a file."""
    copy = folder / "copy"
    started = time.perf_counter()
    command = ["dd", f"if={path}", f"of={copy}", "bs=1M", "conv=fdatasync", "status=none"]
    subprocess.run(command, check=True)
    took = time.perf_counter() - started
    copy.unlink()
    return took


def measure(path: Path) -> None:
    size = path.stat().st_size
    sent, _ = digest(blocks(path))
    with serving() as server:
        dd = seconds_of_dd(path, server.data_dir)
        with Memory(server.process.pid) as storing:
            started = time.perf_counter()
            url = store(server, path)
            stored = time.perf_counter() - started
        with Memory(server.process.pid) as fetching:
            started = time.perf_counter()
            received, length = fetch(url)
            fetched = time.perf_counter() - started
    assert (received, length) == (sent, size), "the instance came back changed"
    print(f"instance                    {size / MIB:10.0f} MiB, came back identical by SHA-256")
    print(f"dd conv=fdatasync           {dd:10.1f} s   {size / dd / 1e6:8.0f} MB/s")
    print(
        f"store (client and server)   {stored:10.1f} s   {size / stored / 1e6:8.0f} MB/s   {dd / stored:.2f} x dd"
    )
    print(f"fetch and SHA-256           {fetched:10.1f} s   {size / fetched / 1e6:8.0f} MB/s")
    for name, memory in (("storing", storing), ("fetching", fetching)):
        largest, together = memory.largest / MIB, memory.together / MIB
        print(
            f"memory while {name:10}     largest process {largest:6.0f} MiB, all but PostgreSQL {together:6.0f} MiB"
        )


def main() -> None:
    if len(sys.argv) > 1:
        measure(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory(prefix="reelweb-large-", dir=Path(__file__).parents[2]) as folder:
        path = Path(folder) / "large.dcm"
        make_video.large(path, int(os.environ.get("REELWEB_BENCH_BYTES", DEFAULT_BYTES)))
        measure(path)


if __name__ == "__main__":
    main()
