"""A data set in Explicit VR Big Endian, turned into little endian while it streams by (PS3.5 7.3, A.3 of 2006).

No length changes: each byte goes out where it came in, so offsets stay what they were.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from app.dicom.elements import LONG, SHORT, VRS, layout_of
from app.dicom.nesting import UNDEFINED
from app.dicom.scan import Limits
from app.errors import FailureReason, Refused

_HEADER: Final = 8
_PIECE: Final = 4 << 10
_VALUE_PIECE: Final = 64 << 10
_UNITS: Final = {
    **dict.fromkeys(("AT", "OW", "SS", "US"), 2),
    **dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}
_CODES: Final = {2: "H", 4: "I", 8: "Q"}
_BITS_ALLOCATED: Final = 0x00280100
_PIXEL_DATA: Final = 0x7FE00010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LITTLE_ITEM: Final = b"\xfe\xff\x00\xe0"

_tag_of: Final = Struct(">HH").unpack_from
_short: Final = Struct(">H").unpack_from
_long: Final = Struct(">I").unpack_from
_little_tag: Final = Struct("<HH")
_little_short: Final = Struct("<H")
_little_long: Final = Struct("<I")


class _Header(NamedTuple):
    """An element's first bytes in little endian, and what follows them."""

    written: bytes
    tag: int
    vr: str
    length: int


class Swapper:
    """Told the data set's bytes in any chunks, gives as many of them back in little endian as it can tell."""

    def __init__(self, limits: Limits) -> None:
        self._depth = limits.depth * 2  # sequences and items
        self._pending = b""
        self._position = 0
        self._left = 0  # of the value at hand
        self._unit = 1
        self._open: list[tuple[int | None, int]] = []  # where each sequence and item ends, bits outside of it
        self._bits = 16
        self._in_fragments = False
        self._verbatim = 0  # open sequences of a UN, which are little endian already (PS3.5 6.2.2)

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        """The next bytes, in pieces that take a few milliseconds at most."""
        view = memoryview(chunk)
        at = 0
        while at < len(view):
            size = _VALUE_PIECE if self._left > len(self._pending) else _PIECE
            b = self._pending + view[at : at + size]
            at += size
            made, taken = self._swap(b)
            self._pending = b[taken:]
            if made:
                yield made

    def close(self) -> bytes:
        """What is left when nothing more comes: a piece of an element, or padding."""
        return self._pending

    def _swap(self, b: bytes) -> tuple[bytes, int]:
        out, p = bytearray(), 0
        while p < len(b):
            if self._left:
                made = self._value(b, p)
            elif self._verbatim:
                made = self._little(b, p)
            else:
                made = self._element(b, p)
            if not made:
                break
            out += made
            p += len(made)
            self._position += len(made)
        return bytes(out), p

    def _value(self, b: bytes, p: int) -> bytes:
        """As much of the value as is there, in whole numbers but for an odd end."""
        there = min(self._left, len(b) - p)
        if there < self._left:
            there -= there % self._unit
        self._left -= there
        return _swapped(b[p : p + there], self._unit)

    def _element(self, b: bytes, p: int) -> bytes:
        while self._open and self._open[-1][0] is not None and self._position >= self._open[-1][0]:
            self._close_one()
        header = _header(b, p)
        if header is None:
            return b""
        if header.tag >> 16 == 0xFFFE:
            self._delimit(header)
        elif header.length == UNDEFINED:
            if header.vr == "UN" and not self._begin_unknown(b, p + len(header.written)):
                return b""
            self._in_fragments = header.vr in {"OB", "OW"}
            if not self._in_fragments and not self._verbatim:
                self._push(None)
        elif header.vr == "SQ":
            self._push(self._position + len(header.written) + header.length)
        elif header.tag == _BITS_ALLOCATED and header.length == 2:
            if len(b) - p < len(header.written) + 2:
                return b""
            self._bits = _short(b, p + len(header.written))[0]
            self._begin_value(header)
        else:
            self._begin_value(header)
        return header.written

    def _begin_value(self, header: _Header) -> None:
        self._left = header.length
        self._unit = _UNITS.get(header.vr, 1)
        if header.tag == _PIXEL_DATA and header.vr == "OW" and self._bits in {32, 64}:
            self._unit = self._bits // 8  # cells are swapped as a whole, as all writers do

    def _delimit(self, header: _Header) -> None:
        if self._in_fragments:
            self._in_fragments = header.tag != _SEQUENCE_END
            if header.tag == _ITEM:
                self._left, self._unit = header.length, 1
        elif header.tag == _ITEM:
            ends = None if header.length == UNDEFINED else self._position + _HEADER + header.length
            self._push(ends)
        elif self._open:
            self._close_one()

    def _push(self, ends: int | None) -> None:
        if len(self._open) >= self._depth:
            raise Refused(
                f"Sequences are nested more than {self._depth // 2} deep.", FailureReason.OUT_OF_RESOURCES
            )
        self._open.append((ends, self._bits))

    def _close_one(self) -> None:
        _, self._bits = self._open.pop()

    def _begin_unknown(self, b: bytes, v: int) -> bool:
        """A UN of undefined length: its items tell their byte order; False when more bytes are needed."""
        if len(b) - v < 4:
            return False
        self._verbatim = int(b[v : v + 4] == _LITTLE_ITEM)
        return True

    def _little(self, b: bytes, p: int) -> bytes:
        """An element's header in Implicit VR Little Endian, which stays as it is."""
        if len(b) - p < _HEADER:
            return b""
        group, element = _little_tag.unpack_from(b, p)
        tag, length = group << 16 | element, _little_long.unpack_from(b, p + 4)[0]
        if tag == _SEQUENCE_END:
            self._verbatim -= 1
        elif group != 0xFFFE and length == UNDEFINED:
            self._verbatim += 1
        elif group != 0xFFFE:
            self._left, self._unit = length, 1
        return b[p : p + _HEADER]


def _header(b: bytes, p: int) -> _Header | None:
    """The element at b[p:]; None when it is not there as a whole."""
    there = len(b) - p
    if there < _HEADER:
        return None
    group, element = _tag_of(b, p)
    key, tag = _little_tag.pack(group, element), group << 16 | element
    if group == 0xFFFE:
        length = _long(b, p + 4)[0]
        return _Header(key + _little_long.pack(length), tag, "", length)
    vr = b[p + 4 : p + 6]
    name = vr.decode("latin-1")
    if not (vr.isalpha() and vr.isupper()):
        raise Refused("The data set is not in Explicit VR Big Endian, as its transfer syntax says.")
    layout = layout_of(name) if name in VRS else LONG if b[p + 6 : p + 8] == b"\0\0" else SHORT
    if layout == SHORT:
        length = _short(b, p + 6)[0]
        return _Header(key + vr + _little_short.pack(length), tag, name, length)
    if there < 12:
        return None
    length = _long(b, p + 8)[0]
    return _Header(key + vr + b[p + 6 : p + 8] + _little_long.pack(length), tag, name, length)


def _swapped(value: bytes, unit: int) -> bytes:
    if unit == 1:
        return value
    whole = len(value) - len(value) % unit
    numbers = array(_CODES[unit], value[:whole])
    numbers.byteswap()
    return numbers.tobytes() + value[whole:]
