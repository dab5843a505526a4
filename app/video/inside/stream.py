"""The stored stream as FFmpeg reads it, and the container in it: one named demuxer, and nothing else is opened."""

from __future__ import annotations

import fcntl
import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from mmap import PAGESIZE
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

import av
import av.subtitles.stream  # would be loaded later, when nothing can be opened any more

from app.video.inside import END, MESSAGE, PIECE, READ, Reason

if TYPE_CHECKING:
    from av.container import InputContainer

ASKED: Final = 256 << 10
"""Bytes asked for at a time: what is copied several times on its way stays near the processor, and a quarter of the
pipe holds it, so that neither side waits for the other's turn."""
VIDEO: Final = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video"})


class Impossible(Exception):
    """There is no product, for one of the known reasons."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason


class Source(NamedTuple):
    """The stored stream as the parent knows it."""

    demuxer: str
    length: int
    pictures_per_s: Fraction | None = None
    """Of a bare stream, which keeps no time."""


class Stream:
    """The stored stream, read through the parent in pieces of `piece` bytes; `before` it stands what it lacks."""

    def __init__(self, length: int, piece: int, before: bytes = b"") -> None:
        self.piece = piece
        self.taken = 0
        self.before = before
        self._length = length + len(before)
        self._position = 0
        self._next = -1
        self._coming = (0, 0)
        # The parent answers before it listens again: what is asked for ahead has to find room, in whole pages.
        self._room = fcntl.fcntl(0, fcntl.F_GETPIPE_SZ) - 2 * PAGESIZE

    def read(self, size: int) -> bytes:
        """Ask for the next bytes; b'' at the end."""
        size = min(size, self.piece, self._length - self._position)
        if size <= 0:
            return b""
        if self._position < len(self.before):
            data = self.before[self._position : self._position + size]
            self._position += len(data)
            return data
        data = self._asked(self._position - len(self.before), size)
        self._position += size
        self.taken += size
        return data

    def _asked(self, at: int, size: int) -> bytes:
        """These bytes; to one who goes straight on the next ones come while these are worked on."""
        if self._coming != (at, size):
            self.leave()
            tell(READ, at, size)
        data = _received(size)
        goes_on, self._next = at == self._next, at + size
        left = min(size, self._length - len(self.before) - self._next)
        self._coming = (self._next, left) if goes_on and 0 < left <= self._room else (0, 0)
        if self._coming[1]:
            tell(READ, *self._coming)
        return data

    def leave(self) -> None:
        """Take what is still coming and not wanted: who reads next would take it for the answer."""
        _received(self._coming[1])
        self._coming = (0, 0)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere, also beyond the end."""
        self._position = (0, self._position, self._length)[whence] + offset
        return self._position

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position


def _received(size: int) -> bytes:
    data = sys.stdin.buffer.read(size)
    if len(data) < size:  # nobody waits for us any more
        os._exit(1)
    return data


def tell(what: bytes, offset: int = 0, length: int = 0, data: bytes | bytearray | memoryview = b"") -> None:
    """A message to the parent; waits until it is taken."""
    parts = [memoryview(MESSAGE.pack(what, offset, length)), memoryview(data)]
    while parts:
        sent = os.writev(1, parts)
        while parts and sent >= len(parts[0]):
            sent -= len(parts.pop(0))
        if parts:
            parts[0] = parts[0][sent:]


def give(piece: bytes | bytearray | memoryview) -> None:
    """The product's next bytes."""
    tell(PIECE, 0, len(piece), piece)


def conclude(last: bytes | bytearray | memoryview, where: int = 0) -> None:
    """The product is whole; `last`, and a number, conclude it."""
    tell(END, where, len(last), last)


# Of what a program stream holds FFmpeg guesses, and mistakes H.264 for sound: its map of streams (ISO/IEC 13818-1
# 2.5.4) says so where the stream has none. A stream that has one of its own is believed, for it comes later.
_MAPS: Final = tuple(
    bytes.fromhex("000001bc 004a e0ff 0000 0040")
    + b"".join(bytes((kind, stream, 0, 0)) for stream in range(0xE0, 0xF0))
    + bytes(4)
    for kind in (0x1B, 0x24)
)


@contextmanager
def opened(
    source: Source, codecs: Iterable[str] = VIDEO
) -> Iterator[tuple[Stream, InputContainer, av.VideoStream]]:
    """The container by this demuxer alone, and its video; no decoder but these may be opened."""
    for before in (b"", *(_MAPS if source.demuxer == "mpeg" else ())):
        stream = Stream(source.length, ASKED, before)
        with _container(stream, source, codecs) as container:
            video = container.streams.best("video")
            if isinstance(video, av.VideoStream) and video.codec_context.width:
                yield stream, container, video
                return
        stream.leave()
    raise Impossible(Reason.NOTHING)


def _container(stream: Stream, source: Source, codecs: Iterable[str]) -> InputContainer:
    return av.open(
        stream,
        "r",
        format=source.demuxer,
        options={
            "format_whitelist": av.ContainerFormat(source.demuxer, "r").name,
            "codec_whitelist": ",".join(codecs),
            "protocol_whitelist": "none",
        },
        metadata_errors="replace",
        buffer_size=stream.piece,
        io_open=refuse,
    )


def refuse(*_: object) -> NoReturn:
    """Nothing is opened that a stream names."""
    raise PermissionError
