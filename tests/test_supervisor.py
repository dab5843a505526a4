"""Whatever dies, and however it dies: nothing is left behind, nothing is lost, the server is ready again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from app.embedded import cluster, trampoline
from tests.serving import Server, command, serving, until

WITHOUT_NAMESPACES = Path(__file__).parent / "embedded" / "without_namespaces.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("served") / "data") as running:
        yield running


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own are its user's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def execute(dsn: str, *statements: str) -> list[object]:
    async def run() -> list[object]:
        connection = await asyncpg.connect(dsn)
        try:
            return [await connection.fetchval(statement) for statement in statements]
        finally:
            await connection.close()

    return asyncio.run(run())


def test_one_command_in_an_empty_folder_serves_and_keeps_what_it_got(tmp_path: Path) -> None:
    """Started twice in a folder with a stray app.py, it says where it is, ends on Ctrl-C and forgets nothing."""
    (tmp_path / "app.py").write_text("raise SystemExit('the wrong program')")
    data_dir = tmp_path / "reelweb-data"
    with serving(data_dir, cwd=tmp_path) as first:
        told = "".join(first.out)
        assert f"{first.url}/dicom-web\n" in told
        assert f"--data-binary @FILE {first.url}/dicom-web/studies\n" in told
        children = psutil.Process(first.process.pid).children()
        assert len(children) == 3
        assert all(
            os.getsid(child.pid) == child.pid for child in children
        )  # a terminal's Ctrl-C is ours alone
        execute(first.dsn(), "create table kept (n int)", "insert into kept values (7)")
        assert first.tell(signal.SIGINT) == 0
        assert "Traceback" not in first.told
        assert not first.left_behind()
        assert not (data_dir / "socket").is_symlink()
    with serving(data_dir, cwd=tmp_path) as second:
        assert execute(second.dsn(), "select n from kept") == [7]
        assert second.tell(signal.SIGTERM) == 0
        assert not second.left_behind()


def test_after_a_killed_supervisor_all_die_and_the_next_start_recovers(tmp_path: Path) -> None:
    """Kill -9 of the supervisor ends every process; what was committed is there at the next start."""
    with serving(tmp_path / "data") as killed:
        execute(killed.dsn(), "create table kept (n int)", "insert into kept values (7)")
        folder = (killed.data_dir / "socket").readlink()
        killed.process.kill()
        assert killed.wait() == -signal.SIGKILL
        with serving(tmp_path / "data") as server:  # at once, while the remains are going down
            assert execute(server.dsn(), "select n from kept") == [7]
            assert not folder.exists()
        until(lambda: not killed.left_behind())


@pytest.mark.parametrize("kind", ["web-worker", "jobs", "postgres"])
def test_a_killed_child_is_started_again(server: Server, kind: str) -> None:
    """Kill -9 of any child: another takes its place, and the server is ready again."""
    if kind == "postgres":
        execute(server.dsn(), "create table if not exists kept as select 7 as n")
    until(lambda: server.child(kind) is not None and server.answers(), server)
    before = server.child(kind)
    assert before is not None
    before.kill()
    until(lambda: (now := server.child(kind)) is not None and now.pid != before.pid, server)
    until(server.answers, server)
    assert server.process.poll() is None
    if kind == "postgres":
        assert execute(server.dsn(), "select n from kept") == [7]


def test_a_second_server_on_the_folder_says_so(server: Server) -> None:
    """Another reelweb on the same folder ends with one line and leaves the first alone."""
    second = Server(server.data_dir)
    assert second.wait() == 1
    assert second.told == f"reelweb: Another reelweb serves {server.data_dir}.\n"
    until(server.answers, server)


def test_a_second_server_on_the_port_says_so(server: Server, tmp_path: Path) -> None:
    """A taken port is told in one line, before anything is made."""
    port = server.url.rpartition(":")[2]
    second = Server(tmp_path / "data", port=port)
    assert second.wait() == 1
    assert second.told.startswith(f"reelweb: Port {port} is in use")
    assert second.told.count("\n") == 1
    assert not (tmp_path / "data" / "pg18").exists()


def test_stopped_while_it_starts_it_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM in the middle of the first start ends it cleanly, and the next start succeeds."""
    stopped = Server(tmp_path / "data")
    until(lambda: any((tmp_path / "data").glob("pg18*")), stopped)
    assert stopped.tell(signal.SIGTERM) == 0
    assert "Traceback" not in stopped.told
    until(lambda: not stopped.left_behind())
    with serving(tmp_path / "data"):
        pass


def test_a_stalled_worker_does_not_stop_the_stop(tmp_path: Path) -> None:
    """A web worker that does nothing any more is killed after the time-out; PostgreSQL ends in order."""
    with serving(tmp_path / "data", shutdown_timeout_s="0.1") as server:
        stalled = server.child("web-worker")
        assert stalled is not None
        stalled.suspend()
        assert server.tell(signal.SIGTERM) == 0
        assert not server.left_behind()
        assert "database system is shut down" in (tmp_path / "data" / "postgres.log").read_text("utf-8")


def test_several_workers_share_the_port(tmp_path: Path) -> None:
    """Each of REELWEB_WORKERS has a socket of its own; one that dies does not take the others along."""
    with serving(tmp_path / "data", workers="2", log_format="json") as server:
        killed = server.child("web-worker")
        assert killed is not None
        killed.kill()
        until(lambda: any('"name": "web-' in line for line in server.err), server)
        until(lambda: all(server.answers() for _ in range(8)), server)


