"""Where the figures of several processes lie: in memory that is theirs already, so that no full disk ends one.

prometheus_client writes them through mapped files, and a page that a file system has no room for is a SIGBUS.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from struct import Struct
from typing import Final

FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"  # the library's own name
SHARED: Final = Path("/dev/shm")  # noqa: S108 - a folder of our own in it, that only we may enter
_KINDS: Final = ("counter", "histogram", "gauge_livesum")
_SIZE: Final = 256 << 10  # more than all routes, methods and statuses take
_used: Final = Struct("<i").unpack


def fresh(data_dir: Path, shared: Path = SHARED) -> Path | None:
    """An empty folder for a server over `data_dir`, the same at each start; None where there is no room for one."""
    known = data_dir.stat()
    for folder in (shared / f"reelweb-{known.st_dev:x}-{known.st_ino:x}", data_dir / "metrics"):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(mode=0o700)
        except OSError:  # no shared memory, somebody else's folder, or a full disk
            continue
        return folder
    return None


def reserve() -> None:
    """Take this process's room before the library does; where there is none, its figures stay its own."""
    folder = os.environ.get(FOLDER)
    if not folder:
        return
    paths = [_path(folder, kind, os.getpid()) for kind in _KINDS]
    try:
        for path in paths:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, _SIZE)
            finally:
                os.close(descriptor)
    except OSError:
        for path in paths:
            path.unlink(missing_ok=True)
        del os.environ[FOLDER]


def release(folder: str, pid: int) -> None:
    """A process has ended: its gauges go, of its counters what they hold stays."""
    _path(folder, "gauge_livesum", pid).unlink(missing_ok=True)
    for kind in ("counter", "histogram"):
        path = _path(folder, kind, pid)
        try:
            with path.open("rb") as file:
                (used,) = _used(file.read(4))
            if used:
                os.truncate(path, used)
            else:
                path.unlink()
        except OSError:  # it had none
            continue


def _path(folder: str, kind: str, pid: int) -> Path:
    return Path(folder, f"{kind}_{pid}.db")
