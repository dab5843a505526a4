"""Boxes of MP4 and QuickTime files, read in fixed memory and time (ISO/IEC 14496-12 4.2)."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from app.video import Unplayable

Buffer = bytes | bytearray | memoryview
Read = Callable[[int, int], Awaitable[Buffer]]
"""`await read(offset, length)` gives these bytes of the stream."""

MOVIE_BYTES: Final = 64 << 20  # the movie header of ten hours with sound is 36 MB
_REGIONS: Final = 1024  # boxes of a file, each a read at worst
_CHILDREN: Final = 256  # boxes in one box; real ones hold fewer than 30
_AHEAD: Final = 64 << 10  # boxes in a row and the movie header of a minute come in one read

# What a file may begin with; QuickTime knew no ftyp.
_FIRST: Final = frozenset((b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid"))
_FRAGMENTED: Final = frozenset((b"moof", b"styp", b"sidx"))


def damaged(what: str) -> Unplayable:
    """The refusal of a file whose structure contradicts itself."""
    return Unplayable(f"The video's MP4 is damaged: {what}.")


def unpack(layout: str, buffer: Buffer, offset: int = 0) -> tuple[int, ...]:
    """Big-endian numbers at `offset`; a box that ends before them is damaged."""
    try:
        return struct.unpack_from(f">{layout}", buffer, offset)
    except struct.error as error:
        raise damaged("a box is too short") from error


@dataclass(frozen=True, slots=True)
class Region:
    """Where a box of the file lies; nothing of its content was read."""

    type: bytes
    offset: int
    header: int
    size: int

    @property
    def end(self) -> int:
        """The offset behind the box."""
        return self.offset + self.size


@dataclass(slots=True)
class Box:
    """A box in memory: a payload, or the boxes inside. It is written with a size of 32 bits."""

    type: bytes
    payload: Buffer = b""
    children: list[Box] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of the box when written."""
        return 8 + len(self.payload) + sum(child.size for child in self.children)

    def write(self) -> Iterator[Buffer]:
        """The box in pieces."""
        yield struct.pack(">I4s", self.size, self.type)
        yield self.payload
        for child in self.children:
            yield from child.write()

    def all(self, kind: bytes) -> list[Box]:
        """The boxes of this type directly inside."""
        return [child for child in self.children if child.type == kind]

    def only(self, kind: bytes) -> Box:
        """The one box of this type directly inside: a second one would contradict it."""
        found = self.all(kind)
        if len(found) != 1:
            raise damaged(f"it has {len(found)} boxes '{name(kind)}' where one belongs")
        return found[0]


def name(kind: bytes) -> str:
    """A box's type, safe to print."""
    return kind.decode() if kind.isascii() and kind.decode().isprintable() else kind.hex()


def _size(buffer: Buffer, offset: int, room: int) -> tuple[int, int]:
    """The lengths of the header and of the whole box at `offset`; `room` is what is left for it."""
    header, size = 8, unpack("I", buffer, offset)[0]
    if size == 1:  # the real size follows the type
        header, size = 16, unpack("Q", buffer, offset + 8)[0]
    elif size == 0:  # up to the end
        size = room
    if not header <= size <= room:
        raise damaged(f"its box '{name(bytes(buffer[offset + 4 : offset + 8]))}' is cut off")
    return header, size


def inside(payload: Buffer, offset: int = 0) -> list[Box]:
    """The boxes in a payload from `offset`; QuickTime may end them with four zero bytes."""
    view, found = memoryview(payload), list[Box]()
    while offset + 8 <= len(view) and any(view[offset : offset + 8]):
        if len(found) == _CHILDREN:
            raise damaged(f"a box holds more than {_CHILDREN} others")
        header, size = _size(view, offset, len(view) - offset)
        found.append(Box(bytes(view[offset + 4 : offset + 8]), view[offset + header : offset + size]))
        offset += size
    return found


class Window:
    """Reads a stream ahead, so that small boxes in a row cost one read."""

    def __init__(self, read: Read, length: int) -> None:
        self._read = read
        self._start = 0
        self._bytes: Buffer = b""
        self.length = length

    async def at(self, offset: int, length: int) -> memoryview:
        """The bytes from `offset`: fewer than `length` only where the stream ends."""
        length = min(length, self.length - offset)
        start = offset - self._start
        if start < 0 or start + length > len(self._bytes):
            self._bytes = await self._read(offset, min(max(length, _AHEAD), self.length - offset))
            self._start, start = offset, 0
        if len(self._bytes) - start < length:
            raise damaged("it ends too early")
        return memoryview(self._bytes)[start : start + length]


async def regions(window: Window) -> list[Region]:
    """The boxes of the file, by their headers alone; a tail of zeros is DICOM's padding."""
    found, offset = list[Region](), 0
    while offset < window.length:
        head = await window.at(offset, 16)
        if not any(head[:8]):
            break
        kind = bytes(head[4:8])
        if kind in _FRAGMENTED:
            raise Unplayable("The video is a fragmented MP4, which is not served as MP4 yet.")
        if not found and kind not in _FIRST:
            raise Unplayable("The video is not an MP4.")
        if len(found) == _REGIONS:
            raise Unplayable(f"The video's MP4 has more than {_REGIONS} boxes in a row.")
        found.append(Region(kind, offset, *_size(head, 0, window.length - offset)))
        offset = found[-1].end
    return found


def box(kind: bytes, *pieces: bytes) -> Box:
    """A new box of these bytes."""
    return Box(kind, b"".join(pieces))


def joined(boxes: Iterable[Box]) -> bytes:
    """Boxes as bytes, one after the other."""
    return b"".join(piece for one in boxes for piece in one.write())
