"""How a file becomes an object: without a name until it is whole, or under another one where that cannot be.

Either way a name that outlives a power cut stands for all of the bytes, so nobody ever adopts half an object.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from typing import Final, Protocol

from uuid_utils import uuid7

_WRITE: Final = 2  # SYNC_FILE_RANGE_WRITE
_WAIT_WRITE_WAIT: Final = 7  # the same with SYNC_FILE_RANGE_WAIT_BEFORE and _WAIT_AFTER
_FLAGS: Final = os.O_WRONLY | os.O_CLOEXEC
_WHOLE: Final = (ctypes.c_int64(0), ctypes.c_int64(0))
_CANNOT: Final = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ESPIPE})


def _without(*_: object) -> int:
    ctypes.set_errno(errno.ENOSYS)
    return -1


_sync_file_range: Callable[..., int] = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", _without)


class Naming(Protocol):
    """The way of one file system."""

    is_local: bool
    """Bytes may go past the page cache; a server of files would be waited for at each write."""

    def create(self) -> tuple[int, str]:
        """A new file, open for writing, and the name it has until it is an object; empty when it has none."""

    def name(self, descriptor: int, path: str, final: str) -> None:
        """Give the file, all of which is written, its name, whoever has it (a record may be written twice).

        Neither is durable before file and folder are synced.
        """


class Linked:
    """No name until the last: nothing is left of an upload that dies, and file and name share one journal commit.

    ext4 and XFS commit in order: bytes that reached the disk before the link was made are there whenever it is.
    """

    is_local = True

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def create(self) -> tuple[int, str]:
        """A file that only its descriptor leads to."""
        return os.open(self._folder, _FLAGS | os.O_TMPFILE, 0o600), ""

    def name(self, descriptor: int, path: str, final: str) -> None:
        """Bring the bytes to the disk, then link."""
        if not _written(descriptor, _WAIT_WRITE_WAIT):
            os.fdatasync(descriptor)
        try:
            _link(descriptor, final)
        except FileExistsError:
            path = f"{self._folder}/{uuid7()}"
            _link(descriptor, path)
            os.rename(path, final)


def _link(descriptor: int, path: str) -> None:
    # Only when it is given a descriptor does Python ask the kernel to follow the link below /proc.
    os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor)


class Renamed:
    """A temporary name, and a commit of its own before the file gets the other one."""

    is_local = False

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def create(self) -> tuple[int, str]:
        """A file that a sweeper finds when its upload dies."""
        path = f"{self._folder}/{uuid7()}"
        return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600), path

    def name(self, descriptor: int, path: str, final: str) -> None:
        """Sync, then rename."""
        os.fdatasync(descriptor)
        os.rename(path, final)


def write_out(descriptor: int) -> None:
    """Let the disk write what the file has so far, and do not wait: where it cannot, the sync does all of it."""
    _written(descriptor, _WRITE)


def _written(descriptor: int, how: int) -> bool:
    """False where this cannot be done. What the disk refuses is told once: a sync after it would know of no error."""
    if not _sync_file_range(descriptor, *_WHOLE, how):
        return True
    error = ctypes.get_errno()
    if error not in _CANNOT:
        raise OSError(error, os.strerror(error))
    return False


def probed(folder: str) -> Naming:
    """The better way, if a file in this folder can go it: NFS, FUSE and older overlays cannot."""
    linked, trial = Linked(folder), f"{folder}/{uuid7()}"
    try:
        descriptor, _ = linked.create()
        try:
            linked.name(descriptor, "", trial)
        finally:
            os.close(descriptor)
        os.unlink(trial)
    except OSError:
        return Renamed(folder)
    return linked
