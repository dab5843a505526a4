"""Videos as viewers meet them: the time to the first byte, the bytes before the first picture, copies, ranges.

python benchmarks/video.py [bytes] [start] [copy] [ranges] [URL...]    # without words: all of ours
A URL is a video on another server: its first byte, whole and in ranges, beside ours. REELWEB_BENCH_SIZES: MB, "10 1000 8000".
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import nginx
from benchmarks.paced import paced
from benchmarks.ranges import Figures, copied, line, stored, turn
from benchmarks.serving import MIB, everything, folder, serving
from tests import browser, make_video
from tests.make_video import Clip, Container
from tests.serving import Server

RATE = 1e6  # bytes a second of a viewer's line
SIZES_MB = os.environ.get("REELWEB_BENCH_SIZES", "10 100 1000 8000")
ASKED = 40
LONG = Clip(sound="aac", width=640, height=480, kilobits=1000, gop=48)
LARGE = Clip(sound="aac", width=1280, height=720, kilobits=20_000)
HEADERS, DICOM = {"Accept": "video/mp4"}, {"Content-Type": "application/dicom"}
COPIED_BYTES, SETTLED_S = 600 * MIB, 15
SECONDS = {"40 s": 40, "2 h": 7200}


def first_bytes(url: str) -> list[float]:
    """Seconds from asking to the first byte, on one connection; at the beginning, the middle and the end in turn."""
    took = list[float]()
    with httpx.Client(headers=HEADERS, timeout=60) as client:
        length = int(client.head(url).headers["content-length"])
        for number in range(ASKED):
            start = (length - 1) * (number % 3) // 2
            began = time.perf_counter()
            with client.stream("GET", url, headers={"Range": f"bytes={start}-{start + 65535}"}) as answer:
                pieces = answer.iter_raw()
                next(pieces)
                took.append(time.perf_counter() - began)
                sum(map(len, pieces))
    return took


def until_first_byte(path: Path) -> None:
    """At each size, from ten megabytes on."""
    for megabytes in map(int, SIZES_MB.split()):
        source = path / "large.dcm"
        made = make_video.large(source, megabytes * 1_000_000)
        made.stream.unlink()
        source.with_suffix(".unit").unlink()
        with serving() as server:
            url = stored(server, source)
            source.unlink()
            took = [1000 * one for one in first_bytes(url)]
        quartiles = statistics.quantiles(took, n=20)
        print(
            f"first byte   {megabytes:6d} MB   median {statistics.median(took):5.1f} ms   p95 {quartiles[-1]:5.1f} ms",
            flush=True,
        )


async def shown(port: int, path: str, jumps: tuple[float, ...] = (0.5, 0.9, 0.1)) -> str:
    """What Chromium takes before the first picture and after jumps, on a line of a megabyte a second."""
    async with (
        paced(port, RATE) as way,
        browser.chromium() as chromium,
        browser.player(chromium, way.origin, way.origin + path, 300) as player,
    ):
        state = await player.play()
        words = [
            f"{way.sent / 1e6:6.3f} MB before the first picture, duration {state['duration']:.2f} s, jumps:"
        ]
        for jump in jumps:
            before, began = way.sent, time.perf_counter()
            state = await player.seek(jump)
            took = time.perf_counter() - began
            words.append(f"{(way.sent - before) / 1e6:.2f} MB {took:.1f} s")
        return " ".join([state["error"] or "", *words])


def until_first_picture(path: Path) -> None:
    """Of a short and of a long video."""
    for name, seconds in SECONDS.items():
        made = make_video.instance(
            path / "video.dcm", LONG, times=round(seconds / float(make_video.SECONDS)), fragment_size=1 << 30
        )
        with serving(allowed_hosts="127.0.0.1") as server:
            url = urlsplit(stored(server, made.path))
            print(f"start        {name:6} {asyncio.run(shown(url.port or 80, url.path))}", flush=True)


def copies(path: Path) -> None:
    """A transport stream's packets into an MP4, at store time; the processes of the jobs and all that they start."""
    clip = replace(LARGE, gop=48)
    unit = make_video.stream(path / "unit", clip, "ts").stat().st_size
    times = COPIED_BYTES // unit
    made = make_video.instance(path / "copied.dcm", clip, "ts", times=times, fragment_size=1 << 30)
    with serving() as server:
        jobs = next(one for one in everything(server.process.pid) if "jobs" in one.cmdline())
        with made.path.open("rb") as file:
            answer = httpx.post(f"{server.url}/dicom-web/studies", content=file, headers=DICOM, timeout=300)
        began, before = time.perf_counter(), sum(jobs.cpu_times()[:4])
        url = answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
        while httpx.head(f"{url}/rendered", headers=HEADERS, timeout=60).status_code != 200:
            time.sleep(0.1)
        took = time.perf_counter() - began
        time.sleep(SETTLED_S)  # what else is made of it: the poster, the index of its samples
        spent = sum(jobs.cpu_times()[:4]) - before
    rate, cost = made.length / 1e6 / took, 1e9 * spent / made.length
    print(
        f"copy         transport stream {rate:5.0f} MB/s   {cost:4.1f} CPU s a GB, all jobs together",
        flush=True,
    )


