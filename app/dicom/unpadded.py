"""A video's container, and its length without the pad byte, told while it streams by (PS3.5 8.2, A.4).

Fragments have even lengths, streams need not. Where (7FE0,0003) does not tell, the stream does: the end of the
last top-level MP4 box, a multiple of 188 for a transport stream, one final 00 of an Annex B stream.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

_SNIFFED: Final = 3 * 192
_BOX_HEADER: Final = 8
_LARGE_BOX_HEADER: Final = 16
_MOST_BOXES: Final = 1 << 20  # a hostile stream of empty boxes ends the walk here
_size_and_type: Final = Struct(">I4s").unpack_from
_large_size: Final = Struct(">Q").unpack_from

_FIRST_BOXES: Final = frozenset(
    {b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"sidx"}
)
_TS_PACKET: Final = 188


def container(head: bytes) -> str:
    """'mp4', 'ts', 'ps', 'mpeg', 'annexb' or 'unknown', by a stream's first bytes."""
    if head[4:8] in _FIRST_BOXES:
        return "mp4"
    if _is_transport_stream(head):
        return "ts"
    if head.startswith(b"\0\0\1\xba"):
        return "ps"
    if head.startswith(b"\0\0\1\xb3"):
        return "mpeg"
    if head.startswith((b"\0\0\1", b"\0\0\0\1")):
        return "annexb"
    return "unknown"


def _is_transport_stream(head: bytes) -> bool:
    """Packets of 188 bytes, or of 192 as on a Blu-ray disc, each with its sync byte."""
    return any(
        len(head) > start and all(byte == 0x47 for byte in head[start::step])
        for start, step in ((0, _TS_PACKET), (4, 192))
    )


class Stream:
    """A video passing by: told every byte once, it keeps only what decides."""

    __slots__ = ("_boxes", "_end", "_head", "_header", "_last", "_next", "fragmented", "length")

    def __init__(self) -> None:
        self.length = 0
        self.fragmented = False
        self._head = bytearray()
        self._last = 0  # the stream's last byte so far
        self._header = bytearray()  # of the box that begins at _next
        self._next: int | None = 0  # where the next box begins; None: the chain is broken or endless
        self._end = 0  # of the last whole box
        self._boxes = 0

    def take(self, view: memoryview) -> None:
        """The next bytes."""
        if len(self._head) < _SNIFFED:
            self._head += view[: _SNIFFED - len(self._head)]
        start, self.length = self.length, self.length + len(view)
        if len(view):
            self._last = view[-1]
        while self._next is not None and self._next + len(self._header) < self.length:
            self._take_box(view, start)

    def _take_box(self, view: memoryview, start: int) -> None:
        """Gather the next box's header, which may come in pieces, and read it once it is whole."""
        assert self._next is not None
        wanted = _LARGE_BOX_HEADER if self._is_large() else _BOX_HEADER
        at = self._next + len(self._header) - start
        self._header += view[at : at + wanted - len(self._header)]
        if len(self._header) < wanted or (wanted == _BOX_HEADER and self._is_large()):
            return
        size, kind = _size_and_type(self._header)
        if size == 1:
            size = _large_size(self._header, 8)[0]
        self._header.clear()
        self._boxes += 1
        self._follow(size, kind, wanted)

    def _is_large(self) -> bool:
        return self._header[:4] == b"\0\0\0\1" and len(self._header) >= _BOX_HEADER

    def _follow(self, size: int, kind: bytes, least: int) -> None:
        assert self._next is not None
        if not all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in kind) or 0 < size < least:
            self._next = None  # no box: what follows the last one is pad or junk
            return
        self.fragmented = self.fragmented or kind == b"moof"
        if size == 0 or self._boxes > _MOST_BOXES:
            self._next, self._end = None, 0  # up to the stream's end, or nobody knows
            return
        self._next += size
        self._end = self._next

    @property
    def container(self) -> str:
        """How the stream is wrapped; 'fmp4' when its samples lie in movie fragments."""
        found = container(bytes(self._head))
        return "fmp4" if found == "mp4" and self.fragmented else found

    def unpadded(self) -> int:
        """The length by what the stream says of itself."""
        kind = self.container
        if kind in {"mp4", "fmp4"}:
            return self._end if 0 < self._end <= self.length else self.length
        if kind == "ts" and self._head[0] == 0x47:
            return self.length - self.length % _TS_PACKET if self.length % _TS_PACKET == 1 else self.length
        if kind == "annexb" and self.length and self._last == 0:
            return self.length - 1
        return self.length
