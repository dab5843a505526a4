"""One SeaweedFS for the whole run: a real S3 on this machine, which ends when we do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from app.embedded import trampoline

if TYPE_CHECKING:
    from obstore.store import S3Config

BUCKET, ACCESS_KEY, SECRET_KEY = "dicom", "reelweb", "reelweb-secret"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_REGION": "us-east-1",
}
_PORTS = (
    *("master.port", "volume.port", "filer.port", "s3.port"),
    *("s3.port.iceberg", "s3.port.lance", "admin.port"),
)
_GRPC = 10_000  # each port has a second one so far above it


@dataclass
class Seaweed:
    """A running server."""

    port: int
    command: tuple[str | Path, ...]
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """As a power cut of its machine."""
        _end(self.process)

    def begin_again(self) -> None:
        """Over the same folder, at the same ports."""
        self.process = _begun(self.command, self.log)
        assert _is_ready(self), self.log.read_text("utf-8", "replace")[-2000:]


@contextmanager
def running() -> Iterator[Seaweed]:
    """Serve an empty bucket while the block lasts."""
    with tempfile.TemporaryDirectory(prefix="reelweb-s3-", ignore_cleanup_errors=True) as folder:
        log = Path(folder, "log")
        for _ in range(3):  # another program may take a port before it does
            server = _started(folder, log)
            try:
                if _is_ready(server):
                    yield server
                    return
            finally:
                _end(server.process)
        raise RuntimeError(f"SeaweedFS did not start: {log.read_text('utf-8', 'replace')[-2000:]}")


def _started(folder: str, log: Path) -> Seaweed:
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    options = (
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}", "-s3.autoCreateBucket=false"),
        *("-webdav=false", "-admin.ui=false"),
    )
    program = Path(sys.executable).with_name("weed")
    dies_with_us = (
        sys.executable,
        "-I",
        "-S",
        trampoline.__file__,
        str(os.getpid()),
        str(int(signal.SIGKILL)),
        "-",
    )
    command: tuple[str | Path, ...] = (
        *(*dies_with_us, program, "mini", f"-dir={folder}", *options),
        *(f"-{at}={port}" for at, port in ports.items()),
    )
    return Seaweed(ports["s3.port"], command, log, _begun(command, log))


def _begun(command: tuple[str | Path, ...], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            env=os.environ | CREDENTIALS,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _free_ports(count: int) -> list[int]:
    """Ports that are free, and whose second one is free too; not those the kernel gives to others."""
    found: list[int] = []
    start = 20_000 + os.getpid() * 13 % 9_000
    for port in range(start, start + 3_000):
        with ExitStack() as stack:
            try:
                for each in (port, port + _GRPC):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", each))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports")


def _is_ready(server: Seaweed) -> bool:
    config: S3Config = {
        "endpoint": server.endpoint,
        "access_key_id": ACCESS_KEY,
        "secret_access_key": SECRET_KEY,
    }
    store = S3Store(
        BUCKET, config=config, client_options={"allow_http": True}, retry_config={"max_retries": 0}
    )
    deadline = time.monotonic() + 40
    while server.process.poll() is None and time.monotonic() < deadline:
        try:
            obstore.get_range(store, "none", start=0, length=1)
        except FileNotFoundError as error:
            if "NoSuchKey" in str(error):  # the bucket comes a little later than the server
                return True
        except BaseError:
            pass
        time.sleep(0.1)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
