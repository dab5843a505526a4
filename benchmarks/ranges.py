"""206 answers from random positions of a virtual MP4, beside nginx serving the plain MP4 from the same disk.

MB per CPU second of the processes that serve, PostgreSQL's included; whose turn it is alternates.
python benchmarks/ranges.py [1] [2] [annexb] [s3]
A number is that of workers; annexb: the same pictures as MP4 and as a bare stream, and how fast that is indexed;
s3: objects in SeaweedFS, beside a plain loop of obstore.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import obstore
import psutil
from obstore.store import S3Store

sys.path.insert(0, str(Path(__file__).parents[1]))
from app.video import annexb
from app.video.pace import Pace
from benchmarks import nginx
from benchmarks.serving import MIB, cpu, everything, serving
from tests import make_video, seaweed
from tests.make_video import Clip
from tests.serving import ROOT, Server

SIZES = (64 << 10, 256 << 10, 1 * MIB, 4 * MIB)
CONNECTIONS, SECONDS, TURNS = 8, 2.0, 3
VIDEO_BYTES = 200 * MIB
OPENING, CLOSING = b"--part\r\nContent-Type: application/dicom\r\n\r\n", b"\r\n--part--\r\n"
MULTIPART = {
    "Content-Type": 'multipart/related; type="application/dicom"; boundary=part',
    "Accept": "application/dicom+json",
}


@dataclass
class Figures:
    """What one side served, and what it cost."""

    sent: int = 0
    answers: int = 0
    seconds: float = 0.0
    cpu: float = 0.0

    @property
    def per_cpu(self) -> float:
        return self.sent / 1e6 / self.cpu

    @property
    def per_second(self) -> float:
        return self.sent / 1e6 / self.seconds


def turn(figures: Figures, url: str, length: int, size: int, processes: Sequence[psutil.Process]) -> None:
    load = [sys.executable, ROOT / "benchmarks/range_load.py", url, length, size, CONNECTIONS, SECONDS]
    before = cpu(processes)
    done = subprocess.run(
        [str(word) for word in load], check=True, capture_output=True, text=True, timeout=60
    )
    figures.cpu += cpu(processes) - before
    answers, sent, seconds = done.stdout.split()
    figures.sent, figures.answers = figures.sent + int(sent), figures.answers + int(answers)
    figures.seconds += float(seconds)


def stored(server: Server, path: Path) -> str:
    """The address of the stored video's MP4, once it can be played."""
    url = sent(f"{server.url}/dicom-web", path)
    while httpx.head(url, headers={"Accept": "video/mp4"}, timeout=60).status_code != 200:
        time.sleep(0.2)
    return url


def sent(root: str, path: Path) -> str:
    """The address of a video, of whoever answers DICOMweb there; some take multipart alone (PS3.18 10.5)."""
    with path.open("rb") as file:
        pieces = itertools.chain([OPENING], iter(partial(file.read, MIB), b""), [CLOSING])
        answer = httpx.post(f"{root}/studies", content=pieces, headers=MULTIPART, timeout=600)
    answer.raise_for_status()
    instance = answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    return f"{instance}/rendered"


def copied(url: str, path: Path) -> int:
    """The virtual MP4 as a plain file."""
    with (
        path.open("wb") as file,
        httpx.stream("GET", url, headers={"Accept": "video/mp4"}, timeout=300) as answer,
    ):
        for piece in answer.iter_raw(MIB):
            file.write(piece)
    return path.stat().st_size


def line(size: int, name: str, ours: Figures, theirs: Figures) -> str:
    return (
        f"{size >> 10:6d} KiB  {name:14} {ours.per_cpu:8.0f} {theirs.per_cpu:8.0f}  {ours.per_cpu / theirs.per_cpu:5.2f} x"
        f"   {ours.per_second:7.0f} {theirs.per_second:7.0f} MB/s   {ours.cpu / ours.answers * 1e6:6.0f} us CPU an answer"
    )


def beside_nginx(workers: int, folder: Path, video: Path) -> None:
    with serving(workers) as server, nginx.serving(folder) as (address, theirs):
        url = stored(server, video)
        length = copied(url, folder / "plain.mp4")
        time.sleep(3)  # the poster is made
        ours = everything(server.process.pid)
        for size in SIZES:
            mine, its = Figures(), Figures()
            for _ in range(TURNS):
                turn(mine, url, length, size, ours)
                turn(its, f"{address}/plain.mp4", length, size, theirs)
            print(line(size, f"{workers} worker(s)", mine, its), flush=True)


