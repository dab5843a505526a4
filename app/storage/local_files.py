"""Open files of the local folder: read without waiting where the kernel can, kept open by key."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Final

NOWAIT: Final[int] = getattr(
    os, "RWF_NOWAIT", 0
)  # Linux: fail with EAGAIN where the page cache does not have it


_BYTE: Final = [bytearray(1)]  # to be read into and never looked at
_WINDOW: Final = 128 << 10  # what the kernel reads ahead by default: what is in memory is so in windows


class OpenFile:
    """One object open for reading. Whoever reads holds it, and with the last holder it closes.

    So a file dropped from the cache while a thread reads it stays open until that read has ended.
    """

    __slots__ = ("_descriptor",)

    def __init__(self, path: Path) -> None:
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def fileno(self) -> int:
        """Its descriptor."""
        return self._descriptor

    def has_cached(self, offset: int, length: int) -> bool:
        """Whether these bytes are there and in memory, as far as a look into each window tells."""
        last = offset + length - 1
        try:
            for at in range(offset, last, _WINDOW):
                os.preadv(self._descriptor, _BYTE, at, NOWAIT)
            return os.preadv(self._descriptor, _BYTE, last, NOWAIT) == 1
        except OSError:  # as in read_cached
            return False

    def read_cached(self, buffer: bytearray | memoryview, offset: int) -> int:
        """Fill the buffer's beginning with what is in memory; never waits for the disk."""
        try:
            return os.preadv(self._descriptor, [buffer], offset, NOWAIT)
        except OSError:  # EAGAIN: not in memory; anything else the waiting read will meet and tell
            return 0

    def read(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer, waiting for the disk; less only where the object ends."""
        done = 0
        while done < len(buffer):
            got = os.preadv(self._descriptor, [buffer[done:]], offset + done)
            if not got:
                break
            done += got
        return done


class OpenFiles:
    """The files read last, by key, at most `limit`; to be used on one thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._files: OrderedDict[str, OpenFile] = OrderedDict()

    def get(self, key: str) -> OpenFile | None:
        """The open file, now the one used last."""
        file = self._files.get(key)
        if file is not None:
            self._files.move_to_end(key)
        return file

    def put(self, key: str, file: OpenFile) -> None:
        """Keep it; the one unused for longest goes."""
        self._files[key] = file
        self._files.move_to_end(key)
        if len(self._files) > self._limit:
            self._files.popitem(last=False)

    def drop(self, key: str) -> None:
        """Forget the file of an object that is no more."""
        self._files.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._files.clear()


def can_nowait(path: Path) -> bool:
    """Whether reads of this file may say `EAGAIN`; overlayfs and tmpfs of many kernels refuse the flag."""
    if not NOWAIT:
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.preadv(descriptor, [bytearray(1)], 0, NOWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
