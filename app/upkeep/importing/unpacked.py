"""A tar file's bytes, compressed or not, for a reader that only goes forward: whatever they hold, memory is bounded."""

from __future__ import annotations

import bz2
import lzma
import os
import zlib
from collections.abc import Callable
from typing import BinaryIO, Final, Protocol

from app.upkeep.importing.items import CHANGED, Unreadable, look

DAMAGED: Final = "The archive is damaged."
_BOMB: Final = "The archive expands to far more than it is."
_BLOCK: Final = 64 << 10
_LZMA_MEMORY: Final = 128 << 20  # what `xz -9` needs is half of it
_RATIO: Final = 200
_FREE: Final = 1 << 30  # an archive may always expand to so much


class Room:
    """How much an archive may still expand to: a bomb ends here, and what came before it stays."""

    def __init__(self, size: int) -> None:
        self._left = max(_FREE, _RATIO * size)

    def take(self, size: int) -> None:
        """So many bytes came out of it."""
        self._left -= size
        if self._left < 0:
            raise Unreadable(_BOMB)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the manners of the other two."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


_MAKE: Final[dict[str, Callable[[], _Decompressor]]] = {
    "gzip": _Gzip,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _LZMA_MEMORY),
}


class Unpacked:
    """What a compressed file holds, read forward; several members in a row are one stream."""

    def __init__(self, raw: BinaryIO, packing: str) -> None:
        self._raw, self._make = raw, _MAKE[packing]
        self._inner: _Decompressor | None = None
        self._input = b""
        self._is_over = False

    def read(self, size: int) -> bytes:
        """Up to so many bytes; none at the end."""
        try:
            while not self._is_over:
                if piece := self._step(size):
                    return piece
        except (zlib.error, lzma.LZMAError, EOFError, ValueError, OSError) as error:
            raise Unreadable(DAMAGED) from error
        return b""

    def _step(self, size: int) -> bytes:
        data = b""
        if self._inner is None or self._inner.needs_input:
            data, self._input = self._input or self._raw.read(_BLOCK), b""
        if self._inner is None:
            self._is_over = not data
            data = data.lstrip(b"\0")  # padding of a tape
            if not data:
                return b""
            self._inner = self._make()
        piece = self._inner.decompress(data, size)
        if self._inner.eof:
            self._input, self._inner = self._inner.unused_data, None
        elif not piece and not data and self._inner.needs_input:
            raise EOFError
        return piece


class Forward:
    """The file object that `tarfile` is given; a member's header may take so much and no more."""

    HEADERS: Final = 1 << 20

    def __init__(self, raw: BinaryIO, packing: str | None, room: Room) -> None:
        self.budget = self.HEADERS
        self._raw, self._room = raw, room
        self._unpacked = Unpacked(raw, packing) if packing else None
        self._at = 0

    @property
    def is_packed(self) -> bool:
        """It can only be read forward."""
        return self._unpacked is not None

    def tell(self) -> int:
        """Where it stands in what is unpacked."""
        return self._at

    def close(self) -> None:
        """Close the file on disk."""
        self._raw.close()

    @property
    def consumed(self) -> int:
        """How far the file on disk is read."""
        return self._raw.tell()

    def seek(self, at: int) -> int:
        """Go on from there: by reading where it must be."""
        if self._unpacked is None:
            self._at = self._raw.seek(at)
            return at
        if at < self._at:
            raise Unreadable(DAMAGED)
        while self._at < at:
            if not self._take(min(_BLOCK, at - self._at)):
                break
        return self._at

    def read(self, size: int) -> bytes:
        """What belongs to headers: tarfile would hold whatever they announce."""
        self.budget -= size
        if self.budget < 0:
            raise Unreadable(DAMAGED)
        return self.take(size)

    def finish(self) -> None:
        """Read what is compressed to its end, where its checksum stands."""
        while self.is_packed and self._take(_BLOCK):
            pass

    def take(self, size: int) -> bytes:
        """Exactly so many bytes, fewer at the end."""
        pieces, left = [], size
        while left and (piece := self._take(left)):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def _take(self, size: int) -> bytes:
        if self._unpacked is None:
            piece = self._raw.read(size)
        else:
            piece = self._unpacked.read(size)
            self._room.take(len(piece))
        self._at += len(piece)
        return piece


def opened(path: str, seen: tuple[int, ...]) -> BinaryIO:
    """The file, if it is still the one that was seen."""
    raw = open(path, "rb")  # noqa: SIM115 - whoever asked closes it
    if look(os.fstat(raw.fileno())) != seen:
        raw.close()
        raise Unreadable(CHANGED)
    return raw
