"""`reelweb serve` as a real process, watched from outside: what it prints, what it starts, what it leaves."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]


class Server:
    """One `reelweb serve` on a free port over `data_dir`, and everything that belongs to it."""

    def __init__(
        self,
        data_dir: Path,
        *,
        cwd: Path | None = None,
        prefix: Sequence[str] = (),
        arguments: Sequence[str] = (),
        **settings: str,
    ) -> None:
        self.data_dir = data_dir
        self.mark = f"REELWEB-{uuid.uuid4()}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("REELWEB_")}
        environment |= {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "REELWEB_DATA_DIR": "" if cwd and data_dir == cwd / "reelweb-data" else str(data_dir),
            "REELWEB_PORT": "0",
            "TEST_MARK": self.mark,
        }
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-P", "-m", "app", "serve", *arguments],
            cwd=cwd,
            env=environment | {f"REELWEB_{name.upper()}": value for name, value in settings.items()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=lines.extend, args=(stream,), daemon=True)
            for lines, stream in ((self.out, self.process.stdout), (self.err, self.process.stderr))
            if stream is not None
        ]
        for reader in self._readers:
            reader.start()

    @property
    def url(self) -> str:
        """The server's root, once it is ready."""
        told = re.search(r"Page +(\S+)/\n", "".join(self.out))
        assert told, self.told
        return told[1]

    @property
    def told(self) -> str:
        return "".join([*self.out, *self.err])

    def until_ready(self) -> Server:
        until(lambda: any("Upload" in line for line in self.out) or self.process.poll() is not None, self)
        assert self.process.poll() is None, self.told
        return self

    def answers(self) -> bool:
        """True when /readyz answers 200."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def child(self, kind: str) -> psutil.Process | None:
        """The child `web-worker`, `jobs` or `postgres`, if it runs now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                command = child.cmdline()
                if kind in command or (kind == "postgres" and command and command[0].endswith("/postgres")):
                    return child
        return None

    def dsn(self) -> str:
        return f"postgresql://reelweb@/postgres?host={(self.data_dir / 'socket').readlink()}"

    def left_behind(self) -> list[psutil.Process]:
        """Every process that has our mark, our folder as its own, or its name in the command."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                return False
            folder = str(self.data_dir)
            return process.environ().get("TEST_MARK") == self.mark or folder in " ".join(
                [process.cwd(), *process.cmdline()]
            )
        return False

    def tell(self, number: signal.Signals) -> int:
        """Send a signal to the supervisor and wait for its end; the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        status = self.process.wait(60)
        for reader in self._readers:
            reader.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return status

    def close(self) -> None:
        """End it if it still runs; harmless twice."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.wait()


@contextlib.contextmanager
def serving(
    data_dir: Path,
    *,
    cwd: Path | None = None,
    prefix: Sequence[str] = (),
    arguments: Sequence[str] = (),
    **settings: str,
) -> Iterator[Server]:
    """A server for the block's time, ready at its start."""
    server = Server(data_dir, cwd=cwd, prefix=prefix, arguments=arguments, **settings)
    try:
        yield server.until_ready()
    finally:
        server.close()


def command(data_dir: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`reelweb ARGUMENTS` over this folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REELWEB_")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "app", *arguments],
        env=environment
        | {"PYTHONPATH": str(ROOT), "REELWEB_DATA_DIR": str(data_dir)}
        | {f"REELWEB_{name.upper()}": value for name, value in settings.items()},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def until(condition: Callable[[], bool], server: Server | None = None, patience_s: float = 60) -> None:
    """Wait for a condition; a failure shows what the server said."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, server.told if server else "waited in vain"
        time.sleep(0.02)
