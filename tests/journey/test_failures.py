"""What happens, and what must be true: the design's table of failures, each row by its name (disk full: test_full_disk.py)."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import psutil
import pytest
import uuid_utils

from app import store
from app.embedded import cluster
from app.index.connection import Connection
from app.settings import Settings
from app.storage import keys
from app.storage.local_files import OpenFile
from app.upkeep import reindex, sweep
from app.upkeep.findings import Report
from app.upkeep.objects import Pace
from tests import make, make_video, seaweed
from tests.chaos import chaos
from tests.index import rows
from tests.journey.answers import MULTIPART, assert_there, get, paths, post, reasons
from tests.running import running
from tests.serving import Server, serving, until
from tests.storages import half
from tests.upkeep_tools import send, tools

DICOM = {"Content-Type": "application/dicom"}
JPEG = "1.2.840.10008.1.2.4.50"


def left(folder: Path, kind: str) -> list[Path]:
    return [path for path in (folder / kind).rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as it ships, with little patience."""
    with serving(tmp_path_factory.mktemp("served") / "data", upload_idle_timeout_s="1") as server:
        yield server


# The client library leaves the sockets of requests that were cancelled to the collector: collected here, and not
# in whatever test comes next.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(300)
def test_kill_9_at_any_moment(tmp_path: Path) -> None:
    """Every acknowledged instance is there, bit for bit; nothing half-visible, nothing undead; no process left.

    Twenty rounds of `make chaos`, fewer where the machine is slow; then everything is compared.
    """
    ends = time.monotonic() + 35
    with chaos(tmp_path, seed=int(time.time())) as one:
        while one.model.rounds < 20 and (time.monotonic() < ends or not one.model.done["stored"]):
            one.round(every=1000)
        one.everything()
        assert one.model.done["stored"] > 0
    until(lambda: not one.server.left_behind())
    gc.collect()


@pytest.mark.parametrize("how", ["vanishes", "stalls"])
def test_client_vanishes_or_stalls(server: Server, how: str) -> None:
    """Mid-part: no row, no object; earlier parts of that request stay; its slot is freed."""
    storage = server.data_dir / "storage"
    first, second = make.instance(), make.instance(PixelData=bytes(5 << 20))
    body = make.multipart([first, second])

    def found() -> int:
        return len(get(f"{server.url}/dicom-web/instances", params={"limit": "1000"}).json())

    def coming() -> list[str]:
        family = psutil.Process(server.process.pid).children(recursive=True)
        return half(storage, *(process.pid for process in family if "postgres" not in process.name()))

    # Counted before: a database that died under another test may have left objects without a row.
    before, rows = len(left(storage, "objects")), found()
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: {MULTIPART}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: 3 << 20])
        until(lambda: bool(coming()), server)
        if how == "stalls":
            until(lambda: not coming(), server)
    until(lambda: not coming(), server)
    assert not left(storage, "tmp")
    until(lambda: len(left(storage, "objects")) == before + 1, server)
    until(lambda: found() == rows + 1, server)  # the row comes after the object
    assert post(server.url, first, second).status_code == 200  # and what was stored before is the same again
    assert len(left(storage, "objects")) == before + 2
    assert server.answers()


