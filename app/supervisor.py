"""Owns the processes: the lock, PostgreSQL, migrations, web workers and jobs; imports no application code.

Whatever ends first, nothing stays behind: every child dies with us (app/embedded/trampoline.py), a dead
child is started again, and at a stop the web goes first, then the jobs, then PostgreSQL.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
import signal
import site
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import app
from app import limits, metrics
from app import settings as knobs
from app.embedded import CannotStart, process
from app.embedded.cluster import Cluster
from app.settings import Settings

_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _STEADY_S = 0.1, 10.0, 30.0
_DEATHS_BEFORE_READY = 5
_FIRST_LOOK_S, _LAST_LOOK_S = 0.03, 2.0
_STOP_MARGIN_S = 2.0  # a child ends by itself after the same time-out, we only make sure
_ECHO_S = 1.0  # timeout(1) and others tell both us and our group: that is one wish
_RIVAL_PATIENCE_S, _REMAINS_PATIENCE_S = 1.0, 60.0


class Kept(Protocol):
    """A process that is started again when it ends."""

    name: str

    async def start(self) -> None:
        """Return when it runs."""

    async def wait(self) -> str:
        """Return when it has ended, and tell how."""

    async def stop(self) -> None:
        """End it; harmless when it does not run."""


class Child:
    """One `reelweb COMMAND`, a process of our own program."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        pass_fds: Sequence[int],
        patience_s: float,
    ) -> None:
        self.name = name
        self.deaths = 0
        self._command = (sys.executable, "-P", "-m", "app", *command)
        self._env = env
        self._pass_fds = tuple(pass_fds)
        self._patience_s = patience_s
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it; whether it is ready is another question."""
        self._process = await process.spawn(self._command, env=self._env, pass_fds=self._pass_fds)

    async def wait(self) -> str:
        """How it ended; what it started itself is ended too."""
        assert self._process is not None
        status = await self._process.wait()
        self.deaths += 1
        self._clean_up(self._process.pid)
        return f"status {status}"

    async def stop(self) -> None:
        """Let it finish what it does, for a time."""
        if self._process is not None:
            try:
                await process.end(self._process, (signal.SIGTERM, self._patience_s))
            finally:
                self._clean_up(self._process.pid)

    def _clean_up(self, pid: int) -> None:
        process.end_group(pid)
        if metrics.FOLDER in self._env:
            metrics.release(self._env[metrics.FOLDER], pid)


def run(settings: Settings) -> int:
    """Serve until told to stop; the exit status."""
    os.umask(0o077)  # what we write is about patients
    for warning in [*knobs.warnings(settings, os.environ), *limits.warnings()]:
        _tell("warning", warning)
    try:
        asyncio.run(_until_told(settings))
    except (CannotStart, OSError) as error:
        _tell("error", str(error))
        return 1
    return 0


async def _until_told(settings: Settings) -> None:
    """SIGINT, SIGTERM or SIGHUP ends the block in order; a later one cuts short what it then waits for."""
    serving = asyncio.ensure_future(_serve(settings))
    told_at = -math.inf

    def stop() -> None:
        nonlocal told_at
        if time.monotonic() - told_at > _ECHO_S:
            told_at = time.monotonic()
            serving.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            asyncio.get_running_loop().add_signal_handler(number, stop)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def _serve(settings: Settings) -> None:
    began = time.monotonic()
    folder = settings.data_dir.absolute()
    async with contextlib.AsyncExitStack() as stack:
        lock = await stack.enter_async_context(_owned(folder))
        if settings.storage_bucket is None:
            _make(settings.storage_folder)
        sockets = _bound(settings.host, settings.port, settings.workers)
        stack.callback(_close, sockets)
        port = sockets[0].getsockname()[1]
        figures = metrics.fresh(folder)
        if figures is not None:
            stack.callback(shutil.rmtree, figures, ignore_errors=True)
        environment = _environment(folder, port, figures)
        if settings.database_url is None:
            connections = settings.workers * (settings.pool_size + 6) + 20  # app/index/pool.py
            database = Cluster(folder, max_connections=connections, pass_fds=(lock,))
            await stack.enter_async_context(_kept(database))
            for aside in database.set_aside:
                _tell("warning", f"The database of another PostgreSQL is set aside: {aside} can be removed.")
            environment["REELWEB_DATABASE_URL"] = database.dsn
        patience_s = settings.shutdown_timeout_s + _STOP_MARGIN_S
        await _migrate(Child("migrate", ["migrate"], environment, [lock], patience_s))
        jobs = Child("jobs", ["jobs"], environment, [lock], patience_s)
        await stack.enter_async_context(_kept(jobs))
        web = [
            Child(f"web-{number}", ["web-worker", "--fd", str(fd)], environment, [lock, fd], patience_s)
            for number, fd in enumerate(listening.fileno() for listening in sockets)
        ]
        await stack.enter_async_context(_kept(*web))
        stack.callback(_close, sockets)  # first of all: who comes now is refused and not kept waiting
        await _until_ready(sockets[0], web)
        _announce(settings, port, time.monotonic() - began)
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def _kept(*things: Kept) -> AsyncIterator[None]:
    """Run them for the block's time, each started again when it ends; stop all together."""
    keepers: list[asyncio.Task[None]] = []
    try:
        for thing in things:
            await thing.start()
        keepers += [asyncio.create_task(_keep(thing)) for thing in things]
        yield
    finally:
        for keeper in keepers:
            keeper.cancel()
        try:
            await asyncio.gather(*keepers, return_exceptions=True)
        finally:
            await asyncio.gather(*(thing.stop() for thing in things))


