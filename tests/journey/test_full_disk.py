"""The disk is full: the design's row of failures, for objects alone, for all but the database, for everything."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.embedded import cluster
from tests import make
from tests.journey.answers import assert_there, get, paths, post, reasons
from tests.serving import serving, until


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_disk_full(tmp_path: Path) -> None:
    """That instance fails with A700, its small neighbours are stored, 503 if it was all of them; the server lives."""
    data = tmp_path / "data"
    (data / "storage").mkdir(parents=True)
    script = f'mount -t tmpfs -o size=8m none "{data}/storage" && exec "$@"'
    prefix = ["unshare", "-Urm", "sh", "-c", script, "sh"]
    small, large = [make.instance() for _ in range(3)], make.instance(PixelData=bytes(12 << 20))
    with (
        cluster.running_sync(tmp_path / "service", durable=False) as dsn,
        serving(data, prefix=prefix, database_url=dsn) as server,
    ):
        mixed = post(server.url, small[0], large, small[1])
        assert (mixed.status_code, reasons(mixed)) == (202, [0xA700])
        alone = post(server.url, large)
        assert (alone.status_code, reasons(alone)) == (503, [0xA700])
        assert alone.headers["Retry-After"]
        last = post(server.url, small[2])
        for path, content in zip([*paths(mixed), *paths(last)], small, strict=True):
            assert_there(server.url, path, content)
        found = get(f"{server.url}/dicom-web/instances").json()
        assert len(found) == 3
        assert server.answers()


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[list[str]]:
    """What to begin a command with, so that `folder` is a small disk for it; the disk lasts as long as the block."""
    folder.mkdir()
    script = f'mount -t tmpfs -o size={size} none "{folder}" && echo mounted && exec sleep 600'
    with subprocess.Popen(["unshare", "-Urm", "sh", "-c", script], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"mounted\n"
            yield ["nsenter", "-t", str(holder.pid), "-U", "-m", "--preserve-credentials", "--wdns=/"]
        finally:
            holder.kill()


def _run(prefix: list[str], script: str) -> None:
    subprocess.run([*prefix, "sh", "-c", script], check=False, capture_output=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_disk_full_of_everything(tmp_path: Path) -> None:
    """Objects, metrics and lock on one full disk: reading and restarts go on, and with room everything does."""
    data = tmp_path / "data"
    first, second = make.instance(), make.instance()
    with (
        cluster.running_sync(tmp_path / "service", durable=False) as dsn,
        _small_disk(data, "16m") as prefix,
    ):
        fill, free = f"cat /dev/zero > {data}/filler; echo x > {data}/more", f"rm {data}/filler {data}/more"
        with serving(data, prefix=prefix, database_url=dsn) as server:
            (path,) = paths(post(server.url, first))
            _run(prefix, fill)
            refused = post(server.url, second)
            assert (refused.status_code, reasons(refused)) == (503, [0xA700])
            for number in range(40):  # figures of new addresses, which must not need room
                get(f"{server.url}{path}/frames/{number}", headers={"Accept": "application/json"})
            assert_there(server.url, path, first)
            told = get(f"{server.url}/readyz")
            assert told.status_code == 200
            assert "no room" in told.text
            worker = server.child("web-worker")
            assert worker is not None
            worker.kill()
            until(lambda: (now := server.child("web-worker")) is not None and now.pid != worker.pid, server)
            until(server.answers, server)
            assert_there(server.url, path, first)
        with serving(data, prefix=prefix, database_url=dsn) as server:
            assert_there(server.url, path, first)
            assert post(server.url, second).status_code == 503
            _run(prefix, free)
            until(lambda: post(server.url, second).status_code == 200, server)
            assert get(f"{server.url}/readyz").text == "ready\n"
            assert "reelweb_requests_total" in get(f"{server.url}/metrics").text


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_disk_full_under_the_database(tmp_path: Path) -> None:
    """The embedded PostgreSQL lies on the full disk, too: nothing acknowledged is lost, and it all comes back."""
    data = tmp_path / "data"
    with (
        _small_disk(data, "320m") as prefix,
        serving(data, prefix=prefix, disk_reserve="1") as server,
    ):
        first, large = make.instance(), make.instance(PixelData=bytes(1 << 20))
        (path,) = paths(post(server.url, first))
        _run(prefix, f"cat /dev/zero > {data}/filler; echo x > {data}/more")
        for _ in range(5):
            assert post(server.url, large).status_code == 503
        assert_there(server.url, path, first)
        assert len(get(f"{server.url}/dicom-web/studies").json()) == 1
        postgres = server.child("postgres")
        assert postgres is not None
        postgres.kill()
        time.sleep(1)
        _run(prefix, f"rm {data}/filler {data}/more")
        until(lambda: post(server.url, large).status_code == 200, server)
        assert_there(server.url, path, first)