def test_it_ends_with_its_starter_when_asked(tmp_path: Path) -> None:
    """`make` killed with SIGKILL takes the server along."""
    starter = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    prefix = [sys.executable, "-c", starter]
    with serving(tmp_path / "data", prefix=prefix, arguments=["--with-parent"]) as server:
        server.process.kill()
        server.wait()
        until(lambda: not server.left_behind())


def test_a_database_service_replaces_the_embedded_one(tmp_path: Path) -> None:
    """With REELWEB_DATABASE_URL no PostgreSQL is made, and the service's is migrated and used."""
    with (
        cluster.running_sync(tmp_path / "service", durable=False) as dsn,
        serving(tmp_path / "data", database_url=dsn) as server,
    ):
        assert server.answers()
        assert server.child("postgres") is None
        assert not list(server.data_dir.glob("pg*"))


def test_a_database_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Without its database the server does not start, and says that the migrations failed."""
    server = Server(tmp_path / "data", database_url="postgresql://nobody@127.0.0.1:1/none")
    assert server.wait() == 1
    assert "The database could not be brought to this version" in server.err[-1]


def test_settings_that_are_wrong_are_told_together(tmp_path: Path) -> None:
    """Two wrong settings, two lines, and nothing is made."""
    server = Server(tmp_path / "data", workers="none", host="0.0.0.0")
    assert server.wait() == 1
    assert [line.split()[1] for line in server.err] == ["REELWEB_HOST", "REELWEB_WORKERS:"]
    assert not (tmp_path / "data").exists()


def test_an_ordinary_user_serves(tmp_path: Path) -> None:
    """The same for a user who is not root (here: nobody, inside a user namespace)."""
    script = [sys.executable, "-I", "-S", trampoline.__file__, str(os.getpid()), "9", "namespace"]
    with serving(tmp_path / "data", prefix=script if os.geteuid() == 0 else []) as server:
        postgres = server.child("postgres")
        assert postgres is not None
        postgres.kill()
        until(lambda: (now := server.child("postgres")) is not None and now.pid != postgres.pid, server)
        until(server.answers, server)
        assert server.tell(signal.SIGINT) == 0
        assert not server.left_behind()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes nobody")
def test_root_serves_where_namespaces_are_refused(open_path: Path) -> None:
    """As in Docker: PostgreSQL runs as nobody, the rest as root, and the next start works too."""
    data_dir = open_path / "data"
    for _ in range(2):
        with serving(data_dir, prefix=[sys.executable, str(WITHOUT_NAMESPACES)]) as server:
            postgres = server.child("postgres")
            assert postgres is not None
            assert postgres.uids().real == trampoline.NOBODY
            assert server.tell(signal.SIGTERM) == 0
            assert not server.left_behind()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused by PostgreSQL")
def test_root_is_told_when_nothing_works(tmp_path: Path) -> None:
    """No namespaces, and a folder that nobody may enter: one sentence."""
    tmp_path.chmod(0o700)
    server = Server(tmp_path / "data", prefix=[sys.executable, str(WITHOUT_NAMESPACES)])
    assert server.wait() == 1
    assert "set REELWEB_DATABASE_URL" in server.told
    assert server.told.count("\n") == 1


def test_a_taken_port_of_another_program_is_told(tmp_path: Path) -> None:
    """Any listener counts, one that shares its port too."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        server = Server(tmp_path / "data", port=str(other.getsockname()[1]))
        assert server.wait() == 1
        assert "is in use" in server.told


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """One sentence instead of a traceback."""
    (tmp_path / "file").touch()
    server = Server(tmp_path / "file" / "data")
    assert server.wait() == 1
    assert server.told == f"reelweb: The folder {tmp_path}/file/data cannot be used: Not a directory.\n"


@pytest.mark.parametrize("where", ["file", "proc"])
def test_a_storage_folder_that_cannot_be_used_is_told(tmp_path: Path, where: str) -> None:
    """One sentence at once, not a process that is started again and again."""
    (tmp_path / "file").touch()
    folder = {"file": f"{tmp_path}/file", "proc": "/proc/none"}[where]
    server = Server(tmp_path / "data", storage_url=f"file://{folder}")
    assert server.wait() == 1
    assert server.told.startswith(f"reelweb: The storage folder {folder} cannot be used: ")
    assert server.told.count("\n") == 1


def test_a_database_url_that_nobody_understands_is_told(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", database_url="postgresql:///x?port=geheim")
    assert server.wait() == 1
    assert "REELWEB_DATABASE_URL" in server.told
    assert "geheim" not in server.told
    assert server.told.count("\n") == 2


@pytest.mark.parametrize("arguments", [["verify"], ["reindex"]])
def test_upkeep_of_a_mistyped_folder_makes_none(tmp_path: Path, arguments: list[str]) -> None:
    """Status 2, one sentence, and no archive where there was none; the same of settings that are wrong."""
    done = command(tmp_path / "none", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"There is no {tmp_path}/none" in done.stderr
    assert not (tmp_path / "none").exists()
    assert command(tmp_path, *arguments, port="x").returncode == 2


def test_verify_does_one_thing_or_the_other(tmp_path: Path) -> None:
    done = command(tmp_path, "verify", "--adopt", "--drop-unacknowledged")
    assert done.returncode == 2
    assert "contradict" in done.stderr