def bare_beside_mp4(folder: Path) -> None:
    clip = Clip(width=1280, height=720, kilobits=8000, gop=48)
    times = VIDEO_BYTES // make_video.stream(folder / "unit", clip).stat().st_size
    containers: tuple[make_video.Container, ...] = ("mp4", "annexb")
    made = {name: make_video.instance(folder / f"{name}.dcm", clip, name, times=times) for name in containers}
    indexed(made["annexb"].stream)
    with serving(1) as server, nginx.serving(folder) as (address, theirs):
        urls = {name: stored(server, one.path) for name, one in made.items()}
        lengths = {name: copied(url, folder / f"{name}.mp4") for name, url in urls.items()}
        time.sleep(5)  # the rest is made
        ours = everything(server.process.pid)
        for size in SIZES:
            mine, its = {name: Figures() for name in made}, Figures()
            for _ in range(TURNS):
                for name, url in urls.items():
                    turn(mine[name], url, lengths[name], size, ours)
                turn(its, f"{address}/annexb.mp4", lengths["annexb"], size, theirs)
            for name, figures in mine.items():
                print(line(size, name, figures, its), flush=True)


def indexed(path: Path) -> None:
    """How fast a bare stream is read through; it comes from memory."""
    source, began = path.read_bytes(), time.process_time()
    index = annexb.Index()
    for start in range(0, len(source), 32 << 10):
        index.feed(source[start : start + (32 << 10)])
    annexb.planned(index.close(), Pace())
    spent = time.process_time() - began
    print(f"index of {len(source) / 1e6:.0f} MB: {len(source) / 1e6 / spent:.0f} MB/CPU s")


def beside_obstore(folder: Path, video: Path) -> None:
    """Both read the same S3; it has other processes, which are not counted."""
    with seaweed.running() as s3:
        os.environ |= seaweed.CREDENTIALS
        place = {"storage_url": f"s3://{seaweed.BUCKET}/a", "s3_endpoint": s3.endpoint}
        with serving(1, **place) as server:
            url = stored(server, video)
            length = copied(url, folder / "plain.mp4")
            store = S3Store(
                seaweed.BUCKET, config={"endpoint": s3.endpoint}, client_options={"allow_http": True}
            )
            obstore.put(store, "plain", folder / "plain.mp4")
            time.sleep(3)
            ours = everything(server.process.pid)
            for size in SIZES:
                mine, its = Figures(), Figures()
                for _ in range(TURNS):
                    turn(mine, url, length, size, ours)
                    loop(its, s3.endpoint, length, size)
                print(line(size, "S3", mine, its), flush=True)


def loop(figures: Figures, endpoint: str, length: int, size: int) -> None:
    words = (endpoint, seaweed.BUCKET, "plain", length, size, CONNECTIONS, SECONDS)
    program = [sys.executable, str(ROOT / "benchmarks/obstore_load.py"), *map(str, words)]
    told = subprocess.run(program, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    figures.answers, figures.sent = figures.answers + int(told[0]), figures.sent + int(told[1])
    figures.seconds, figures.cpu = figures.seconds + float(told[2]), figures.cpu + float(told[3])


def with_video(work: Callable[[Path, Path], None]) -> None:
    def made(folder: Path) -> None:
        make_video.large(folder / "video.dcm", VIDEO_BYTES)
        work(folder, folder / "video.dcm")

    within(made)


def within(work: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="reelweb-ranges-", dir=ROOT.parent) as name:
        folder = Path(name)
        folder.chmod(0o755)
        work(folder)


def main() -> None:
    wanted = sys.argv[1:] or ["1", "2", "annexb", "s3"]
    if {"1", "2", "annexb"} & set(wanted):
        print(f"{'range':>10}  {'':14} {'MB/CPU s':>8} {'nginx':>8}")
    for workers in (int(word) for word in wanted if word.isdigit()):
        with_video(partial(beside_nginx, workers))
    if "annexb" in wanted:
        within(bare_beside_mp4)
    if "s3" in wanted:
        print(f"{'range':>10}  {'':14} {'MB/CPU s':>8} {'obstore':>8}")
        with_video(beside_obstore)


if __name__ == "__main__":
    main()
