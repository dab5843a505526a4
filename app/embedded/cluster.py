"""One PostgreSQL cluster in a folder: made once, started, watched and ended as a child of ours."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from app.embedded import CannotStart, binaries, process
from app.embedded.binaries import Binaries

_USER = "reelweb"
_LOG_LIMIT = 16 << 20
_DEAD = frozenset("ZX")  # states of proc(5)
_START_PATIENCE_S = 600.0  # recovery after a kill may have a gigabyte of log to replay

# Errors go to the client that caused them; in the log their texts could hold a patient's name.
_QUIET = {
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
}
_SHAPE = {
    "listen_addresses": "",
    "shared_buffers": "128MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "1GB",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",  # requests are many and small; /dev/shm is 64 MB in a container
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_LOCALE = ("-E", "UTF8", "--locale=C.UTF-8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
_FLEETING = dict.fromkeys(_DURABLE, "off")


class Cluster:
    """PostgreSQL over `root/pgMAJOR`, reached by a socket in a short folder that only we may enter.

    Whoever makes it owns `root`: `pass_fds` carry the owner's lock into every process of PostgreSQL, so
    that it stays locked until the last one is gone.
    """

    def __init__(
        self, root: Path, *, durable: bool = True, max_connections: int = 100, pass_fds: Sequence[int] = ()
    ) -> None:
        self.name = "postgres"
        self.set_aside: list[Path] = []
        self._root = root.absolute()
        self._durable = durable
        self._max_connections = max_connections
        self._pass_fds = tuple(pass_fds)
        self._log = self._root / "postgres.log"
        self._log_start = 0
        self._socket = self._root / "socket"  # a link to the folder, so that the next start can remove it
        self._binaries: Binaries | None = None
        self._process: Process | None = None

    @property
    def dsn(self) -> str:
        """Where asyncpg finds it, the same after each restart."""
        return f"postgresql://{_USER}@/postgres?host={self._socket.readlink()}"

    async def start(self) -> None:
        """Make the cluster if there is none, start PostgreSQL and return when it takes connections."""
        if self._binaries is None:
            self._root.mkdir(parents=True, exist_ok=True)
            self._binaries = await binaries.find(self._root)
            self._turn_log()
            self._open_socket_folder(self._binaries)
            await self._make(self._binaries)
        self._remove_stale_locks(self._data(self._binaries))
        self._process = await self._postgres(self._binaries)
        try:
            await self._until_ready(self._process, self._data(self._binaries) / "postmaster.pid")
        except CannotStart:
            await process.end(self._process)
            raise

    async def wait(self) -> str:
        """How it ended, once it has."""
        assert self._process is not None
        return f"status {await self._process.wait()}"

    async def stop(self, patience_s: float = 20) -> None:
        """End it: fast, then at once without a checkpoint, then by force; and remove the socket's folder."""
        if self._process is not None:
            await process.end(self._process, (signal.SIGINT, patience_s), (signal.SIGQUIT, 5))
        self._remove_socket_folder()

    def _data(self, found: Binaries) -> Path:
        return self._root / f"pg{found.major}"

    def _turn_log(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._log_start = self._log.stat().st_size
            if self._log_start > _LOG_LIMIT:
                self._log.replace(self._log.with_suffix(".log.1"))
                self._log_start = 0

    def _open_socket_folder(self, found: Binaries) -> None:
        # below the root the path could exceed the 107 bytes of a socket's address (unix(7))
        self._remove_socket_folder()
        folder = Path(tempfile.mkdtemp(prefix="reelweb-", dir=_short_folder()))
        self._socket.symlink_to(folder)
        if found.user:
            os.chown(folder, *found.user)

    def _remove_socket_folder(self) -> None:
        with contextlib.suppress(OSError):
            folder = self._socket.readlink()
            self._socket.unlink()
            for name in folder.glob(".s.PGSQL.*"):
                name.unlink()
            folder.rmdir()

    async def _make(self, found: Binaries) -> None:
        """Make the cluster beside its place and rename it: a killed initdb leaves a PG_VERSION behind."""
        data = self._data(found)
        self._set_others_aside(found.major)
        if not data.exists():
            new = data.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(mode=0o700)
            _give(new, found)
            await self._initdb(found, new)
            new.rename(data)
            _sync(self._root)
        _give(data, found)

    def _set_others_aside(self, major: int) -> None:
        """A cluster of another version is kept and never opened again: the index is made anew from storage.

        Were it left in its place, a return to the older version would bring back what was deleted since.
        """
        for data in self._root.glob("pg[0-9][0-9]"):
            if data.name != f"pg{major}":
                aside = next(
                    path for number in itertools.count(1) if not (path := self._aside(data, number)).exists()
                )
                data.rename(aside)
                self.set_aside.append(aside)

    @staticmethod
    def _aside(data: Path, number: int) -> Path:
        return data.with_name(f"{data.name}.aside-{number}")

    async def _initdb(self, found: Binaries, data: Path) -> None:
        options: list[str | Path] = [*_LOCALE, "-D", data, "-U", _USER, "--auth=trust", "--no-instructions"]
        if not self._durable:
            options.append("--no-sync")
        making = await self._spawn(found, "initdb", options, signal.SIGKILL)
        try:
            status = await making.wait()
        finally:
            await process.end(making)
        if status:
            raise CannotStart(f"PostgreSQL could not make its folder: {self._last_words()} (see {self._log})")

    async def _postgres(self, found: Binaries) -> Process:
        shape = {
            **_SHAPE,
            **_QUIET,
            **(_DURABLE if self._durable else _FLEETING),
            "max_connections": str(self._max_connections),
            "unix_socket_directories": str(self._socket.readlink()),
        }
        options: list[str | Path] = ["-D", self._data(found)]
        for name, value in shape.items():
            options += ["-c", f"{name}={value}"]
        # told to die by fast shutdown: nothing to recover at the next start
        return await self._spawn(found, "postgres", options, signal.SIGINT)

    async def _spawn(
        self, found: Binaries, program: str, options: Sequence[str | Path], dies_by: signal.Signals
    ) -> Process:
        with self._log.open("ab") as log:
            return await process.spawn(
                [found.folder / program, *options],
                dies_by=dies_by,
                identity=found.identity,
                pass_fds=self._pass_fds,
                env=_environment(),
                cwd="/",
                stdout=log,
                stderr=log,
            )

    def _remove_stale_locks(self, data: Path) -> None:
        """A lock whose number belongs to a stranger now, as in a restarted container, would stop PostgreSQL.

        So would one of a killed PostgreSQL that whoever inherited it has not buried yet. A number that nobody has is
        its own affair: then it also looks for orphans in shared memory.
        """
        for lock in (data / "postmaster.pid", *self._socket.glob(".s.PGSQL.*.lock")):
            with contextlib.suppress(OSError, ValueError, IndexError):
                number = int(lock.read_text("utf-8").splitlines()[0])
                name, _, state = Path(f"/proc/{number}/stat").read_text("utf-8").rpartition(")")
                if not name.endswith("(postgres") or state.split()[0] in _DEAD:
                    lock.unlink()

    async def _until_ready(self, running: Process, lock: Path) -> None:
        """Wait for the word that PostgreSQL writes into its lock file (pg_ctl does the same)."""
        deadline = time.monotonic() + _START_PATIENCE_S
        pause_s = 0.01
        while time.monotonic() < deadline:
            if running.returncode is not None:
                raise CannotStart(f"PostgreSQL does not start: {self._last_words()} (see {self._log})")
            if _is_ready(lock, running.pid):
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.2)
        raise CannotStart(f"PostgreSQL is not ready after {_START_PATIENCE_S:.0f} s (see {self._log})")

    def _last_words(self) -> str:
        text = self._log.read_bytes()[self._log_start :].decode(errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        told = [line for line in lines[-20:] if "FATAL" in line or "error:" in line] or lines[-1:]
        return told[-1].split("FATAL:")[-1].strip() if told else "it said nothing"


@contextlib.asynccontextmanager
async def running(root: Path, *, durable: bool = True, max_connections: int = 100) -> AsyncIterator[str]:
    """A cluster for the block's time; its dsn. Not restarted: that is the supervisor's work."""
    cluster = Cluster(root, durable=durable, max_connections=max_connections)
    try:
        await cluster.start()
        yield cluster.dsn
    finally:
        await cluster.stop()


@contextlib.contextmanager
def running_sync(root: Path, *, durable: bool = True, max_connections: int = 100) -> Iterator[str]:
    """The same where no loop runs: fixtures of a whole test run, programs."""
    loop = asyncio.new_event_loop()
    block = running(root, durable=durable, max_connections=max_connections)
    try:
        dsn = loop.run_until_complete(block.__aenter__())
        try:
            yield dsn
        finally:
            loop.run_until_complete(block.__aexit__(None, None, None))
    finally:
        loop.close()


def _short_folder() -> str:
    usual = tempfile.gettempdir()
    return usual if len(usual) < 70 else "/tmp"  # noqa: S108 - mkdtemp makes a folder that only we may enter


def _environment() -> dict[str, str]:
    """Ours without what would steer PostgreSQL, and without our secrets."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "REELWEB_", "LC_", "LANG"))
    } | {"LC_ALL": "C.UTF-8"}


def _give(data: Path, found: Binaries) -> None:
    """Make `data` belong to the user who will run it, where that is not us."""
    if found.user is None or data.stat().st_uid == found.user[0]:
        return
    for folder, _, names in os.walk(data):
        os.chown(folder, *found.user)
        for name in names:
            os.chown(Path(folder, name), *found.user, follow_symlinks=False)


def _is_ready(lock: Path, pid: int) -> bool:
    """The eighth line of PostgreSQL's lock file (miscadmin.h, LOCK_FILE_LINE_PM_STATUS)."""
    with contextlib.suppress(FileNotFoundError, IndexError):
        lines = lock.read_text("utf-8").splitlines()
        return lines[0] == str(pid) and lines[7].strip() == "ready"
    return False


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