def test_bucket_dies_in_the_midst_of_an_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That instance fails with A700, nothing of it is seen; when the bucket is there again, so is everything."""
    for name, value in seaweed.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    first, large = make.instance(), make.instance(PixelData=os.urandom(40 << 20))
    with (
        seaweed.running() as bucket,
        cluster.running_sync(tmp_path / "service", durable=False) as dsn,
        serving(
            tmp_path / "data",
            database_url=dsn,
            storage_url=f"s3://{seaweed.BUCKET}/x",
            s3_endpoint=bucket.endpoint,
            s3_timeout_s="1",
        ) as server,
    ):

        def body() -> Iterator[bytes]:
            yield large[: 30 << 20]
            bucket.kill()
            yield large[30 << 20 :]

        (path,) = paths(post(server.url, first))
        answer = httpx.post(f"{server.url}/dicom-web/studies", content=body(), headers=DICOM, timeout=120)
        assert (answer.status_code, reasons(answer)) == (503, [0xA700])
        assert answer.headers["Retry-After"]
        found = get(f"{server.url}/dicom-web/instances", timeout=60).json()
        assert [row["00080018"]["Value"][0] for row in found] == [path.rpartition("/")[2]]
        assert get(server.url + path, headers={"Accept": "application/dicom"}, timeout=60).status_code == 503
        bucket.begin_again()
        until(lambda: post(server.url, large).status_code == 200, server)
        for data in (first, large):
            assert_there(server.url, paths(post(server.url, data))[0], data)
        assert len(get(f"{server.url}/dicom-web/instances").json()) == 2


def test_database_away(server: Server) -> None:
    """503 with Retry-After, and it recovers by itself; connections cut under load lose nothing."""
    postgres = server.child("postgres")
    assert postgres is not None
    data = make.instance()
    postgres.kill()
    answer = get(f"{server.url}/dicom-web/studies", timeout=60)
    assert answer.status_code in {200, 503}  # the next one may be up already
    if answer.status_code == 503:
        assert answer.headers["Retry-After"]
    until(lambda: post(server.url, data).status_code == 200, server)
    until(server.answers, server)
    sent = [make.instance() for _ in range(30)]
    with _cut(server.dsn()):
        for one in sent:
            until(lambda one=one: post(server.url, one).status_code == 200, server)  # type: ignore[misc]
    for one in sent:
        assert_there(server.url, paths(post(server.url, one))[0], one)
    assert "Traceback" not in server.told


@contextmanager
def _cut(dsn: str) -> Iterator[None]:
    """Every connection is cut again and again."""
    stop = threading.Event()

    async def run() -> None:
        connection = await asyncpg.connect(dsn, server_settings={"application_name": "saboteur"})
        while not stop.is_set():
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'reelweb'"
            )
            await asyncio.sleep(0.15)
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_malformed_dicom(server: Server) -> None:
    """That part fails with a reason; its neighbours are stored."""
    good = [make.instance(), make.instance()]
    answer = post(server.url, good[0], good[0][:-7], b"not DICOM", good[1])
    assert answer.status_code == 202
    assert len(reasons(answer)) == 2
    for path, data in zip(paths(answer), good, strict=True):
        assert_there(server.url, path, data)


def test_hostile_dicom(server: Server) -> None:
    """A million empty elements nested for ever: refused within fixed memory and time, beside a good neighbour."""
    good = make.instance()
    meta = good[: good.index(b"\x08\x00\x05\x00")]
    nested = (
        meta + (b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * 100_000
    )
    many = meta + b"".join(
        b"\x09\x00" + (n % 65536).to_bytes(2, "little") + b"UN\0\0\0\0\0\0" for n in range(10**6 + 9)
    )
    worker = server.child("web-worker")
    assert worker is not None
    before, began = worker.memory_info().rss, time.monotonic()
    answer = post(server.url, nested, many, good)
    assert answer.status_code == 202
    assert len(reasons(answer)) == 2
    assert_there(server.url, paths(answer)[0], good)
    assert time.monotonic() - began < 30
    assert worker.memory_info().rss - before < 400 << 20


def test_a_decoder_crashes(server: Server) -> None:
    """That request fails with a reason; uploads beside it go on."""
    broken = make.encapsulated([b"\xff\xd8\xff\xe0 nothing of a picture \xff\xd9"], JPEG, Rows=8, Columns=8)
    (path,) = paths(post(server.url, broken))
    answer = get(f"{server.url}{path}/rendered", timeout=60)
    assert 400 <= answer.status_code < 600
    assert answer.headers["content-type"] == "application/problem+json"
    assert post(server.url, make.instance()).status_code == 200
    assert_there(server.url, path, broken)


def test_a_video_we_cannot_make_playable(server: Server, tmp_path: Path) -> None:
    """The original is always retrievable; /rendered says 406 with why."""
    clip = make_video.instance(tmp_path / "clip.dcm").path.read_bytes()
    at = clip.index(b"moov")
    broken = clip[:at] + b"junk" + clip[at + 4 :]
    (path,) = paths(post(server.url, broken))
    assert_there(server.url, path, broken)
    until(lambda: get(f"{server.url}{path}/rendered", timeout=60).status_code != 503, server)
    answer = get(f"{server.url}{path}/rendered", timeout=60)
    assert answer.status_code == 406
    assert answer.json()["detail"]


def test_storage_100_times_slower(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads take their time and all end well; whoever asks only the index does not wait for them."""
    slow_sync, slow_read = os.fdatasync, OpenFile.read

    def sync(descriptor: int) -> None:
        time.sleep(0.5)
        slow_sync(descriptor)

    def read(file: OpenFile, buffer: memoryview, offset: int) -> int:
        time.sleep(0.5)
        return slow_read(file, buffer, offset)

    monkeypatch.setattr(os, "fdatasync", sync)
    monkeypatch.setattr(OpenFile, "read", read)
    monkeypatch.setattr(OpenFile, "read_cached", lambda *_: 0)
    sent = [make.instance() for _ in range(12)]
    answers: list[httpx.Response] = []
    with running(Settings(database_url=database, data_dir=tmp_path)) as url:
        threads = [threading.Thread(target=lambda one=one: answers.append(post(url, one))) for one in sent]
        for thread in threads:
            thread.start()
        began, waited, statuses = time.monotonic(), list[float](), set[int]()
        while any(thread.is_alive() for thread in threads):
            asked = time.monotonic()
            statuses.add(get(f"{url}/dicom-web/studies", timeout=60).status_code)
            waited.append(time.monotonic() - asked)
        assert time.monotonic() - began > 1
        assert statuses == {200}
        assert median(waited) < 0.5, "less than a single sync"
        assert [answer.status_code for answer in answers] == [200] * 12
        found = {content for answer in answers for content in [_read(url, paths(answer)[0])]}
        assert found == set(sent)


