"""Videos as viewers meet them: the time to the first byte, the bytes before the first picture, copies, ranges.

python benchmarks/video.py [bytes] [start] [copy] [ranges] [whole] [--peer NAME URL]    # without words: all
The peer answers DICOMweb below URL; it stores what we store and gives it whole. REELWEB_BENCH_SIZES: MB, "10 1000 8000".
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import nginx
from benchmarks.paced import paced
from benchmarks.ranges import Figures, copied, line, sent, stored, turn
from benchmarks.serving import MIB, everything, folder, serving
from tests import browser, make_video
from tests.make_video import Clip, Container
from tests.serving import Server

RATE = 1e6  # bytes a second of a viewer's line
SIZES_MB = os.environ.get("REELWEB_BENCH_SIZES", "10 100 1000 8000")
ASKED, WHOLE = 300, 5
LONG = Clip(sound="aac", width=640, height=480, kilobits=1000, gop=48)
LARGE = Clip(sound="aac", width=1280, height=720, kilobits=20_000)
HEADERS, DICOM = {"Accept": "video/mp4"}, {"Content-Type": "application/dicom"}
COPIED_BYTES, SETTLED_S = 600 * MIB, 15
SECONDS = {"40 s": 40, "2 h": 7200}


def first_byte(client: httpx.Client, url: str, start: int) -> float:
    """Milliseconds from asking for 64 KiB to their first byte."""
    began = time.perf_counter()
    with client.stream("GET", url, headers={"Range": f"bytes={start}-{start + 65535}"}) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        took = time.perf_counter() - began
        sum(map(len, pieces))
    return 1000 * took


def until_first_byte(path: Path) -> None:
    """At each size in turn, on one connection: what disturbs one disturbs all. At random places."""
    with serving() as server, httpx.Client(headers=HEADERS, timeout=60) as client:
        urls = {size: large(server, path / "large.dcm", size) for size in map(int, SIZES_MB.split())}
        lengths = {size: int(client.head(url).headers["content-length"]) for size, url in urls.items()}
        took: dict[int, list[float]] = {size: [] for size in urls}
        chosen = random.Random(7)
        for _ in range(ASKED):
            for size, url in urls.items():
                took[size].append(first_byte(client, url, chosen.randrange(lengths[size] - 65536)))
    medians = [statistics.median(each) for each in took.values()]
    for size, each in took.items():
        last = statistics.quantiles(each, n=20)[-1]
        print(f"first byte   {size:6d} MB   median {statistics.median(each):5.2f} ms   p95 {last:5.1f} ms")
    print(
        f"first byte   medians {max(medians) - min(medians):.2f} ms apart, {ASKED} asked of each", flush=True
    )


def large(server: Server, source: Path, megabytes: int) -> str:
    """The address of a video of this size; the file that was sent is gone."""
    make_video.large(source, megabytes * 1_000_000).stream.unlink()
    source.with_suffix(".unit").unlink()
    url = stored(server, source)
    source.unlink()
    return url


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


def whole(path: Path, peer: Sequence[str] = ()) -> None:
    """The whole video, and whether there are ranges of it; of the peer as well."""
    make_video.large(path / "whole.dcm", 200 * MIB)
    with serving() as server:
        urls = {"reelweb": stored(server, path / "whole.dcm")}
        if peer:
            urls[peer[0]] = sent(peer[1].rstrip("/"), path / "whole.dcm")
        settled(server)
        for name, url in urls.items():
            rates = [taken(url) for _ in range(WHOLE)]
            part = httpx.get(url, headers=HEADERS | {"Range": "bytes=0-99"}, timeout=600)
            has = f"{len(part.content)} of 100 bytes, {part.status_code}"
            told = f"{statistics.median(rates):6.0f} MB/s   a range: {has}"
            print(f"whole        {name:9} {told}", flush=True)


def taken(url: str) -> float:
    """MB a second."""
    size, began = 0, time.perf_counter()
    with httpx.stream("GET", url, headers=HEADERS, timeout=600) as answer:
        answer.raise_for_status()
        for piece in answer.iter_raw(MIB):
            size += len(piece)
    return size / 1e6 / (time.perf_counter() - began)


PARTS = {
    "bytes": until_first_byte,
    "start": until_first_picture,
    "copy": copies,
    "ranges": beside_nginx,
    "whole": whole,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    parser.add_argument("--peer", nargs=2, metavar=("NAME", "URL"), default=())
    told = parser.parse_args()
    for word in told.parts or PARTS:
        with folder() as path:
            (partial(whole, peer=told.peer) if word == "whole" else PARTS[word])(path)


if __name__ == "__main__":
    main()