async def _keep(thing: Kept) -> None:
    pause_s = _FIRST_PAUSE_S
    while True:
        since = time.monotonic()
        ended = await thing.wait()
        if time.monotonic() - since > _STEADY_S:
            pause_s = _FIRST_PAUSE_S
        running = False
        while not running:
            _tell(
                "warning",
                "A process ended and is started again.",
                name=thing.name,
                ended=ended,
                pause_s=pause_s,
            )
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            try:
                await thing.start()
                running = True
            except (CannotStart, OSError) as error:
                ended = str(error)


async def _migrate(child: Child) -> None:
    try:
        await child.start()
        ended = await child.wait()
    finally:
        await child.stop()
    if ended != "status 0":
        raise CannotStart("The database could not be brought to this version: the reason stands above.")


@contextlib.asynccontextmanager
async def database(settings: Settings, *, alone: bool) -> AsyncIterator[str]:
    """The database of a command beside the server, or instead of it: the server's, else our own while the block lasts.

    CannotStart when a server runs and the command must be `alone`.
    """
    if settings.database_url is not None:
        yield settings.database_url
        return
    folder = settings.data_dir.absolute()
    if not folder.is_dir():  # a mistyped one shall not become an archive
        raise CannotStart(f"There is no {folder}: REELWEB_DATA_DIR is the folder that a server has made.")
    async with contextlib.AsyncExitStack() as stack:
        try:
            lock = await stack.enter_async_context(_owned(folder))
        except CannotStart:
            if alone:
                raise
            yield Cluster(folder).dsn
            return
        own = Cluster(folder, pass_fds=(lock,))
        await stack.enter_async_context(_kept(own))
        yield own.dsn


@contextlib.asynccontextmanager
async def _owned(folder: Path) -> AsyncIterator[int]:
    """The folder, ours alone; yields the descriptor that keeps it locked as long as any child has it.

    Two locks: one that only a living supervisor holds, so that a second server knows at once, and one that
    every child inherits, so that a new server waits for the remains of one that was killed.
    """
    with contextlib.ExitStack() as stack:
        own, inherited = _locks(folder)
        stack.callback(os.close, own)
        stack.callback(os.close, inherited)
        if not await _locked(own, _RIVAL_PATIENCE_S):
            raise CannotStart(f"Another reelweb serves {folder}.")
        if not await _locked(inherited, _REMAINS_PATIENCE_S):
            raise CannotStart(f"The database of the reelweb that served {folder} before is still going down.")
        yield inherited