def _read(url: str, path: str) -> bytes:
    return get(url + path, headers={"Accept": "application/dicom"}, timeout=60).content


def _shifted(ms: int) -> uuid.UUID:
    """A version 7 UUID of another time: its first 48 bits are milliseconds (RFC 9562)."""
    return uuid.UUID(int=int(uuid_utils.uuid7()) + (ms << 80))


@pytest.mark.parametrize("day", [-1, 1])
async def test_the_process_clock_is_wrong_by_a_day(
    database: str, sql: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, day: int
) -> None:
    """Keys carry a wrong time, and nothing rests on it: neither who won, nor what is swept, nor what is restored."""
    uids = {"SOPInstanceUID": "1.3.1", "StudyInstanceUID": "1.1"}
    first, second = make.instance(**uids, PatientName="A"), make.instance(**uids, PatientName="B")
    async with tools(database, tmp_path, "replace") as right:
        assert (await send(right, first)).failure is None
    with monkeypatch.context() as patch:
        patch.setattr(keys, "uuid7", lambda: _shifted(day * 86_400_000))
        patch.setattr(time, "time", lambda now=time.time: now() + day * 86400)
        async with tools(database, tmp_path, "replace") as wrong:
            pending = await wrong.index.pending.take()
            assert (await send(wrong, second)).failure is None
            assert (await send(wrong, make.instance(StudyInstanceUID="1.9"))).failure is None
            await store.remove(wrong, "1.9")
            assert not (await sweep.once(wrong, sweep.Knobs(grace_s=3600)))["upload"]
            assert await sql.fetchval("select count(*) from pending where key = $1", pending) == 1
    before: Any = await rows.told(sql)
    await sql.execute(rows.EMPTY)
    async with tools(database, tmp_path, rebuilds=True) as opened:
        await reindex.from_storage(opened, Report(), Pace())
    assert await rows.told(sql) == before
    assert len(before["instance"]) == 1
