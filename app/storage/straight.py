"""The greater part of a large object goes to the disk past the page cache (open(2), O_DIRECT).

Writing into the cache costs a page for every four kibibytes beside the copy, and throws out what others will read again.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterable
from typing import Final

import numpy as np

AFTER: Final = 16 << 20  # bytes of an object: its beginning, which is looked at first, stays in memory
BLOCK: Final = 4 << 10  # a multiple of what any disk writes at a time
_DIRECT: Final[int] = getattr(os, "O_DIRECT", 0)


class Straight:
    """The rest of a file that is open and written so far, by way of one buffer, which takes at most `size` at a time.

    There each byte stands as far from the beginning of a block as in the file: whole blocks are written as they lie.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._buffer = np.frombuffer(mmap.mmap(-1, size + 2 * BLOCK), np.uint8)
        self._start = self._stop = os.lseek(descriptor, 0, os.SEEK_CUR) % BLOCK
        self._can = bool(_DIRECT)

    def write(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write the next bytes, but for a last block that is not whole yet."""
        self._stage(pieces)
        self._write(min(-self._start % BLOCK, self._stop - self._start), 0)  # to where the next block begins
        if whole := (self._stop - self._start) // BLOCK * BLOCK:
            self._write(whole, _DIRECT if self._can else 0)

    def finish(self) -> None:
        """Write the rest."""
        self._write(self._stop - self._start, 0)

    def _stage(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        left, first = self._stop - self._start, self._start % BLOCK
        self._buffer[first : first + left] = self._buffer[self._start : self._stop]
        self._start, self._stop = first, first + left
        for piece in pieces:
            begin, self._stop = self._stop, self._stop + len(piece)
            # numpy lets others run while it copies.
            np.copyto(self._buffer[begin : self._stop], np.frombuffer(piece, np.uint8))

    def _write(self, length: int, how: int) -> None:
        ends = self._start + length
        self._turn(how)
        while self._start < ends:
            try:
                self._start += os.write(self._descriptor, self._buffer[self._start : ends].data)
            except OSError as error:
                if error.errno != errno.EINVAL or not how:
                    raise
                self._can, how = False, 0  # not on this file system, or not on from where the disk stopped
                self._turn(how)

    def _turn(self, how: int) -> None:
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        if flags & _DIRECT == how:
            return
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags ^ _DIRECT)
        except OSError:
            if not how:
                raise
            self._can = False