def _make(storage: Path) -> None:
    """The folder of the objects; who cannot write there is told at once. Without room it can still be read."""
    temporary = storage / "tmp"
    try:
        temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise CannotStart(f"The storage folder {storage} cannot be used: {error.strerror}.") from error
    else:
        if not os.access(temporary, os.W_OK | os.X_OK):
            raise CannotStart(f"The storage folder {storage} cannot be written.")


def _locks(folder: Path) -> list[int]:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return [os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("lock", "lock.children")]
    except OSError as error:
        raise CannotStart(f"The folder {folder} cannot be used: {error.strerror}.") from error


async def _locked(descriptor: int, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.02)
        else:
            return True


def _bound(host: str, port: int, count: int) -> list[socket.socket]:
    """One bound socket for each web worker, which share the port; the workers listen."""
    sockets: list[socket.socket] = []
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if port:  # sharing would hide another server on this port
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        for _ in range(count):
            listening = socket.socket(family)
            sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.bind(address)
            address = listening.getsockname()
    except OSError as error:
        _close(sockets)
        raise CannotStart(_why_not(host, port, error)) from error
    return sockets


def _close(sockets: Sequence[socket.socket]) -> None:
    for listening in sockets:
        listening.close()


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is in use: end the program that listens there, or set REELWEB_PORT."
    return f"{host} port {port} cannot be listened on: {error.strerror}."


def _environment(folder: Path, port: int, figures: Path | None) -> dict[str, str]:
    """What the children get: our settings, made absolute, and a fresh folder for their metrics."""
    environment = os.environ | {"REELWEB_DATA_DIR": str(folder), "REELWEB_PORT": str(port)}
    environment.pop(metrics.FOLDER, None)
    if figures is not None:
        environment[metrics.FOLDER] = str(figures)
    home = str(Path(app.__file__).parents[1])
    if home not in site.getsitepackages():  # -P keeps a stray app.py of the working directory out
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    return environment


async def _until_ready(listening: socket.socket, web: Sequence[Child]) -> None:
    pause_s = _FIRST_LOOK_S
    while not await _is_ready(*listening.getsockname()[:2]):
        if any(child.deaths >= _DEATHS_BEFORE_READY for child in web):
            raise CannotStart("The web process ends again and again: the reason stands above.")
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.1, _LAST_LOOK_S)  # each look that fails is a line in the log


async def _is_ready(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(_reachable(host), port)
            try:
                writer.write(
                    f"GET /readyz HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n".encode()
                )
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def _announce(settings: Settings, port: int, took_s: float) -> None:
    host = _reachable(settings.host)
    root = settings.public_url or f"http://{f'[{host}]' if ':' in host else host}:{port}"
    token = '-H "Authorization: Bearer $TOKEN" ' if settings.tokens_file else ""
    sys.stdout.write(
        f"reelweb {app.__version__} is ready after {took_s:.1f} s; its data is in {settings.data_dir}.\n"
        f"  DICOMweb  {root}/dicom-web\n"
        f"  Page      {root}/\n"
        f"  Upload    curl {token}-H 'Content-Type: application/dicom' --data-binary @FILE {root}/dicom-web/studies\n"
    )
    sys.stdout.flush()


def _tell(level: str, event: str, **fields: object) -> None:
    """One line to stderr, in the words of the settings' log_format."""
    if os.environ.get("REELWEB_LOG_FORMAT", "").lower() == "json":
        line = json.dumps({"level": level, "event": event, **fields})
    else:
        line = " ".join([f"reelweb: {event}", *(f"{name}={value}" for name, value in fields.items())])
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