def settled(server: Server) -> list[psutil.Process]:
    """All processes, once what is made of a new video is made."""
    processes = everything(server.process.pid)
    jobs = next(one for one in processes if "jobs" in one.cmdline())
    idle, before = 0, 0.0
    while idle < SETTLED_S // 3:
        time.sleep(1)
        spent = sum(jobs.cpu_times()[:4])
        idle, before = (idle + 1 if spent - before < 0.1 and len(jobs.children()) == 0 else 0), spent
    return everything(server.process.pid)


def beside_nginx(path: Path) -> None:
    """Random ranges of each way of serving, and of the same bytes as a plain file from nginx."""
    path.chmod(0o755)
    ways: dict[str, tuple[Container, Clip, int]] = {
        "virtual": ("mp4", LARGE, 200 * MIB),
        "fragments": ("mp4", replace(LARGE, kilobits=4000), 450 * MIB),
        "bare": ("annexb", replace(LARGE, sound=""), 200 * MIB),
        "copied": ("ts", LARGE, 200 * MIB),
    }
    with nginx.serving(path) as (address, theirs):
        for name, (container, clip, size) in ways.items():
            unit = make_video.stream(path / "unit", clip, container).stat().st_size
            times = size // unit
            made = make_video.instance(path / f"{name}.dcm", clip, container, times=times)
            with serving() as server:
                url = stored(server, made.path)
                length = copied(url, path / f"{name}.mp4")
                processes = settled(server)
                for asked in (256 << 10, MIB):
                    mine, its = Figures(), Figures()
                    for _ in range(3):
                        turn(mine, url, length, asked, processes)
                        turn(its, f"{address}/{name}.mp4", length, asked, theirs)
                    print(line(asked, name, mine, its), flush=True)


def elsewhere(url: str) -> None:
    """Another server's video."""
    with httpx.stream("GET", url, headers=HEADERS, timeout=600) as answer:
        began, size = time.perf_counter(), 0
        for piece in answer.iter_raw(MIB):
            size += len(piece)
        took = time.perf_counter() - began
        has_ranges = answer.headers.get("accept-ranges") == "bytes"
    print(
        f"elsewhere    whole {size / 1e6 / took:6.0f} MB/s   ranges: {'yes' if has_ranges else 'no'}",
        flush=True,
    )
    if has_ranges:
        took_ms = [1000 * one for one in first_bytes(url)]
        print(f"elsewhere    first byte median {statistics.median(took_ms):5.1f} ms", flush=True)


PARTS = {"bytes": until_first_byte, "start": until_first_picture, "copy": copies, "ranges": beside_nginx}


def main() -> None:
    words = sys.argv[1:] or list(PARTS)
    for word in words:
        with folder() as path:
            PARTS.get(word, lambda _, url=word: elsewhere(url))(path)


if __name__ == "__main__":
    main()
